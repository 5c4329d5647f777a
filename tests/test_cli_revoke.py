"""`pyscep revoke` and `pyscep pending`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import CertificateAuthority, Profile, directory
from tests import forge_keys as keys
from tests.ca_setting import openssl
from tests.cli_lab import done, failed, invoke

SECRET = "for-these-tests"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSCEP_CA_PASSWORD", raising=False)


def make(path: Path, **settings: Any) -> CertificateAuthority:
    return CertificateAuthority.load_or_create(
        path, key_type="rsa-2048", topology="ca", static_challenge=SECRET, **settings)


def enroll(ca: CertificateAuthority, name: str = "client") -> Any:
    """A device enrolls, in memory."""
    key = keys.rsa_key(name)
    csr = pyscep.pkcs10.create(key, f"CN={name}", challenge_password=SECRET)
    client = pyscep.Client("http://ca.test/scep", ca_fingerprint=ca.fingerprint)
    server = ca.server()
    return pyscep.run(client.enroll(key, csr), lambda request: server.handle(request, ca))


def issue(ca: CertificateAuthority, name: str = "client") -> x509.Certificate:
    (certificate,) = enroll(ca, name).certificates
    return certificate


def revoked_serials(ca: CertificateAuthority) -> set[int]:
    return {entry.serial_number for entry in x509.load_der_x509_crl(ca.crl())}


# --- revoke ---------------------------------------------------------------------------


def test_list_of_what_was_issued(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=40)
    short = Profile(validity=timedelta(days=30))
    with make(tmp_path / "ca", now=lambda: past, profiles=short) as ca:
        assert "Nothing was issued." in invoke("revoke", "--directory", tmp_path / "ca").output
        old = issue_at(ca, past)
    with make(tmp_path / "ca") as ca:
        new = issue(ca, "other")
    found = done("revoke", "--directory", tmp_path / "ca")["certificates"]
    assert [(row["serial_number"], row["state"]) for row in found] == [
        (f"{new.serial_number:x}", "issued"), (f"{old.serial_number:x}", "expired")]
    text = invoke("revoke", "--directory", tmp_path / "ca").output
    assert "CN=other" in text
    assert f"{new.serial_number:x}" in text


def issue_at(ca: CertificateAuthority, moment: datetime) -> x509.Certificate:
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=client", challenge_password=SECRET)
    client = pyscep.Client(
        "http://ca.test/scep", ca_fingerprint=ca.fingerprint, now=lambda: moment)
    server = ca.server()
    outcome = pyscep.run(client.enroll(key, csr), lambda request: server.handle(request, ca))
    assert isinstance(outcome, pyscep.Success)
    return outcome.certificates[0]


@pytest.mark.parametrize("shape", ["{:x}", "{:X}", "0x{:x}", "serial={:X}", "colons"])
def test_revoke_by_serial_number(tmp_path: Path, shape: str) -> None:
    """In each way that people find it written."""
    with make(tmp_path) as ca:
        certificate = issue(ca)
        number = certificate.serial_number
        text = number.to_bytes(20, "big").hex(":") if shape == "colons" else shape.format(number)
        result = done("revoke", text, "--reason", "keycompromise", "--directory", tmp_path)
        assert result == {"revoked": [f"{number:x}"], "reason": "keyCompromise", "crl": None}
        (entry,) = x509.load_der_x509_crl(ca.crl())
        assert entry.serial_number == number
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value
        assert reason.reason is x509.ReasonFlags.key_compromise
        (row,) = done("revoke", "--directory", tmp_path)["certificates"]
        assert (row["state"], row["reason"]) == ("revoked", "keyCompromise")


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_revoke_by_certificate_and_write_the_crl(tmp_path: Path, encoding: Encoding) -> None:
    ca_directory, file, crl = tmp_path / "ca", tmp_path / "c", tmp_path / "ca.crl"
    crl.write_bytes(b"old")
    with make(ca_directory) as ca:
        certificate, other = issue(ca), issue(ca, "other")
        file.write_bytes(certificate.public_bytes(encoding))
        output = invoke(
            "revoke", "--certificate", file, f"{other.serial_number:x}", "--crl-out", crl,
            "--directory", ca_directory).output
        assert output.splitlines() == [
            f"{other.serial_number:x}: revoked (unspecified)",
            f"{certificate.serial_number:x}: revoked (unspecified)"]
        assert crl.read_bytes() == ca.crl()
        assert revoked_serials(ca) == {certificate.serial_number, other.serial_number}
    openssl("crl", "-inform", "DER", "-in", crl, "-CAfile", ca_directory / "ca.pem", "-noout")


def test_revoke_all_or_nothing(tmp_path: Path) -> None:
    with make(tmp_path) as ca:
        certificate = issue(ca)
        serial = f"{certificate.serial_number:x}"
        error = failed(2, "revoke", serial, "1234", "--directory", tmp_path)
        assert error["code"] == "unknown"
        assert "issued as 1234; nothing was done" in error["message"]
        assert not revoked_serials(ca)


@pytest.mark.parametrize("text", ["xyz", "0", "", "1" * 41, "-5"])
def test_not_a_serial_number(tmp_path: Path, text: str) -> None:
    with make(tmp_path):
        pass
    error = failed(2, "revoke", "--directory", tmp_path, "--", text)
    assert "not a serial number" in error["message"]


@pytest.mark.parametrize("before", [True, False])
def test_certificates_of_two_cas_of_one_name(tmp_path: Path, before: bool) -> None:
    """After a rollover that kept the name: either's certificates are found to be ours."""
    file, now = tmp_path / "device.pem", datetime.now(UTC)
    with make(tmp_path / "ca", common_name="Our CA") as ca:
        old = issue(ca)
    directory.prepare_next(tmp_path / "ca", common_name="Our CA", key_type="rsa-2048", now=now)
    directory.switch(tmp_path / "ca", now=now)
    with make(tmp_path / "ca") as ca:
        new = issue(ca, "other")
    chosen = old if before else new
    file.write_bytes(chosen.public_bytes(Encoding.PEM))
    found = done("revoke", "--certificate", file, "--directory", tmp_path / "ca")
    assert found["revoked"] == [f"{chosen.serial_number:x}"]


