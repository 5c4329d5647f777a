"""Writes benchmarks/RESULTS.md: the goals, what stands beside them, and the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.backends.openssl import backend

import pyscep
from benchmarks.ratios import Settings

if TYPE_CHECKING:
    from benchmarks.goals import Row, Values

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
BY_HAND = "<!-- Written by hand from here on; `make goals` keeps it. -->"
PACKAGES = ("cryptography", "cffi", "asn1crypto", "pybase64", "pyasn1")


def machine() -> dict[str, str]:
    """What it is measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": f"pyscep {pyscep.__version__}, {versions}",
        "OpenSSL in cryptography": backend.openssl_version_text(),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
    }


def afterwards(settings: Settings) -> dict[str, str]:
    """What is known when all is measured."""
    return {
        "load at the end": f"{os.getloadavg()[0]:.2f} (this run itself makes 1 to 2)",
        "rounds": f"{settings.rounds}, each part {settings.sample * 1e3:g} ms or one call; medians",
    }


def goal_table(rows: Sequence[Row]) -> str:
    """The goals in Markdown."""
    lines = [
        "| goal | what | measured | must | stretch | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        goal = row.goal
        sign = "≤" if goal.at_most else "≥"
        must = "" if goal.must is None else f"{sign} {goal.must:g}"
        value = "" if row.value is None else _number(row.value)
        lines.append(
            f"| {goal.number} | {goal.what} | {value} | {must} | {sign} {goal.stretch:g} "
            f"| {row.verdict} |"
        )
    return "\n".join(lines)


def write(rows: Sequence[Row], results: Mapping[str, Values]) -> None:
    """Write RESULTS.md; what stands in it by hand is kept."""
    kept = f"{BY_HAND}\n\n## What holds the missed goals\n\nNothing is written yet.\n"
    if RESULTS.exists():
        text = RESULTS.read_text(encoding="utf-8")
        if BY_HAND in text:
            kept = text[text.index(BY_HAND) :]
    missed = sum(row.failed for row in rows)
    stretched = sum(row.verdict == "stretch met" for row in rows)
    about = "\n".join(f"| {name} | {value} |" for name, value in results["machine"].items())
    text = f"""# Performance goals, measured

Written by `make goals`. Every figure is a ratio of two things timed side by side in one process
on one core (goal 14: two): in each round the base, the others and the base again; the median of
the rounds counts, in CPU time of the measuring thread (goal 14 and micromdm: on the clock).
"Its cryptography" is the same RSA, AES and SHA-256 calls on the same bytes with nothing around
them (`floor.py`); the reference is the same service written plainly with asn1crypto and
cryptography (`reference.py`), each checked against the other. Issuing writes a TBSCertificate and
signs it, as `pyscep.ca` does; with cryptography's CertificateBuilder it costs what the second
table says.

![Enrollments for each core, and query decoding](chart.svg)

{len(rows) - missed} of {len(rows)} rows meet their "must", {stretched} their "stretch".

{goal_table(rows)}

## Beside them

{_beside(results)}

## Where

| | |
|---|---|
{about}

{kept}"""
    RESULTS.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def _beside(results: Mapping[str, Values]) -> str:
    """Times, which belong to this machine alone, and the ratios that are no goals."""
    native: Any = results.get("native", {})
    scalar: Any = results.get("native, scalar", {})
    pure: Any = results.get("pure", {})
    peers: Any = results.get("peers", {})
    wanted: list[tuple[str, Any, str, str]] = [
        ("the cryptography of an enrollment, 40k", native, "floor 40k us", "us"),
        ("pyscep, query to CertRep, 40k", native, "server 40k us", "us"),
        ("pyscep in pure Python, 40k", pure, "server 40k us", "us"),
        ("pyscep with cryptography's CertificateBuilder, 40k / cryptography", native,
         "server 40k with CertificateBuilder", "x"),
        ("pyscep, small / cryptography", native, "server small", "x"),
        ("reference, 40k", native, "reference 40k us", "us"),
        ("reference, 40k / cryptography", native, "reference 40k", "x"),
        ("OpenSSL's CMS API in C, 40k", native, "C program 40k us", "us"),
        ("micromdm scepserver, 40k, HTTP taken off", peers, "micromdm us", "us"),
        ("micromdm scepserver, 40k / ours", peers, "micromdm / ours", "x"),
        ("micromdm scepserver, CPU time with HTTP", peers, "micromdm cpu us", "us"),
        ("micromdm replies opened and checked", peers, "micromdm replies checked", ""),
        ("GET decode 40k, AVX2", native, "decode 40k us", "us"),
        ("GET decode 40k, scalar", scalar, "decode 40k us", "us"),
        ("GET decode 40k, pure Python", pure, "decode 40k us", "us"),
        ("GET encode 40k, AVX2", native, "encode 40k us", "us"),
        ("DER of both layers, 40k", native, "parse us", "us"),
        ("DER of both layers with every field read / without", native, "parse and read", "x"),
        ("DER of both layers, pyasn1 / ours", native, "parse pyasn1", "x"),
        ("client CertRep with 3 certificates / cryptography", native, "client CertRep of 3", "x"),
        ("client build, reference / cryptography", native, "client build reference", "x"),
        ("GetCRL 10k client / cryptography", native, "GetCRL client 10k", "x"),
        ("GetCRL 1M client / cryptography", native, "GetCRL client 1M", "x"),
        ("GetCRL 10k server / cryptography", native, "GetCRL server 10k", "x"),
        ("GetCRL 1M server / cryptography", native, "GetCRL server 1M", "x"),
        ("GetCRL 100k server, reference / ours", native, "GetCRL server 100k reference", "x"),
        ("serial number in a CRL of 1M, cryptography / ours", native, "serial 1M", "x"),
        ("serial number in a CRL of 1M", native, "serial 1M us", "us"),
        ("sealed challenge of 24 KB, made / cryptography", native, "seal 24k", "x"),
        ("sealed challenge of 24 KB, judged / cryptography", native, "sealed verify 24k", "x"),
        ("sealed challenge of 24 KB, judged", native, "sealed verify 24k us", "us"),
        ("calls of the cryptography itself", native, "calls 40k floor", ""),
        ("calls above it, pure Python, 40k", pure, "calls 40k", ""),
        ("calls above it, reference, 40k", native, "calls 40k reference", ""),
        ("import + one decode + one Client", native, "import ms", "ms"),
    ]  # fmt: skip
    lines = ["| | |", "|---|---|"]
    for what, values, key, unit in wanted:
        value = values.get(key)
        if isinstance(value, int | float):
            lines.append(f"| {what} | {_number(value)}{' ' if unit != 'x' else ''}{unit} |")
    for values, key in ((native, "C program libcrypto"), (native, "C program missing"),
                        (peers, "micromdm missing")):  # fmt: skip
        if key in values:
            lines.append(f"| {key} | {values[key]} |")
    return "\n".join(line.replace("  |", " |") for line in lines)


def _number(value: float) -> str:
    """As many digits as mean something."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3f}" if value < 2 else f"{value:.2f}" if value < 10 else f"{value:.0f}"
