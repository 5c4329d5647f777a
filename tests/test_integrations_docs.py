"""The snippets of docs/challenges.md and docs/intune.md run as they stand there."""

from __future__ import annotations

import base64
import os
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

import pyscep
from pyscep.ca import creation
from pyscep.site.config import parse
from tests import documents, integration_lab, serving
from tests import forge_keys as keys
from tests.fake_intune import FakeIntune, write_configuration
from tests.fake_intune import serving as fake_serving
from tests.test_integrations_webhook import BASIC, EVENT

CHALLENGES, INTUNE = "docs/challenges.md", "docs/intune.md"


@pytest.fixture
def names(tmp_path: Path) -> dict[str, Any]:
    from datetime import UTC, datetime, timedelta

    key = keys.rsa_key("ca under test")
    issuer = creation.make_ca(
        key, common_name="Device CA", organization=None, validity=timedelta(days=99),
        now=datetime.now(UTC), serial_number=1, decrypts=True)

    def long_lived(name: str) -> pyscep.Identity:
        key = keys.rsa_key(name)
        return pyscep.Identity(integration_lab.self_signed(name, key, days=3650), key)

    service, module = long_lived("service"), long_lived("module")
    return {
        "pyscep": pyscep,
        "database": f"sqlite:///{tmp_path}/scep.db",
        "issuer": pyscep.Identity(issuer, key),
        "service": service,
        "service_certificate": service.certificate,
        "module_identity": module,
        "module_certificate": module.certificate,
        "directory": tmp_path / "ca",
        "hook_secret": b"secret",
        "hook_password": "pa:ss",
        "inventory": SimpleNamespace(knows=lambda word, subject: word == "known"),
    }


def enroll(ca: Any, word: str, subject: str = "CN=device,O=Lab", **more: Any) -> Any:
    client = pyscep.Client("http://ca.test/scep", ca_fingerprint=ca.fingerprint)
    key = keys.rsa_key("client")
    csr = integration_lab.csr_with(word, key=key, subject=subject, **more)
    server = ca.server()
    return pyscep.run(client.enroll(key, csr), lambda request: server.handle(request, ca))


def test_sealed(names: dict[str, Any]) -> None:
    names |= documents.execute(CHALLENGES, "seal", names)
    names |= documents.execute(CHALLENGES, "open", names)
    usage = integration_lab.usage(digital_signature=True, key_encipherment=True)
    with names["ca"] as ca:
        fitting = {
            "subject": "CN=device-1,O=Lab",
            "sans": (x509.DNSName("device-1.lab.example"),),
            "extensions": ((usage, True), (integration_lab.CLIENT_AUTH, False)),
        }
        assert enroll(ca, names["challenge"], **fitting).certificates
        with pytest.raises(pyscep.EnrollmentRefused):
            enroll(ca, names["challenge"])


def test_password_cache(names: dict[str, Any]) -> None:
    found = documents.execute(CHALLENGES, "cache", names)
    assert enroll(found["ca"], found["password"]).certificates


def test_callable(names: dict[str, Any]) -> None:
    found = documents.execute(CHALLENGES, "callable", names)
    assert enroll(found["ca"], "known").certificates
    with pytest.raises(pyscep.EnrollmentRefused):
        enroll(found["ca"], "other")


def test_webhook(names: dict[str, Any]) -> None:
    assert documents.execute(CHALLENGES, "webhook", names)["provider"].notifies


def test_jamf(names: dict[str, Any]) -> None:
    httpx = pytest.importorskip("httpx", reason="comes with the extra httpx")
    applications = pytest.importorskip("starlette.applications", reason="a development tool")
    names |= documents.execute(CHALLENGES, "cache", names)
    app = applications.Starlette()
    documents.execute(CHALLENGES, "jamf", names | {"app": app})
    with serving.asgi(app) as origin:
        answer = httpx.post(f"{origin}/challenge", json=EVENT, headers=dict([BASIC]))
        assert answer.status_code == 200
        assert enroll(names["ca"], answer.text).certificates
        assert httpx.post(f"{origin}/challenge", json=EVENT).status_code == 401
    assert base64.b64decode(BASIC[1].partition(" ")[2]) == b"jamf:pa:ss"


def test_intune(
    names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeIntune()
    with fake_serving(fake, tmp_path):
        write_configuration(fake, tmp_path)
        monkeypatch.chdir(tmp_path)
        assert os.path.exists("intune.toml")
        found = documents.execute(INTUNE, "intune", names)
        sid = x509.UniformResourceIdentifier("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1")
        word = fake.mint(sans=(sid.value,))
        with found["client"]:
            certificate = enroll(found["ca"], word, sans=(sid,)).certificates[0]
    sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(sans) == [sid]
    assert list(fake.notified) == [f"{certificate.serial_number:X}"]


def test_every_snippet_is_run() -> None:
    assert set(documents.code(CHALLENGES)) == {
        "seal", "open", "cache", "callable", "webhook", "jamf"}
    assert set(documents.code(INTUNE)) == {"intune"}
    assert len(documents.code(INTUNE, "toml")) == 2


def test_intune_in_the_configuration_of_a_site(tmp_path: Path) -> None:
    """The second snippet, with a CA before it, is a configuration that opens."""
    (snippet,) = (text for text in documents.code(INTUNE, "toml").values() if "endpoint" in text)
    parsed = parse(tomllib.loads('[ca.main]\ndirectory = "ca"\nrevocation = false\n' + snippet))
    assert parsed.challenge["intune"].kind == "intune"
    assert not parsed.profile["phones"].renewal.allowed