def test_certificate_of_somebody_else(tmp_path: Path) -> None:
    """A self-signed one, and a file that is none."""
    with make(tmp_path / "ca"):
        pass
    for data in (keys.client("client").der, b"-----BEGIN CERTIFICATE-----"):
        (tmp_path / "c").write_bytes(data)
        error = failed(2, "revoke", "--certificate", tmp_path / "c",
                       "--directory", tmp_path / "ca")
        assert "no certificate that this CA issued" in error["message"]


def test_revoke_where_there_is_no_ca(tmp_path: Path) -> None:
    assert failed(2, "revoke", "--directory", tmp_path)["code"] == "ca"


# --- pending --------------------------------------------------------------------------


def test_pending_list_approve_deny(tmp_path: Path) -> None:
    place = ("--directory", tmp_path)
    with make(tmp_path, profiles=Profile(approval="manual")) as ca:
        assert "Nothing is pending." in invoke("pending", *place).output
        for name in ("client", "other"):
            assert isinstance(enroll(ca, name), pyscep.PendingEnrollment)
        rows = done("pending", *place)["pending"]
        assert [row["subject"] for row in rows] == ["CN=client", "CN=other"]
        assert done("pending", "list", *place)["pending"] == rows
        first, second = (row["id"] for row in rows)
        (decided,) = done("pending", "approve", first, *place)["decided"]
        assert decided["decision"] == "approved"
        assert f"{enroll(ca).certificates[0].serial_number:x}" == decided["serial_number"]
        output = invoke("pending", "deny", second, "--reason", "who is that", *place).output
        assert output == f"{second}: denied\n"
        with pytest.raises(pyscep.EnrollmentRefused):
            enroll(ca, "other")
        assert done("pending", *place)["pending"] == []


def test_pending_all_or_nothing(tmp_path: Path) -> None:
    with make(tmp_path, profiles=Profile(approval="manual")) as ca:
        enroll(ca)
        (waiting,) = ca.pending()
        error = failed(2, "pending", "approve", waiting.id, 99, "--directory", tmp_path)
        assert error["code"] == "unknown"
        assert len(ca.pending()) == 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("approve",), "say which request to approve"),
        (("deny",), "say which request to deny"),
        (("list", "1"), "approve or deny"),
        (("approve", "1", "--reason", "x"), "goes with deny"),
        (("forget",), "forget"),
    ],
)
def test_pending_usage(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    assert reason in failed(2, "pending", *words, "--directory", tmp_path)["message"]
