"""``kind = "intune"`` from the file to the calls over TLS: real servers, real commands."""

from __future__ import annotations

import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import pyscep
from pyscep.ca import CertificateAuthority, directory
from pyscep.integrations.intune import IntuneChallenges
from pyscep.site import checking
from pyscep.site.building import Builder
from pyscep.site.config import load
from pyscep.site.endpoints import OpenSite
from tests import forge_keys as keys
from tests.cli_lab import done, failed, listening
from tests.fake_intune import FakeIntune, serving, write_configuration
from tests.test_cli_serve import run
from tests.test_cli_serve import serving as running

pytest.importorskip("msal", reason="comes with the extra intune")

SID = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1381186052-4247692386-135928078-1225"
CONFIG = """
[server]
port = 0

[ca.main]
directory = "ca"
crl_urls = ["http://127.0.0.1:8080/crl/main.crl"]

[profile.phones]
preset = "intune"

[challenge.intune]
kind = "intune"
settings = "intune.toml"

[endpoint.phones]
path = "/phones"
ca = "main"
profiles = ["phones"]
challenges = ["intune"]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CA."""
    home = tmp_path_factory.mktemp("site")
    CertificateAuthority.create(home / "ca", key_type="rsa-2048").close()
    return home


@pytest.fixture
def fake(place: Path) -> Iterator[FakeIntune]:
    """Intune, and the settings that lead to it."""
    services = FakeIntune()
    with serving(services, place):
        write_configuration(services, place)
        yield services


@pytest.fixture
def file(place: Path) -> Path:
    path = place / "scep.toml"
    path.write_text(CONFIG)
    return path


def enroll(url: str, challenge: str, key: str = "client", **more: Any) -> x509.Certificate:
    """Enroll over HTTP, by GET: Intune's challenge makes it long."""
    client = pyscep.Client(
        url, trust_on_first_use=True, policy=pyscep.COMPATIBLE, method="get")
    csr = pyscep.pkcs10.create(
        keys.rsa_key(key), "CN=device,O=Lab", challenge_password=challenge, **more)
    outcome = pyscep.run(client.enroll(keys.rsa_key(key), csr), pyscep.urllib_sender())
    assert isinstance(outcome, pyscep.Success)
    return outcome.certificates[0]


def uris(*names: str) -> tuple[x509.UniformResourceIdentifier, ...]:
    return tuple(x509.UniformResourceIdentifier(name) for name in names)


@pytest.mark.slow
def test_serve_with_intune(fake: FakeIntune, file: Path) -> None:
    """A process of its own: what it asks, what it issues, what it tells, what gets revoked."""
    challenge = fake.mint(sans=(SID,))
    with running("--config", file, "--json", cwd=file.parent) as (_, ready):
        (endpoint,) = json.loads(ready)["endpoints"]
        assert endpoint["policy"] == "compatible"
        with pytest.raises(pyscep.EnrollmentRefused):
            enroll(endpoint["url"], challenge)
        assert fake.routes() == ["openid", "token", "token", "endpoints", "validateRequest"]
        certificate = enroll(endpoint["url"], challenge, sans=uris(SID))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert [name.value for name in names.value] == [SID]
        assert fake.routes()[-2:] == ["validateRequest", "successNotification"]
        serial = f"{certificate.serial_number:X}"
        assert fake.notified[serial]["issuingCertificateAuthority"] == "pyscep CA"
        fake.revocations = [
            {"requestContext": "a", "serialNumber": serial, "issuerName": "pyscep CA"}]
        text = run("intune", "revocations", "--config", file, cwd=file.parent)
        assert text == "1 asked for, 1 revoked\n"
        address = endpoint["url"].replace("/phones", "/crl/main.crl")
        with urllib.request.urlopen(address, timeout=20) as answer:
            crl = x509.load_der_x509_crl(answer.read())
    assert crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None
    point = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert point.value.full_name is not None
    assert point.value.full_name[0].value == "http://127.0.0.1:8080/crl/main.crl"


def test_nothing_leaves_while_intune_is_away(fake: FakeIntune, file: Path) -> None:
    """503 for the device, whichever call fails; then it works with the same challenge."""
    config = load(file)
    with (
        OpenSite(config, Builder(config, file.parent)) as site,
        listening(site.app) as origin,
    ):
        challenge = fake.mint()
        for route in ("endpoints", "validateRequest", "successNotification"):
            fake.fail(route, status=500)
            with pytest.raises(pyscep.TransportError) as caught:
                enroll(f"{origin}/phones", challenge)
            assert caught.value.status == 503
            assert not fake.notified
        enroll(f"{origin}/phones", challenge)
        assert len(fake.notified) == 1


