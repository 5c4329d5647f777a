"""`pyscep challenge seal` and `pyscep intune`: by hand and from a timer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import CertificateAuthority
from pyscep.integrations.intune import IntuneClient, RevocationError, load_settings
from pyscep.integrations.intune import process_revocations as process
from pyscep.integrations.intune.client import RevocationResult
from pyscep.integrations.sealed import SealedChallenges
from pyscep.integrations.web import ServiceUnavailable
from tests import forge_keys as keys
from tests.ca_setting import Clock, Setting
from tests.cli_lab import done, failed, invoke
from tests.fake_intune import FakeIntune, serving, write_configuration
from tests.integration_lab import csr_with, party, store_in

ROOT = Path(__file__).resolve().parent.parent


# --- sealing --------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """PEM files of a service that is valid today, and of a module."""
    from tests import integration_lab

    paths = {}
    for name in ("service", "module"):
        key = keys.rsa_key(name)
        certificate = integration_lab.self_signed(name, key, days=3650)
        paths[name] = tmp_path / f"{name}.pem"
        paths[name].write_bytes(certificate.public_bytes(Encoding.PEM))
        paths[f"{name} key"] = tmp_path / f"{name}.key"
        paths[f"{name} key"].touch(mode=0o600)
        paths[f"{name} key"].write_bytes(keys.key_pem(key))
    return paths


def seal(files: dict[str, Path], *words: str) -> tuple[object, ...]:
    return (
        "challenge", "seal", "--service-certificate", files["service"],
        "--service-key", files["service key"], "--recipient", files["module"],
        "--subject", "CN=device,O=Lab", *words)


def test_sealing(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"own")
    found = done(*seal(
        files, "--san", "dns:a.example", "--san", "upn:ada@lab.example", "--key", "rsa-2048",
        "--key-usage", "digitalSignature", "--extended-key-usage", "clientAuth",
        "--profile", "vpn", "--minutes", "5", "--data", str(tmp_path / "data")))
    key = keys.rsa_key("module")
    certificate = x509.load_pem_x509_certificate(files["module"].read_bytes())
    service = x509.load_pem_x509_certificate(files["service"].read_bytes())
    module = SealedChallenges(pyscep.Identity(certificate, key), [service])
    opened = module.open(found["challenge"], datetime.now(UTC))
    assert opened.binding.sans == ("dns:a.example", "upn:ada@lab.example")
    assert opened.binding.key_usage == ("digitalSignature",)
    assert opened.binding.extended_key_usage == ("clientAuth",)
    assert (opened.binding.key, opened.binding.profile) == ("rsa-2048", "vpn")
    assert opened.data == b"own"
    left = opened.expires_at - datetime.now(UTC)
    assert timedelta(minutes=4) < left <= timedelta(minutes=5)
    text = invoke(*seal(files)).stdout
    free = module.open(text.strip(), datetime.now(UTC)).binding
    assert (free.sans, free.key_usage, free.key, free.profile) == ((), None, None, None)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--san", "a.example"), "begin it with one of"),
        (("--key", "large"), "none like rsa-2048"),
        (("--key-usage", "all"), "is none of"),
        (("--subject", "device"), ""),
    ],
)
def test_what_can_not_be_sealed(
    files: dict[str, Path], words: tuple[str, ...], reason: str
) -> None:
    assert reason in failed(2, *seal(files, *words))["message"]


def test_one_time_challenges_are_as_they_were(tmp_path: Path) -> None:
    with CertificateAuthority.create(tmp_path / "ca", key_type="rsa-2048"):
        pass
    found = done("challenge", "--directory", tmp_path / "ca", "--count", 2)
    assert len(found["challenges"]) == 2
    assert "seal" in invoke("challenge", "--help").stdout


# --- revocations ----------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeIntune]:
    fake = FakeIntune()
    with serving(fake, tmp_path):
        write_configuration(fake, tmp_path)
        yield fake


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    (tmp_path / "ca").mkdir()
    now = Clock(datetime.now(UTC).replace(microsecond=0))
    return Setting(tmp_path / "ca", static_challenge="word", clock=now, issuer=_today())


def _today() -> pyscep.Identity:
    from pyscep.ca import creation

    key = keys.rsa_key("ca under test")
    certificate = creation.make_ca(
        key, common_name="Test CA", organization="Lab", validity=timedelta(days=3650),
        now=datetime.now(UTC) - timedelta(days=2), serial_number=4711, decrypts=True)
    return pyscep.Identity(certificate, key)


@pytest.fixture
def client(fake: FakeIntune, tmp_path: Path) -> Iterator[IntuneClient]:
    with IntuneClient(load_settings(str(tmp_path / "intune.toml"), {})) as made:
        yield made


def wanted(context: str, serial: str, issuer: str = "Test CA") -> dict[str, Any]:
    return {
        "requestContext": context, "serialNumber": serial, "issuerName": issuer,
        "caConfiguration": ""}


def test_revocations(fake: FakeIntune, client: IntuneClient, setting: Setting) -> None:
    first = setting.certificate("word").serial_number
    second = setting.certificate("word", key=keys.rsa_key("other device")).serial_number
    third = setting.certificate("word", key=keys.rsa_key("third")).serial_number
    setting.ca.revoke(third)
    fake.revocations = [
        wanted("a", f"{first:X}"), wanted("b", str(second)), wanted("c", f"{third:x}"),
        wanted("d", "ABCDEF"), wanted("e", "no number"), wanted("f", f"{first:X}", "Other CA"),
    ]
    fake.unit = "msud01"
    found = process(client, setting.ca, issuer_name="Test CA")
    assert found.asked == 5, "another issuer's are not downloaded"
    assert found.revoked == (first, second)
    assert {one.context: one.error for one in found.failed} == {
        "c": RevocationError.CONFLICT_ERROR,
        "d": RevocationError.CERTIFICATE_NOT_FOUND_ERROR,
        "e": RevocationError.PARAMETER_DATA_INVALID_ERROR,
    }
    keys_ = ("requestContext", "succeeded", "errorCode")
    assert [tuple(one[name] for name in keys_) for one in fake.results] == [
        ("a", True, "0"), ("b", True, "0"), ("c", False, "4005"), ("d", False, "4004"),
        ("e", False, "4002")]
    crl = x509.load_der_x509_crl(setting.ca.crl())
    assert {one.serial_number for one in crl} == {first, second, third}
    call = next(one for one in fake.calls if one.route == "downloadRevocationRequests")
    assert call.body == {"downloadParameters": {"maxRequests": 100, "issuerName": "Test CA"}}
    assert call.headers["api-version"] == "5019-05-05"


def test_nothing_to_revoke(fake: FakeIntune, client: IntuneClient, setting: Setting) -> None:
    found = process(client, setting.ca, issuer_name="Test CA")
    assert (found.asked, found.revoked, found.failed) == (0, (), ())
    assert fake.count("uploadRevocationResults") == 0


def test_a_request_for_another_issuer(
    fake: FakeIntune, client: IntuneClient, setting: Setting
) -> None:
    body = json.dumps({"value": [wanted("a", "AB", "Other CA"), wanted("b", "AB", "")]}).encode()
    fake.fail("downloadRevocationRequests", body=body)
    found = process(client, setting.ca, issuer_name="Test CA")
    assert [one.error for one in found.failed] == [
        RevocationError.PARAMETER_DATA_INVALID_ERROR,
        RevocationError.CERTIFICATE_NOT_FOUND_ERROR]


def test_a_store_that_fails_is_asked_again(
    fake: FakeIntune, client: IntuneClient, setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = setting.certificate("word").serial_number
    fake.revocations = [wanted("a", f"{serial:X}")]

    def broken(*_: Any) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(setting.ca, "revoke", broken)
    (failure,) = process(client, setting.ca, issuer_name="Test CA").failed
    assert failure == RevocationResult(
        context="a", error=RevocationError.RETRYABLE_SERVICE_EXCEPTION, message="not now")


@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"value": true}', b'{"value": [7]}', b'{"value": [{"requestContext": "a"}]}',
     b'{"value": [{"serialNumber": "AB", "requestContext": 7}]}', b"rubbish"],
)
def test_a_list_that_is_none(
    fake: FakeIntune, client: IntuneClient, setting: Setting, body: bytes
) -> None:
    fake.fail("downloadRevocationRequests", body=body)
    with pytest.raises(ServiceUnavailable):
        process(client, setting.ca, issuer_name="Test CA")


def test_results_that_are_not_taken(
    fake: FakeIntune, client: IntuneClient, setting: Setting
) -> None:
    serial = setting.certificate("word").serial_number
    fake.revocations = [wanted("a", f"{serial:X}")]
    fake.fail("uploadRevocationResults", body=b'{"value": false}')
    with pytest.raises(ServiceUnavailable, match="did not take"):
        process(client, setting.ca, issuer_name="Test CA")
    assert setting.ca.certificates()[0].state == "revoked", "what is revoked stays so"
    for text in (b'{"value": "true"}', b'{"value": "True"}'):
        fake.fail("uploadRevocationResults", body=text)
        client.upload_revocations([RevocationResult(context="a")])


def test_the_command(fake: FakeIntune, tmp_path: Path) -> None:
    directory, config = tmp_path / "ca", tmp_path / "intune.toml"
    with CertificateAuthority.create(
        directory, key_type="rsa-2048", static_challenge="word"
    ) as ca:
        client = pyscep.Client("http://ca.test/scep", ca_fingerprint=ca.fingerprint)
        key = keys.rsa_key("client")
        server = ca.server()
        flow = client.enroll(key, csr_with("word", key=key))
        outcome = pyscep.run(flow, lambda request: server.handle(request, ca))
        assert isinstance(outcome, pyscep.Success)
        serial = outcome.certificates[0].serial_number
    fake.revocations = [
        wanted("a", f"{serial:X}", "pyscep CA"), wanted("\x1b[2J", "AB", "pyscep CA")]
    words = ("intune", "revocations", "--config", config, "--directory", directory)
    found = done(*words)
    assert found["asked"] == 2
    assert found["revoked"] == [f"{serial:x}"]
    assert found["failed"] == [{
        "context": "\x1b[2J", "error": "CERTIFICATE_NOT_FOUND_ERROR",
        "message": "no such certificate"}]
    fake.revocations = [wanted("\x1b[2J", "AB", "pyscep CA")]
    text = invoke(*words).stdout
    assert text.startswith("1 asked for, 0 revoked\nnot revoked: \\x1b[2J: CERT")
    fake.fail("downloadRevocationRequests", status=500)
    error = failed(1, *words)
    assert (error["code"], error["message"]) == ("intune", "HTTP status 500")


def test_the_command_names_what_was_never_released(
    fake: FakeIntune, tmp_path: Path, setting: Setting
) -> None:
    directory = tmp_path / "made"
    with CertificateAuthority.create(directory, key_type="rsa-2048"):
        pass
    assert done(
        "intune", "revocations", "--config", tmp_path / "intune.toml", "--directory", directory,
        "--issuer-name", "Mine", "--max-requests", 7)["unreleased"] == []
    call = fake.calls[-1].body["downloadParameters"]
    assert call == {"maxRequests": 7, "issuerName": "Mine"}


def test_unreleased_certificates_are_shown(
    fake: FakeIntune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyscep.integrations.intune import revocations

    directory = tmp_path / "made"
    with CertificateAuthority.create(directory, key_type="rsa-2048"):
        pass
    monkeypatch.setattr(revocations, "revoke_unreleased", lambda *_: (0xAB,))
    text = invoke(
        "intune", "revocations", "--config", tmp_path / "intune.toml",
        "--directory", directory).stdout
    assert "revoked, because Intune never heard of it: ab" in text


def test_checking_the_connection(fake: FakeIntune, tmp_path: Path) -> None:
    config = tmp_path / "intune.toml"
    found = done("intune", "check", "--config", config)["services"]
    assert set(found) == {"ScepRequestValidationFEService", "PkiConnectorFEService"}
    assert "StatelessScepService" in invoke("intune", "check", "--config", config).stdout
    fake.services = ("PkiConnectorFEService",)
    error = failed(1, "intune", "check", "--config", config)
    assert "scep_challenge_provider" in error["message"]
    fake.fail("token", status=500)
    assert failed(1, "intune", "check", "--config", config)["code"] == "intune"
    config.write_text("tenant = 7\n")
    assert "wrong kind" in failed(2, "intune", "check", "--config", config)["message"]


def test_the_stand_in_as_a_process(tmp_path: Path) -> None:
    """As in demonstrations: another process, and the configuration that it writes."""
    command = [sys.executable, "-m", "tests.fake_intune", "--directory", str(tmp_path)]
    process_ = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process_.stdout is not None
        ready = json.loads(process_.stdout.readline())
        with IntuneClient(load_settings(ready["configuration"], {})) as client:
            csr = csr_with(ready["challenge"])
            assert client.validate("1", csr.der).success
    finally:
        process_.communicate(timeout=30)
    assert process_.returncode == 0


def test_a_store_for_the_provider(tmp_path: Path) -> None:
    """The lab's store is the CA's: one file."""
    assert store_in(tmp_path).engine.url.database == f"{tmp_path}/scep.db"
    assert party("service") is party("service")
