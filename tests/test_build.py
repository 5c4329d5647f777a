"""setup.py: what a wheel holds and what its name says, with a compiler and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"

pytestmark = pytest.mark.slow


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a source distribution holds: a build leaves its work beside it."""
    if not (ROOT / "csrc").is_dir():
        pytest.skip("the sources are not here")
    pytest.importorskip("setuptools", reason="a build tool")
    folder = tmp_path / "source"
    for name in ("pyscep", "csrc"):
        shutil.copytree(ROOT / name, folder / name,
                        ignore=shutil.ignore_patterns("*.so", "__pycache__", "corpus"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build(tree: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BUILD, str(tree / "dist")], cwd=tree,
                          env=os.environ | environment, capture_output=True, text=True, check=False)


def wheel(tree: Path) -> tuple[str, list[str], str]:
    """Name, extensions in it, and its tag."""
    (path,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        (about,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        assert "pyscep/codec/_pure.py" in names
        return path.name, [name for name in names if name.endswith(".so")], (
            archive.read(about).decode())


@pytest.mark.parametrize("environment", [
    {"PYSCEP_EXTENSION": "auto", "CC": "/bin/false"}, {"PYSCEP_EXTENSION": "skip"}],
    ids=["failed", "skipped"])
def test_without_the_extension_a_wheel_fits_every_machine(
        tree: Path, environment: dict[str, str]) -> None:
    done = build(tree, **environment)
    assert done.returncode == 0, done.stderr
    name, extensions, about = wheel(tree)
    assert name.endswith("-py3-none-any.whl")
    assert not extensions
    assert "Root-Is-Purelib: true" in about
    assert "Tag: py3-none-any" in about
    told = "pyscep.codec._kernels was not compiled" in done.stderr
    assert told == (environment["PYSCEP_EXTENSION"] == "auto")


def test_an_extension_that_is_required_fails_the_build(tree: Path) -> None:
    assert build(tree, PYSCEP_EXTENSION="require", CC="/bin/false").returncode
    assert not list(tree.glob("dist/*.whl"))


def test_a_misspelled_choice_fails_the_build(tree: Path) -> None:
    done = build(tree, PYSCEP_EXTENSION="required")
    assert done.returncode
    assert "it is auto, require or skip" in done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("choice", ["auto", "require"])
def test_with_the_extension_one_wheel_serves_every_python(tree: Path, choice: str) -> None:
    done = build(tree, PYSCEP_EXTENSION=choice)
    assert done.returncode == 0, done.stderr
    name, extensions, about = wheel(tree)
    assert "-cp311-abi3-" in name
    assert extensions == ["pyscep/codec/_kernels.abi3.so"]
    assert "Root-Is-Purelib: false" in about
