"""One enrollment against its cryptography, by the clock: ``python -m benchmarks.enrollment``.

Run it alone on a quiet machine, with ``PYSCEP_BACKEND=pure`` for the codec in Python. Each round
measures the cryptography, the server, and the cryptography again, 60 calls each.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial

from benchmarks.floor import server_floor
from benchmarks.payloads import make_enrollment
from pyscep.codec import BACKEND, KERNEL

ROUNDS = 21
CALLS = 60
# Length of the challengePassword, in characters.
CHALLENGES = {"3 KB": 24, "40 KB": 26_000}


def seconds(call: Callable[[], object]) -> float:
    """The mean of CALLS calls."""
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def main() -> None:
    """Print a row for each size."""
    print("| codec | query | cryptography | pyscep | ratio |\n|---|---|---|---|---|")
    for name, characters in CHALLENGES.items():
        enrollment = make_enrollment(name, characters)
        floor = server_floor(enrollment.floor)
        work = partial(enrollment.server.handle, enrollment.request, enrollment.authority)
        rounds = []
        seconds(floor), seconds(work)
        gc.disable()
        for _ in range(ROUNDS):
            before, total, after = seconds(floor), seconds(work), seconds(floor)
            rounds.append((before, total, 2 * total / (before + after)))
        gc.enable()
        base, total, ratio = (statistics.median(column) for column in zip(*rounds, strict=True))
        codec = f"{BACKEND} ({KERNEL})"
        print(f"| {codec} | {name} | {base * 1e6:.0f} us | {total * 1e6:.0f} us | {ratio:.2f} |")


if __name__ == "__main__":
    main()
