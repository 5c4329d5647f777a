"""Everything that is measured inside one process: ``python -m benchmarks.suite GROUP...``.

One process has one back end and one kernel, which ``PYSCEP_BACKEND`` and ``PYSCEP_KERNEL``
choose; benchmarks.goals starts one for each. The results go to standard output as one JSON
object: a number for each name.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from benchmarks.c_program import c_program
from benchmarks.measure_client import client
from benchmarks.measure_codec import hostile, query, structure
from benchmarks.measure_crl import get_crl
from benchmarks.measure_sealed import sealed
from benchmarks.measure_server import calls, keys, server, threads
from benchmarks.ratios import Results, Settings, pin
from pyscep import codec

_NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
BASE_IMPORT = "import cryptography.x509"
OUR_IMPORT = (
    "import pyscep; from pyscep.codec import decode_message; decode_message(b'MAA%3D'); "
    "pyscep.Client('http://127.0.0.1/scep', trust_on_first_use=True)"
)


def imports(settings: Settings) -> Results:
    """Import, one decode and one Client against cryptography's X.509, each in a new process."""
    ratios, ours, bases = [], [], []
    _import_time(OUR_IMPORT)
    for _ in range(settings.rounds):
        before = _import_time(BASE_IMPORT)
        own = _import_time(OUR_IMPORT)
        around = (before + _import_time(BASE_IMPORT)) / 2
        ratios.append(own / around)
        ours.append(own)
        bases.append(around)
    return {
        "import": statistics.median(ratios),
        "import ms": statistics.median(ours),
        "import base ms": statistics.median(bases),
    }


def _import_time(code: str) -> float:
    """Milliseconds of CPU time, without the interpreter's own start.

    From byte code, as every start but the first: an environment that forbids writing it would
    have our sources compiled each time, and not those of packages that pip has compiled.
    """
    script = (
        "import time; start = time.process_time()\n"
        f"{code}\nprint((time.process_time() - start) * 1e3)"
    )
    output = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != _NO_BYTE_CODE},
    ).stdout
    return float(output)


GROUPS: dict[str, Callable[[Settings], Mapping[str, float | str]]] = {
    "server": server,
    "server-ends": lambda settings: server(settings, ("small", "40k")),
    "keys": keys,
    "calls": calls,
    "threads": threads,
    "query": query,
    "query-40k": lambda settings: query(settings, ("40k",)),
    "hostile": hostile,
    "structure": structure,
    "client": client,
    "crl": get_crl,
    "sealed": sealed,
    "c": c_program,
    "imports": imports,
}


def main() -> None:
    """Measure the groups that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="+", choices=GROUPS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sample", type=float, default=0.02, help="seconds (0.02)")
    arguments = parser.parse_args()
    settings = Settings(rounds=arguments.rounds, sample=arguments.sample)
    pin()
    results: dict[str, float | str] = {"backend": codec.BACKEND, "kernel": codec.KERNEL}
    for group in arguments.groups:
        start = time.perf_counter()
        results.update(GROUPS[group](settings))
        print(f"{group}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
