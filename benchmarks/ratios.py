"""Time an enrollment against its crypto floor, side by side: ``python -m benchmarks.ratios``.

Each round measures the floor, the server, and the floor again, so that a busy neighbor hits
both; the ratio of a round is taken against the mean of its two floors, and the median of the
rounds is what counts. Absolute times only tell what machine this was.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cryptography
from cryptography.hazmat.backends.openssl import backend

import pyscep
from benchmarks.floor import server_floor
from benchmarks.payloads import CHALLENGE_SIZES, make_enrollment
from pyscep.codec import BACKEND

GOAL = 1.45


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One row of the table; times in microseconds."""

    name: str
    floor: float
    total: float
    ratio: float


def measure(
    name: str, floor: Callable[[], object], work: Callable[[], object], rounds: int, repeat: int
) -> Ratio:
    """Interleave floor and work; medians over the rounds."""
    floors, totals, ratios = [], [], []
    for call in (floor, work):
        _time(call, repeat)
    gc.disable()
    try:
        for _ in range(rounds):
            before = _time(floor, repeat)
            total = _time(work, repeat)
            after = _time(floor, repeat)
            around = (before + after) / 2
            floors.append(around)
            totals.append(total)
            ratios.append(total / around)
    finally:
        gc.enable()
    return Ratio(
        name=name,
        floor=statistics.median(floors),
        total=statistics.median(totals),
        ratio=statistics.median(ratios),
    )


def _time(call: Callable[[], object], repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat * 1e6


def server_ratios(rounds: int, repeat: int) -> list[Ratio]:
    """PKCSReq as a raw GET query to CertRep, all checks on, authority in memory."""
    rows = []
    for name, characters in CHALLENGE_SIZES.items():
        enrollment = make_enrollment(name, characters)
        server, request, authority = enrollment.server, enrollment.request, enrollment.authority
        if server.handle(request, authority).header("content-type") != "application/x-pki-message":
            raise RuntimeError("the server did not answer with a CertRep")
        work = partial(server.handle, request, authority)
        label = f"{name} query ({len(request.query):,} bytes)"
        rows.append(measure(label, server_floor(enrollment.floor), work, rounds, repeat))
    return rows


def table(rows: list[Ratio]) -> str:
    """The rows in Markdown."""
    lines = [
        "| PKCSReq to CertRep | crypto floor (us) | pyscep (us) | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.floor:.0f} | {row.total:.0f} | {row.ratio:.2f} | {GOAL} |"
        for row in rows
    ]
    return "\n".join(lines)


def machine() -> str:
    """What it was measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    return (
        f"{model}, Python {platform.python_version()}, cryptography {cryptography.__version__} "
        f"({backend.openssl_version_text()}), pyscep {pyscep.__version__} with the {BACKEND} codec"
    )


def main() -> None:
    """Print the table; exit 1 if a ratio misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (15)")
    parser.add_argument("--repeat", type=int, default=60, help="calls in each measurement (60)")
    arguments = parser.parse_args()
    rows = server_ratios(arguments.rounds, arguments.repeat)
    print(table(rows))
    print(f"\n{machine()}; median of {arguments.rounds} interleaved rounds.")
    if any(row.ratio > GOAL for row in rows):
        raise SystemExit("a ratio misses its goal")


if __name__ == "__main__":
    main()
