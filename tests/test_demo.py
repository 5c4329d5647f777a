"""``make demo``'s script, to its end and without a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    for extra in ("sqlalchemy", "rich", "uvicorn"):
        pytest.importorskip(extra)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ("PKCSReq", "RenewalReq", "GetCRL", "FAILURE badRequest", "device.pem: OK"):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"


@pytest.mark.slow
def test_demo_without_openssl(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "openssl is missing" in done.stdout
