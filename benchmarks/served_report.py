"""What `python -m benchmarks.served` found, as goals, tables and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVED = Path(__file__).with_name("SERVED.md")
BY_HAND = "<!-- Written by hand from here on; `make served` keeps it. -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One round with one server."""

    rate: float
    """Replies in a second, by the clock."""
    cpu_us: float
    """CPU time of the server for each."""
    own_us: float
    """CPU time of the load generator for each."""
    latencies: list[float] = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Cell:
    """One server under one kind of load."""

    samples: list[Sample] = field(default_factory=list)
    caps: list[Sample] = field(default_factory=list)
    rss_mib: float = 0.0
    checked: int = 0
    """Replies that were opened and checked."""
    refused: int = 0
    """Among them, FAILURE although the request was good."""
    serials_twice: int = 0
    """Certificates with a serial number that another one had before."""

    @property
    def rate(self) -> float:
        return statistics.median(one.rate for one in self.samples)

    @property
    def cpu_us(self) -> float:
        return statistics.median(one.cpu_us for one in self.samples)

    @property
    def own_us(self) -> float:
        return statistics.median(one.own_us for one in self.samples)

    def milliseconds(self, part: float) -> float:
        """A quantile of the latencies."""
        every = sorted(one for sample in self.samples for one in sample.latencies)
        return every[min(len(every) - 1, int(len(every) * part))] * 1e3


Cells = Mapping[str, Mapping[str, Cell]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A ratio, measured and wanted."""

    what: str
    must: float
    stretch: float | None = None
    at_most: bool = False
    value: float | None = None
    by_cpu: float | None = None
    """The same in CPU time, which a busy machine disturbs less."""

    @property
    def missed(self) -> bool:
        return self.value is None or not self._meets(self.must)

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.missed:
            return "missed"
        return "stretch met" if self.stretch and self._meets(self.stretch) else "met"

    def _meets(self, limit: float) -> bool:
        assert self.value is not None
        return self.value <= limit if self.at_most else self.value >= limit


def ratio(cells: Cells, cell: str, over: str, under: str, what: str = "rate") -> float | None:
    """Of two servers in the same rounds: the median of the rounds' ratios."""
    if cell not in cells or not {over, under} <= set(cells[cell]):
        return None
    pairs = zip(cells[cell][over].samples, cells[cell][under].samples, strict=True)
    return statistics.median(getattr(a, what) / getattr(b, what) for a, b in pairs)


def goals(cells: Cells) -> list[Goal]:
    """What is wanted, with what was found."""
    found = []
    for method in ("GET", "POST"):
        for count, must, stretch in ((1, 2.5, 3.5), (16, 3.0, 4.0)):
            cell = f"{method} {count}"
            found.append(
                Goal(
                    what=f"enrollments per second / micromdm's, {method}, {_connections(count)}",
                    must=must,
                    stretch=stretch,
                    value=ratio(cells, cell, "pyscep", "micromdm"),
                    by_cpu=ratio(cells, cell, "micromdm", "pyscep", "cpu_us"),
                )
            )
    for count in (1, 16):
        found.append(
            Goal(
                what=f"CPU time with the durable store / with none, {_connections(count)}",
                must=1.3,
                at_most=True,
                value=ratio(cells, f"store {count}", "SQLite", "none", "cpu_us"),
            )
        )
    found.append(
        Goal(
            what="rate with 5 ms more for each fdatasync / without, 64 connections",
            must=0.9,
            value=ratio(cells, "disk 64", "5 ms slower", "as it is"),
        )
    )
    found.append(
        Goal(
            what="rate on two cores, 2 workers / on one core, 16 connections",
            must=1.8,
            value=ratio(cells, "cores 16", "two cores, 2 workers", "one core"),
        )
    )
    return [goal for goal in found if goal.value is not None] if len(cells) < 9 else found


def _connections(count: int) -> str:
    return "one connection" if count == 1 else f"{count} connections"


def text(cells: Cells, found: Sequence[Goal], about: Mapping[str, str]) -> str:
    """The report in Markdown."""
    lines = ["| goal | measured | in CPU time | must | stretch | |", "|---|---|---|---|---|---|"]
    for goal in found:
        sign = "≤" if goal.at_most else "≥"
        stretch = f"{sign} {goal.stretch:g}" if goal.stretch else ""
        lines.append(
            f"| {goal.what} | {_number(goal.value)} | {_number(goal.by_cpu)} "
            f"| {sign} {goal.must:g} | {stretch} | {goal.verdict} |"
        )
    table = [
        (
            "| load | server | replies/s | p50 ms | p99 ms | CPU us | RSS MiB | GetCACaps/s "
            "| CPU us | load generator us | replies checked |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, servers in cells.items():
        for server, cell in servers.items():
            caps = statistics.median(one.rate for one in cell.caps) if cell.caps else None
            caps_us = statistics.median(one.cpu_us for one in cell.caps) if cell.caps else None
            refused = f", {cell.refused} of them FAILURE" if cell.refused else ""
            table.append(
                f"| {name} | {server} | {cell.rate:.0f} | {cell.milliseconds(0.5):.1f} "
                f"| {cell.milliseconds(0.99):.1f} | {cell.cpu_us:.0f} | {cell.rss_mib:.0f} "
                f"| {_number(caps)} | {_number(caps_us)} | {cell.own_us:.0f} "
                f"| {cell.checked}{refused} |"
            )
    where = [f"| {name} | {value} |" for name, value in about.items()]
    return f"""# Served throughput, measured

Written by `make served`. Debian's scepserver and `pyscep serve` run as processes of their own, each
pinned to one core; another core sends both the same distinct requests over connections that are
kept, in interleaved rounds. Both have one RSA-2048 key that signs and decrypts, and the same static
challenge; pyscep commits each enrollment to SQLite (WAL, synchronous = FULL) twice before it
answers. Every reply is opened and checked after the clock has stopped. A ratio is the median of
the rounds' ratios. For "two cores", the requests come from one of the two.

{chr(10).join(lines)}

## Each load

The number after the load is that of connections. "store": the same server with an authority that
keeps nothing. "disk": a library in front of libc makes fsync and fdatasync wait 5 ms first.

{chr(10).join(table)}

## Where

| | |
|---|---|
{chr(10).join(where)}
"""


def as_json(cells: Cells, found: Sequence[Goal], about: Mapping[str, str]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "about": dict(about),
        "goals": [
            {"what": goal.what, "value": goal.value, "by_cpu": goal.by_cpu, "must": goal.must,
             "stretch": goal.stretch, "verdict": goal.verdict}
            for goal in found
        ],
        "cells": {
            name: {
                server: {
                    "rates": [one.rate for one in cell.samples],
                    "cpu_us": [one.cpu_us for one in cell.samples],
                    "caps_rates": [one.rate for one in cell.caps],
                    "p50_ms": cell.milliseconds(0.5), "p99_ms": cell.milliseconds(0.99),
                    "rss_mib": cell.rss_mib, "checked": cell.checked,
                    "refused": cell.refused,
                    "serials_twice": cell.serials_twice,
                }
                for server, cell in servers.items()
            }
            for name, servers in cells.items()
        },
    }  # fmt: skip


def write(report: str) -> None:
    """Write SERVED.md; what stands in it by hand is kept."""
    kept = f"{BY_HAND}\n"
    if SERVED.exists():
        found = SERVED.read_text(encoding="utf-8")
        if BY_HAND in found:
            kept = found[found.index(BY_HAND) :]
    SERVED.write_text(f"{report}\n{kept}".rstrip("\n") + "\n", encoding="utf-8")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
