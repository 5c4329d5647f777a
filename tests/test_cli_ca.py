"""`pyscep ca rollover`, step by step, as an operator types it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pyscep.ca import CertificateAuthority
from tests.cli_lab import done, failed, invoke


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSCEP_CA_PASSWORD", raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    CertificateAuthority.create(tmp_path / "ca", key_type="rsa-2048").close()
    return tmp_path / "ca"


def words(step: str, place: Path, *more: object) -> tuple[object, ...]:
    return "ca", "rollover", step, "--directory", place, *more


def test_prepare_status_switch(place: Path) -> None:
    made = done(*words("prepare", place, "--key-type", "rsa-2048", "--days", "100"))
    certificate = x509.load_pem_x509_certificate(Path(made["certificate"]).read_bytes())
    assert (made["turn"], made["name"]) == ("next", "ca-2")
    assert made["subject"] == certificate.subject.rfc4514_string() == "CN=pyscep CA G2"
    life = certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=99) < life <= timedelta(days=100)
    turns = [one["turn"] for one in done(*words("status", place))["cas"]]
    assert turns == ["next", "present"]
    found = invoke(*words("status", place)).stdout
    assert "next" in found
    assert made["certificate"] in found
    switched = done(*words("switch", place))
    assert (switched["turn"], switched["fingerprint"]) == ("present", made["fingerprint"])
    assert [one["turn"] for one in done(*words("status", place))["cas"]] == [
        "present", "previous"]


def test_for_people(place: Path) -> None:
    starts = (datetime.now(UTC) + timedelta(days=3)).strftime("%Y-%m-%d")
    more = ("--key-type", "rsa-2048", "--common-name", "Our next", "--starts", starts)
    found = invoke(*words("prepare", place, *more))
    assert found.exit_code == 0, found.stderr
    assert "The next CA:  CN=Our next\n" in found.stdout
    assert f"Valid:        {starts}" in found.stdout
    assert "pyscep ca rollover switch" in found.stdout
    error = failed(2, *words("switch", place))
    assert error["code"] == "ca"
    assert "not valid before" in error["message"]


def test_steps_out_of_turn(place: Path, tmp_path: Path) -> None:
    assert "prepare one first" in failed(2, *words("switch", place))["message"]
    for step in ("prepare", "status", "switch"):
        error = failed(2, *words(step, tmp_path / "nothing"))
        assert error["code"] == "ca"
        assert "no CA in" in error["message"]
    done(*words("prepare", place, "--key-type", "rsa-2048"))
    error = failed(2, *words("prepare", place))
    assert error["code"] == "exists"
    assert "generation-2" in error["message"]


def test_retire(place: Path) -> None:
    done(*words("prepare", place, "--key-type", "rsa-2048"))
    done(*words("switch", place))
    found = invoke(*words("retire", place)).stdout
    assert found.startswith(f"retired: the CA in {place}")
    assert [one["turn"] for one in done(*words("status", place))["cas"]] == ["present"]


def test_switch_for_people(place: Path) -> None:
    done(*words("prepare", place, "--key-type", "rsa-2048"))
    found = invoke(*words("switch", place)).stdout
    assert found.startswith("The present CA:  CN=pyscep CA G2\n")
    assert "its fingerprint" in found
