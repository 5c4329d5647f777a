"""Interop tests: real peers on loopback, and the matrix that is printed at the end.

    pytest tests/interop                                 # skips what is not installed, by name
    PYSCEP_REQUIRE_PEERS=1 pytest tests/interop          # a missing peer is a failure

Debian packages: scep, strongswan-pki, libstrongswan-extra-plugins,
libstrongswan-standard-plugins, certmonger, openssl; nginx, apache2-bin, haproxy, caddy, curl.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from . import peers
from .certmonger import Certmonger, certmonger
from .proxies import Yard
from .proxy_recipes import RECIPES
from .rows import TABLES, Row

_PEER_PACKAGES = ("strongswan-pki", "certmonger", "scep", "openssl")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cell(column): the column of the interop matrix")
    config.addinivalue_line("markers", "waits: its result comes from a background thread")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits longest comes last: it runs in the background until then."""
    items.sort(key=lambda item: item.get_closest_marker("waits") is not None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    marker = item.get_closest_marker("cell")
    if marker is None:
        return
    row: Row = item.callspec.params["row"]  # type: ignore[attr-defined]  # parametrized
    column = marker.args[0] if marker.args else item.callspec.params["column"]  # type: ignore[attr-defined]  # parametrized
    outcome.get_result().user_properties.append(("cell", (row.table, row.id, column)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    cells = _cells(terminalreporter.stats)
    if not cells:
        return
    out = terminalreporter
    out.section("SCEP interoperability")
    out.write_line("peers: " + ", ".join(_versions()))
    notes: list[str] = []
    for title, columns, rows in TABLES:
        ran = {key: text for key, text in cells.items() if key[0] == title}
        if not ran:
            continue
        lines = [["", *columns]]
        for row in rows:
            line = [row.id]
            for column in columns:
                text = ran.get((title, row.id, column), "not run")
                if column in row.absent:
                    reason = row.absent[column]
                    if reason not in notes:
                        notes.append(reason)
                    text = f"n/a [{notes.index(reason) + 1}]"
                line.append(text)
            lines.append(line)
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]
        out.write_line("")
        out.write_line(title)
        for line in lines:
            text = " | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True))
            out.write_line("  " + text.rstrip())
    out.write_line("")
    for number, reason in enumerate(notes, 1):
        out.write_line(f"[{number}] {reason}")


def _cells(stats: dict[str, list[Any]]) -> dict[tuple[str, str, str], str]:
    """The worst outcome of each cell over setup, call and teardown."""
    cells: dict[tuple[str, str, str], str] = {}
    for outcome, word in (
        ("passed", "ok"),
        ("skipped", "skipped"),
        ("failed", "FAIL"),
        ("error", "FAIL"),
    ):
        for report in stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", ()):
                if name == "cell":
                    cells[tuple(value)] = word
    return cells


def _versions() -> list[str]:
    """What is installed, for the record; empty words where dpkg is not the package manager."""
    try:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *_PEER_PACKAGES],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return ["versions unknown (no dpkg)"]
    return done.stdout.split("\n")[:-1]


@pytest.fixture(scope="session")
def certmonger_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certmonger]:
    """One private daemon for all tests that want certmonger."""
    peers.require("certmonger", "getcert")
    with certmonger(tmp_path_factory.mktemp("certmonger")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Reverse proxies, each started when a test first asks for it."""
    with ExitStack() as stack:
        yield Yard(RECIPES, stack, tmp_path_factory.mktemp)
