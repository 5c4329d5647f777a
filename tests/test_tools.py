"""The scripts behind make: finding a Python, and the pins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FIND_PYTHON = ROOT / "tools" / "find-python.sh"

OLD = "#!/bin/sh\nexit 1\n"
NO_VENV = '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; *) exit 0;; esac\n'
GOOD = "#!/bin/sh\nexit 0\n"


def find_python(folder: Path, *candidates: str, python: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        ["/bin/sh", str(FIND_PYTHON), *candidates],
        env={"PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin", "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.fixture
def pythons(tmp_path: Path) -> Path:
    folder = tmp_path / "with a space"
    folder.mkdir()
    for name, script in (("old-python", OLD), ("bare-python", NO_VENV), ("good-python", GOOD)):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


def test_the_first_that_can_make_environments(pythons: Path) -> None:
    status, found, _ = find_python(pythons, "none-such", "old-python", "bare-python", "good-python")
    assert (status, found) == (0, str(pythons / "good-python"))


def test_a_python_by_name(pythons: Path) -> None:
    status, found, _ = find_python(pythons, python=str(pythons / "good-python"))
    assert (status, found) == (0, str(pythons / "good-python"))


def test_without_venv_the_package_is_named(pythons: Path) -> None:
    status, found, errors = find_python(pythons, "old-python", "bare-python")
    assert (status, found) == (1, "")
    assert "apt-get install python3-venv" in errors


def test_too_old(pythons: Path) -> None:
    status, found, errors = find_python(pythons, "old-python", "none-such")
    assert (status, found) == (1, "")
    assert "no Python 3.11 or newer" in errors
    assert "old-python none-such" in errors
