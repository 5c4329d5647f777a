"""The scripts of ``make demo`` and ``make demo-intune``, to their end and without a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import peers

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    for extra in ("sqlalchemy", "rich", "uvicorn"):
        pytest.importorskip(extra, reason="comes with an extra or the development tools")
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
    pytest.importorskip("rich", reason="comes with the extra cli")
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


@pytest.mark.slow
@pytest.mark.interop
def test_demo_intune(tmp_path: Path) -> None:
    """The script itself checks what it shows; here, that it comes to the end of its story."""
    for extra in ("sqlalchemy", "rich", "uvicorn", "msal"):
        pytest.importorskip(extra, reason="comes with an extra or the development tools")
    peers.require("nginx", "openssl")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo_intune.py")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in (
        "the SID, byte for byte",
        "SubjectAltNameMismatch",
        "openssl refuses device-1 with it",
        "the device has HTTP 503",
        "a challenge of 24,420 characters",
        "the request that was sealed is granted",
        "nobody listens any more",
    ):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"


@pytest.mark.slow
@pytest.mark.parametrize("there", [(), ("openssl",)])
def test_demo_intune_without_its_programs(tmp_path: Path, there: tuple[str, ...]) -> None:
    pytest.importorskip("rich", reason="comes with the extra cli")
    (tmp_path / "sitecustomize.py").write_text(
        "import shutil\n"
        f"shutil.which = lambda name, **options: name if name in {there!r} else None\n"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "demo_intune.py")],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    lacking = " and ".join(one for one in ("openssl", "nginx") if one not in there)
    assert f"{lacking} not found: apt-get install" in done.stdout
