"""The performance goals, measured: ``make goals``.

Runs benchmarks.suite once for each back end and kernel, prints the table, writes
benchmarks/RESULTS.md and benchmarks/chart.svg, and exits 1 where a "must" is missed. Ratios
only: each is taken side by side in one process, so another machine should give about the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks import chart, report
from benchmarks.micromdm import micromdm
from benchmarks.ratios import Settings

Values = Mapping[str, float | str]
NATIVE, SCALAR, PURE = "native", "native, scalar", "pure"
AVX2, AVX512 = "native, avx2", "native, avx512"
PROCESSES = {
    NATIVE: (
        {"PYSCEP_BACKEND": "native"},
        "server keys calls threads query hostile structure client crl sealed imports c",
    ),
    SCALAR: ({"PYSCEP_BACKEND": "native", "PYSCEP_KERNEL": "scalar"}, "query-40k hostile"),
    # A row that names a kernel is measured on that kernel, whatever the machine would choose.
    AVX2: ({"PYSCEP_BACKEND": "native", "PYSCEP_KERNEL": "avx2"}, "query-40k"),
    AVX512: ({"PYSCEP_BACKEND": "native", "PYSCEP_KERNEL": "avx512"}, "query-40k"),
    PURE: ({"PYSCEP_BACKEND": "pure"}, "server-ends query-40k hostile structure calls"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One row. Of several keys the worst counts."""

    number: str
    what: str
    keys: tuple[str, ...]
    must: float | None
    stretch: float
    at_most: bool = True
    process: str = NATIVE
    peer: str | None = None
    """The key that says why it could not be measured, for peers that may be absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A goal with its value on this machine; None where it was not measured."""

    goal: Goal
    value: float | None
    why: str = ""

    @property
    def verdict(self) -> str:
        """Met, or by how much missed."""
        goal, value = self.goal, self.value
        if value is None:
            return f"not measured: {self.why}"
        if _meets(value, goal.stretch, goal.at_most):
            return "stretch met"
        if goal.must is None:
            return f"stretch missed by {_gap(value, goal.stretch, goal.at_most)}"
        if _meets(value, goal.must, goal.at_most):
            return f"met; stretch missed by {_gap(value, goal.stretch, goal.at_most)}"
        return f"MISSED by {_gap(value, goal.must, goal.at_most)}"

    @property
    def failed(self) -> bool:
        """A must that is missed, or could not be measured though it needs nobody else."""
        goal = self.goal
        if goal.must is None:
            return False
        if self.value is None:
            return goal.peer is None or os.environ.get("PYSCEP_REQUIRE_PEERS") == "1"
        return not _meets(self.value, goal.must, goal.at_most)


def _meets(value: float, limit: float, at_most: bool) -> bool:
    return value <= limit if at_most else value >= limit


def _gap(value: float, limit: float, at_most: bool) -> str:
    """How much slower or larger than it may be."""
    if limit == 0:
        return f"{value:g}"
    if at_most:
        return (
            f"{(value / limit - 1) * 100:.3g} %" if value < 2 * limit else f"{value / limit:.1f}x"
        )
    return f"{(1 - value / limit) * 100:.3g} %"


