"""The harness of `make goals`: what it calls met, what it calls missed, and what it writes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from benchmarks import chart, goals, report
from benchmarks.goals import GOALS, NATIVE, Goal, Row
from benchmarks.ratios import Settings, compare
from benchmarks.suite import GROUPS


def row(value: float | None, **more: Any) -> Row:
    fields: dict[str, Any] = {"number": "1", "what": "a ratio", "keys": ("key",)} | more
    return Row(goal=Goal(**({"must": 1.2, "stretch": 1.1} | fields)), value=value, why="no peer")


@pytest.mark.parametrize(
    ("value", "verdict", "failed"),
    [
        (1.1, "stretch met", False),
        (1.2, "met; stretch missed by 9.09 %", False),
        (1.5, "MISSED by 25 %", True),
        (3.6, "MISSED by 3.0x", True),
        (None, "not measured: no peer", True),
    ],
)
def test_at_most(value: float | None, verdict: str, failed: bool) -> None:
    assert (row(value).verdict, row(value).failed) == (verdict, failed)


@pytest.mark.parametrize(
    ("value", "verdict", "failed"),
    [
        (40, "stretch met", False),
        (36, "met; stretch missed by 10 %", False),
        (15, "MISSED by 50 %", True),
    ],
)
def test_at_least(value: float, verdict: str, failed: bool) -> None:
    made = row(value, must=30, stretch=40, at_most=False)
    assert (made.verdict, made.failed) == (verdict, failed)


def test_nothing_of_a_thing_that_must_not_be() -> None:
    assert row(0, must=0, stretch=0).verdict == "stretch met"
    assert row(2, must=0, stretch=0).verdict == "MISSED by 2"


def test_a_stretch_alone_does_not_fail() -> None:
    made = row(30, must=None, stretch=40, at_most=False)
    assert (made.verdict, made.failed) == ("stretch missed by 25 %", False)
    assert not row(None, must=None).failed


def test_an_absent_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSCEP_REQUIRE_PEERS", raising=False)
    assert not row(None, peer="C program missing").failed
    monkeypatch.setenv("PYSCEP_REQUIRE_PEERS", "1")
    assert row(None, peer="C program missing").failed


def test_the_worst_of_several_counts() -> None:
    two = next(goal for goal in GOALS if goal.number == "2")
    values = dict.fromkeys(two.keys, 80.0) | {two.keys[1]: 50.0}
    assert {made.goal.number: made.value for made in goals.rows({NATIVE: values})}["2"] == 50.0


def test_every_goal_has_a_row() -> None:
    assert {int(goal.number.rstrip("abc")) for goal in GOALS} == set(range(1, 21))
    made = goals.rows({})
    assert len(made) == len(GOALS)
    assert report.goal_table(made).count("\n") == len(GOALS) + 1


def test_every_process_measures_known_groups() -> None:
    for _, groups in goals.PROCESSES.values():
        assert set(groups.split()) <= set(GROUPS)


def test_results_and_chart(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written by hand stays; the chart is XML with a bar for each that was measured."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "RESULTS.md")
    results: dict[str, Any] = {
        NATIVE: {
            "server 40k": 1.05,
            "server 40k query bytes": 40_000,
            "decode 40k us": 7.0,
            "decode 40k typical": 40.0,
        },
        "machine": report.machine(),
    }
    report.write(goals.rows(results), results)
    path = report.RESULTS
    path.write_text(path.read_text(encoding="utf-8") + "\nKept.\n", encoding="utf-8")
    report.write(goals.rows(results), results)
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\nKept.\n")
    assert text.count("## What holds") == 1
    drawn = ET.fromstring(chart.draw(results))
    assert len(drawn.findall(".//{http://www.w3.org/2000/svg}rect")) == 4


def test_compare_interleaves() -> None:
    """Base, works and base again in each round; no time is judged here."""
    order: list[str] = []
    measured = compare(
        Settings(rounds=2, sample=0.0),
        lambda: order.append("base"),
        lambda: order.append("first"),
        lambda: order.append("second"),
    )
    assert order[-8:] == ["base", "first", "second", "base"] * 2
    assert len(measured) == 2
