"""Served throughput: ``pyscep serve`` beside Debian's scepserver, each on one core.

``python -m benchmarks.served`` starts the real servers as processes, sends both the same
distinct requests, in turn, and opens and checks every reply after the clock has stopped. It
prints the goals, writes benchmarks/SERVED.md, and exits with 1 where a must is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import report, served_report
from benchmarks.micromdm import _raise_loopback
from benchmarks.served_cases import CAPS, Case, challenge_of, check_all, make_cases
from benchmarks.served_load import body_of, drive
from benchmarks.served_report import Cell, Sample
from benchmarks.served_servers import Place, Running, Start, running

CONNECTIONS = (1, 4, 16)
SLOW_CONNECTIONS = 64


class Measurement:
    """Runs servers side by side on the same requests."""

    def __init__(self, place: Place, cases: Sequence[Case], rounds: int, each: int) -> None:
        self._place = place
        self._cases = cases
        self._rounds = rounds
        self._each = each

    def side_by_side(
        self, method: str, connections: int, starts: dict[str, Start], caps: bool = False
    ) -> dict[str, Cell]:
        """One cell for each server. Rounds go to each in turn, the first in turn changes."""
        cells = {name: Cell() for name in starts}
        replies: dict[str, list[bytes]] = {name: [] for name in starts}
        with running(*starts.values()) as servers:
            named = list(zip(starts, servers, strict=True))
            for number, batch in enumerate(self._batches()):
                requests = [case.http(method) for case in batch]
                for name, server in named if number % 2 else reversed(named):
                    sample, responses = run(server, requests, connections)
                    replies[name] += responses
                    if number:  # the first warms up
                        cells[name].samples.append(sample)
                    if number and caps:
                        sample, _ = run(server, [CAPS] * self._each, connections)
                        cells[name].caps.append(sample)
            for name, server in named:
                cells[name].rss_mib = server.rss_mib()
        for name, cell in cells.items():
            bodies = [body_of(response) for response in replies[name]]
            serials = check_all(self._cases[: len(bodies)], bodies, self._place.identity)
            issued = [serial for serial in serials if serial is not None]
            cell.checked, cell.refused = len(serials), len(serials) - len(issued)
            cell.serials_twice = len(issued) - len(set(issued))
            if name != "micromdm" and (cell.refused or cell.serials_twice):
                raise RuntimeError(f"{name}: {cell.refused} refused, {cell.serials_twice} twice")
        return cells

    def _batches(self) -> Iterator[Sequence[Case]]:
        for start in range(0, (self._rounds + 1) * self._each, self._each):
            yield self._cases[start : start + self._each]


def run(server: Running, requests: list[bytes], connections: int) -> tuple[Sample, list[bytes]]:
    """Send these requests, and see what it took."""
    gc.collect()
    gc.disable()
    try:
        before = server.cpu_seconds()
        load = drive(server.port, requests, connections)
        spent = server.cpu_seconds() - before
    finally:
        gc.enable()
    count = len(requests)
    sample = Sample(
        rate=count / load.seconds,
        cpu_us=spent / count * 1e6,
        own_us=load.own_seconds / count * 1e6,
        latencies=load.latencies,
    )
    return sample, load.responses


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All cells, by what they are for."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two cores are needed: one for the server, one for the requests")
    one, both = cores[1:2], cores[:2]
    os.sched_setaffinity(0, cores[:1])
    place = Place(folder, challenge_of(arguments.size))
    cases = make_cases(place.identity, arguments.size, (arguments.rounds + 1) * arguments.each)
    at = Measurement(place, cases, arguments.rounds, arguments.each)
    cells: dict[str, Any] = {}

    def load(name: str, method: str, count: int, starts: dict[str, Start]) -> None:
        if arguments.only and arguments.only not in name:
            return
        print(f"# {name}", file=sys.stderr)
        cells[name] = at.side_by_side(method, count, starts, caps="micromdm" in starts)

    def pyscep() -> Running:
        return place.pyscep(one)

    for method in ("GET", "POST"):
        for count in CONNECTIONS:
            peers = {"micromdm": lambda: place.micromdm(one), "pyscep": pyscep}
            load(f"{method} {count}", method, count, peers)
    for count in (1, 16):
        stores = {"none": lambda: place.stateless(one), "SQLite": pyscep}
        load(f"store {count}", "GET", count, stores)
    library = place.slow_disk()
    if library is not None:
        disks = {"as it is": pyscep, "5 ms slower": lambda: place.pyscep(one, preload=library)}
        load("disk 64", "GET", SLOW_CONNECTIONS, disks)
    scale = {
        "one core": pyscep,
        "two cores, threads": lambda: place.pyscep(both),
        "two cores, 2 workers": lambda: place.pyscep(both, "--workers", "2"),
    }
    load("cores 16", "GET", 16, scale)
    return cells


def main() -> None:
    """Measure, print, write; exit 1 where a must is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (9)")
    parser.add_argument("--each", type=int, default=150, help="requests of a round (150)")
    parser.add_argument("--size", default="small", help="small, 8k, 24k or 40k: of the query")
    parser.add_argument("--only", help="cells with this in their name, such as store")
    parser.add_argument("--json", action="store_true", help="print what was measured as JSON")
    parser.add_argument("--no-write", action="store_true", help="leave benchmarks/SERVED.md alone")
    parser.add_argument("--namespace", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if shutil.which("scepserver") is None:
        raise SystemExit("scepserver is not installed (Debian's package scep)")
    if arguments.namespace:
        _raise_loopback()
    else:
        _into_namespace()
    machine = report.machine()
    with tempfile.TemporaryDirectory(prefix="pyscep-served-") as name:
        cells = measure(arguments, Path(name))
    about = {
        **machine,
        "load at the end": f"{os.getloadavg()[0]:.2f} (this run itself makes 1 to 2)",
        "rounds": f"{arguments.rounds} of {arguments.each} requests each, medians",
        "requests": f"PKCSReq, RSA-2048, AES-128, {arguments.size}",
    }
    goals = served_report.goals(cells)
    text = served_report.text(cells, goals, about)
    print(json.dumps(served_report.as_json(cells, goals, about), indent=1) if arguments.json
          else text)  # fmt: skip
    if not arguments.no_write and not arguments.only:
        served_report.write(text)
    if missed := [goal.what for goal in goals if goal.missed]:
        raise SystemExit(f"missed or not measured: {'; '.join(missed)}")


def _into_namespace() -> None:
    """Go on in a network of our own where that is allowed: scepserver listens everywhere."""
    for prefix in (["unshare", "-n"], ["unshare", "-r", "-n"]):
        with suppress(OSError):
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
                command = [*prefix, sys.executable, "-m", "benchmarks.served", "--namespace"]
                os.execvp(command[0], [*command, *sys.argv[1:]])  # noqa: S606 - fixed words


if __name__ == "__main__":
    main()