def _goals() -> tuple[Goal, ...]:
    large = ("8k", "24k", "40k")

    def goal(number: str, what: str, keys: str | Sequence[str], must: float | None,
             stretch: float, **more: object) -> Goal:  # fmt: skip
        keys = (keys,) if isinstance(keys, str) else tuple(keys)
        return Goal(number=number, what=what, keys=keys, must=must, stretch=stretch, **more)  # type: ignore[arg-type] # what tells values apart

    least = {"at_most": False}
    return (
        goal("1", "server, query to CertRep / its cryptography, 8k to 40k",
             [f"server {size}" for size in large], 1.08, 1.05),
        goal("2", "overhead above the cryptography: reference / ours, 8k to 40k",
             [f"overhead {size}" for size in large], 40, 75, **least),
        goal("3a", "server / its cryptography, pure Python, small",
             "server small", 1.20, 1.15, process=PURE),
        goal("3b", "server / its cryptography, pure Python, 40k",
             "server 40k", 1.45, 1.35, process=PURE),
        goal("4a", "GET decode 40k, unquote + b64decode / ours, scalar kernel",
             "decode 40k typical", 15, 18, process=SCALAR, **least),
        goal("4b", "GET decode 40k, unquote + b64decode / ours, AVX2 kernel",
             "decode 40k typical", 35, 50, process=AVX2, **least),
        goal("4c", "GET decode 40k, unquote + b64decode / ours, AVX-512 kernel",
             "decode 40k typical", None, 90, process=AVX512, **least),
        goal("5", "GET decode 40k, 3 replace + pybase64 / ours",
             "decode 40k replace", 15, 30, **least),
        goal("6a", "GET encode 40k, b64encode + quote / ours",
             "encode 40k typical", 100, 200, **least),
        goal("6b", "GET encode 40k, pybase64 + 3 replace / ours",
             "encode 40k replace", 1.3, 2.5, **least),
        goal("7a", "DER of a PKCSReq 40k, asn1crypto / ours",
             "parse asn1crypto", 120, 250, **least),
        goal("7b", "DER of a PKCSReq 40k, cryptography.hazmat.asn1 / ours",
             "parse hazmat", 8, 15, **least),
        goal("8", "DER of a PKCSReq, 40k / small", "parse 40k / small", 1.2, 1.1),
        goal("9", "DER of a PKCSReq 40k, asn1crypto / ours, pure Python",
             "parse asn1crypto", 12, 20, process=PURE, **least),
        goal("10a", "client, key to PKCSReq / its cryptography", "client build", 1.10, 1.05),
        goal("10b", "client, CertRep to certificate / its cryptography",
             "client CertRep", 1.10, 1.05),
        goal("11a", "GetCRL 100k client / its cryptography", "GetCRL client 100k", 1.05, 1.02),
        goal("11b", "GetCRL 100k client, asn1crypto + cryptography / ours",
             "GetCRL client 100k reference", 8, 10, **least),
        goal("11c", "GetCRL 100k client, peak allocation / message",
             "GetCRL client 100k peak", 1.3, 1.05),
        goal("12a", "GetCRL 100k server / its cryptography", "GetCRL server 100k", 1.10, 1.05),
        goal("12b", "GetCRL 100k server, peak allocation / CRL",
             "GetCRL server 100k peak", 1.3, 1.05),
        goal("13", "serial number in a CRL of 100k, cryptography load + look-up / ours",
             "serial 100k", 30, 60, **least),
        goal("14", "server, two threads / one", "two threads", 1.6, 1.8, **least),
        goal("15", "Python and C calls of an enrollment above its cryptography's",
             ("calls small", "calls 40k"), 150, 50),
        goal("16a", "all-escaped query, unquote + b64decode / ours",
             "escaped typical", 25, 40, **least),
        goal("16b", "time per byte, all-escaped / usual query", "escaped per byte", 6, 3),
        goal("16c", "all-escaped query, time(2n) / time(n)", "escaped 2n / n", 2.3, 2.1),
        goal("17", "malformed 40k DER, reject / accept (worst of seven)",
             "reject / accept", 1.0, 1.0),
        goal("18", "server / OpenSSL's CMS API in C, system libcrypto",
             ("ours / C 8k", "ours / C 40k"), 0.80, 0.70, peer="C program missing"),
        goal("19a", "private keys loaded in an enrollment", "key loads", 0, 0),
        goal("19b", "reference with the key loaded for each request / ours",
             "load per request", 30, 40, **least),
        goal("20", "import + one decode + one Client / import of cryptography.x509",
             "import", 1.5, 1.25),
    )  # fmt: skip


GOALS = _goals()


def rows(results: Mapping[str, Values]) -> list[Row]:
    """Every goal with what was measured."""
    found = []
    for goal in GOALS:
        values = results.get(goal.process, {})
        measured = [values[key] for key in goal.keys if isinstance(values.get(key), int | float)]
        numbers = [float(value) for value in measured]
        if len(numbers) == len(goal.keys):
            worst = max(numbers) if goal.at_most else min(numbers)
            found.append(Row(goal=goal, value=worst))
        else:
            why = values.get(goal.peer or "") or values.get("missing") or "no such kernel here"
            found.append(Row(goal=goal, value=None, why=str(why)))
    return found


def run(name: str, settings: Settings) -> Values:
    """The suite in a process of its own."""
    environment, groups = PROCESSES[name]
    command = [sys.executable, "-m", "benchmarks.suite", *groups.split()]
    command += [f"--rounds={settings.rounds}", f"--sample={settings.sample}"]
    print(f"# {name}", file=sys.stderr)
    clean = {key: value for key, value in os.environ.items() if key != "PYSCEP_KERNEL"}
    process = subprocess.run(
        command, env={**clean, **environment}, stdout=subprocess.PIPE, text=True, check=False
    )
    if process.returncode != 0:
        return {"missing": f"the {name} process failed, see above"}
    values: Values = json.loads(process.stdout)
    return values


def main() -> None:
    """Measure, print, write; exit 1 where a must is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (15)")
    parser.add_argument("--sample", type=float, default=0.04, help="seconds of each part (0.04)")
    parser.add_argument("--no-write", action="store_true", help="only print")
    parser.add_argument("--save", help="keep the raw values in this JSON file")
    parser.add_argument("--load", help="don't measure: take the raw values from this file")
    arguments = parser.parse_args()
    settings = Settings(rounds=arguments.rounds, sample=arguments.sample)
    if arguments.load:
        with open(arguments.load, encoding="utf-8") as file:
            results = json.load(file)
    else:
        machine = report.machine()
        results = {name: run(name, settings) for name in PROCESSES}
        print("# micromdm", file=sys.stderr)
        results["peers"] = micromdm(settings)
        results["machine"] = {**machine, **report.afterwards(settings)}
    if arguments.save:
        with open(arguments.save, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
    found = rows(results)
    print(report.goal_table(found))
    if not arguments.no_write:
        report.write(found, results)
        chart.write(results)
    failed = [row.goal.number for row in found if row.failed]
    if failed:
        raise SystemExit(f"missed or not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
