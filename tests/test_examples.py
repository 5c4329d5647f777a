"""docs/examples can be served as they stand, by the steps of the page that goes through them."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import documents
from tests.cli_lab import done, failed, invoke

PAGE = "docs/from-ndes.md"
EXAMPLE = documents.ROOT / "docs" / "examples" / "intune"

pytest.importorskip("msal", reason="comes with the extra intune")
pytest.importorskip("pydantic", reason="comes with the extra serve")


def step(name: str) -> list[list[str]]:
    """The commands of a step, as words."""
    lines = documents.code(PAGE, "sh")[name].replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which steps 1 and 2 were taken."""
    monkeypatch.chdir(tmp_path)
    ((program, *words),) = step("ca")
    assert program == "pyscep"
    assert invoke(*words).exit_code == 0
    for path in EXAMPLE.iterdir():
        shutil.copy(path, tmp_path)
    secret = tmp_path / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text("secret\n")
    for words in step("module"):
        subprocess.run(words, check=True, capture_output=True)
    shutil.copy(tmp_path / "module.pem", tmp_path / "mdm.pem")  # any certificate will do
    return tmp_path


def test_the_example_can_be_served(place: Path) -> None:
    """Nothing looks wrong but what the page announces."""
    found = done("config", "check")
    assert found["endpoints"] == ["devices", "sealed"]
    assert [one["key"] for one in found["warnings"]] == ["endpoint.devices.policy"]
    assert "compatible" in found["warnings"][0]["text"]


@pytest.mark.parametrize("name", ["client-secret", "module.key", "mdm.pem", "pyscep-ca/ca.key"])
def test_every_file_of_the_example_is_looked_at(place: Path, name: str) -> None:
    (place / name).unlink()
    assert failed(2, "config", "check")["code"] == "config"


def test_the_commands_of_the_page() -> None:
    """Each exists, with these options."""
    commands = [words for name in ("ca", "check", "revocations") for words in step(name)]
    assert len(commands) == 5
    for program, *words in commands:
        assert program == "pyscep"
        found = invoke(*words, "--help")
        assert found.exit_code == 0
        assert all(word in found.stdout for word in words if word.startswith("--"))


def test_every_block_of_the_page_is_known() -> None:
    assert set(documents.code(PAGE, "sh")) == {"ca", "module", "check", "revocations"}
    assert {path.name for path in EXAMPLE.iterdir()} == {"scep.toml", "intune.toml"}