def test_stopping_waits_for_notifications(fake: FakeIntune, file: Path) -> None:
    """Without waiting, the device has its certificate; Intune hears of it before the end."""
    file.write_text(
        CONFIG.replace(
            'settings = "intune.toml"',
            'settings = "intune.toml"\nwait_for_success_notification = false',
        )
    )
    config = load(file)
    with (
        OpenSite(config, Builder(config, file.parent)) as site,
        listening(site.app) as origin,
    ):
        (found,) = site.endpoints
        assert isinstance(found.ca._challenge, IntuneChallenges)
        assert found.ca._challenge._background is not None
        release = threading.Event()
        found.ca._challenge._background.submit(release.wait, 20)
        certificate = enroll(f"{origin}/phones", fake.mint())
        assert fake.notified == {}
        site._builder._stack.callback(release.set)  # the first thing that closing does
    assert list(fake.notified) == [f"{certificate.serial_number:X}"]


def findings(file: Path) -> list[str]:
    config = load(file)
    return [str(one) for one in checking.check(config, Builder(config, file.parent))]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"https://127.0.0.1', '"http://intune.example', "an https URL is needed"),
        ('client_secret_file = "client-secret"', "", "either a client secret or a certificate"),
        ('"client-secret"', '"missing"', "missing"),
        ('"lab.example"', "7", "tenant has a value of the wrong kind"),
        ('"lab.example"', '""', "tenant and client_id are needed"),
        ("tenant", "tenent", "unknown: tenent"),
    ],
)
def test_check_refuses_settings_that_can_not_work(
    fake: FakeIntune, file: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, reason: str
) -> None:
    monkeypatch.delenv("PYSCEP_INTUNE_SECRET", raising=False)
    settings = file.with_name("intune.toml")
    text = settings.read_text()
    assert old in text
    settings.write_text(text.replace(old, new))
    (found,) = findings(file)
    assert found.startswith("error: challenge.intune: ")
    assert reason in found
    error = failed(2, "serve", "--config", file)
    assert error["code"] == "config"
    assert error["message"].startswith(f"{file}: challenge.intune: ")


def test_check_warns(fake: FakeIntune, file: Path) -> None:
    """The algorithms, and what a device of Intune's would miss."""
    weak = "warning: endpoint.phones.policy: compatible: SHA-1 signatures and triple DES"
    (found,) = findings(file)
    assert found.startswith(weak)
    file.write_text(CONFIG.replace('preset = "intune"', 'preset = "device"'))
    found, more = findings(file)
    assert more.startswith("warning: profile.phones.uri_schemes: no `tag` among them")
    file.write_text(CONFIG.replace('preset = "intune"', 'preset="intune"\nchallenge="optional"'))
    found, more = findings(file)
    assert more.startswith("warning: profile.phones.challenge: who leaves the challenge out")
    lonely = CONFIG.replace("crl_urls", "revocation = false\n#")
    file.write_text(lonely)
    found, more, _ = findings(file)
    assert more.startswith("warning: ca.main.revocation: Intune has certificates revoked")


def test_a_name_that_another_ca_would_change(fake: FakeIntune, file: Path, tmp_path: Path) -> None:
    """Intune would be asked for the revocations of another issuer."""
    place = shutil.copytree(file.parent, tmp_path / "site")
    directory.prepare_next(place / "ca", key_type="rsa-2048", now=datetime.now(UTC))
    moved = place / "scep.toml"
    warning = (
        "warning: challenge.intune.settings: Intune knows certificates by the CN of their CA, "
        'which another CA changes: give issuer_name = "pyscep CA" there')
    assert warning in findings(moved)
    directory.switch(place / "ca", now=datetime.now(UTC))
    assert warning in findings(moved)
    with (place / "intune.toml").open("a") as settings:
        settings.write('issuer_name = "pyscep CA"\n')
    assert warning not in findings(moved)
    assert len(findings(moved)) == 1


def test_commands_read_the_configuration_of_a_site(fake: FakeIntune, file: Path) -> None:
    found = done("intune", "check", "--config", file)["services"]
    assert set(found) == {"ScepRequestValidationFEService", "PkiConnectorFEService"}
    words = ("intune", "revocations", "--config", file)
    assert done(*words, "--endpoint", "phones")["asked"] == 0
    assert "the endpoint 'x' is none" in failed(2, *words, "--endpoint", "x")["message"]
    two = CONFIG + CONFIG[CONFIG.index("[endpoint"):].replace("phones]", "more]").replace(
        "/phones", "/more")
    file.write_text(two)
    assert "say which endpoint: --endpoint phones or more" in failed(2, *words)["message"]
    assert done(*words, "--endpoint", "more")["asked"] == 0
    mixed = CONFIG.replace('["intune"]', '["once", "intune"]')
    file.write_text(f'{mixed}\n[challenge.once]\nkind = "one-time"\n')
    assert done(*words)["asked"] == 0
    file.write_text(CONFIG.replace('challenges = ["intune"]', ""))
    assert "none of its endpoints has" in failed(2, *words)["message"]
    file.write_text("[endpoint")
    assert failed(2, *words)["code"] == "intune"
    file.write_text("[endpoint.a]")
    assert failed(2, *words)["code"] == "config"
    alone = ("intune", "check", "--config", file.with_name("intune.toml"), "--endpoint", "a")
    assert "goes with the configuration of a site" in failed(2, *alone)["message"]
