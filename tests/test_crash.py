"""kill -9 at every failpoint: nothing acknowledged is lost, nothing is issued twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pyscep.ca import failpoints
from tests.crash_lab import Loss, lab

DOUBLED = (
    "INSERT INTO audit (at, who, action, decision, serial) "
    "SELECT at, who, action, decision, serial FROM audit"
)
KILLS = int(os.environ.get("PYSCEP_KILLS", "50"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_at_every_failpoint_on_sqlite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lab(f"sqlite:///{tmp_path / 'scep.db'}", tmp_path) as one:
        one.kill(KILLS)
        one.verify()
        assert one.kills.total() >= KILLS
        assert set(one.kills) >= set(failpoints.POINTS), "each place was visited"
        assert one.ledger.enrolled
        with capsys.disabled():
            print(f"\n{one.report()}")


DAMAGES = (
    ("DELETE FROM certificates WHERE state = 'issued'", "not in the store"),
    ("UPDATE certificates SET certificate = x'00', state = 'issued'", "not in the store"),
    ("UPDATE certificates SET credential = 'once:a', csr_key = 'b'", "two certificates"),
    ("UPDATE challenges SET reserved_by = 'x', spent_at = created_at", "spent for nothing"),
    (DOUBLED, "two entries"),
    ("UPDATE attempts SET certificate_id = NULL", "without its attempt"),
)


@pytest.mark.slow
def test_the_lab_sees_losses(tmp_path: Path) -> None:
    """The check itself is checked: each kind of damage is noticed."""
    with lab(f"sqlite:///{tmp_path / 'scep.db'}", tmp_path) as one:
        one.kill(3, ["enter.done", "signed.done", "answer.before"])
        one.verify()
        for number, (damage, found) in enumerate(DAMAGES):
            damaged = tmp_path / f"{number}.db"
            source = sqlite3.connect(tmp_path / "scep.db")
            copy = sqlite3.connect(damaged)
            source.backup(copy)
            source.close()
            with copy:
                copy.execute(damage)
            copy.close()
            one.url = f"sqlite:///{damaged}"
            with pytest.raises(Loss, match=found):
                one.verify_rows()


@pytest.mark.parametrize(
    ("setting", "said"),
    [("nowhere", "is none of"), ("enter.done:0", "no count"), ("enter.done:x", "no count")],
)
def test_failpoints_that_are_none(setting: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        failpoints.arm(setting)


def test_failpoint_from_the_environment() -> None:
    code = (
        "from pyscep.ca import failpoints\n"
        "failpoints.reach('enter.begin'); failpoints.reach('enter.done')\n"
        "print('once', flush=True); failpoints.reach('enter.done'); print('twice')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, failpoints.VARIABLE: "enter.done:2"},
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"once\n"


def test_a_place_ends_the_process_once_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(failpoints.os, "kill", lambda *arguments: killed.append(arguments))
    failpoints.arm("enter.done:2")
    try:
        for name in ("enter.done", "enter.begin", "enter.done", "enter.done"):
            failpoints.reach(name)
    finally:
        failpoints.arm("")
    failpoints.reach("enter.done")
    assert killed == [(os.getpid(), signal.SIGKILL)]
