"""Intune as a third-party CA's judge, against a stand-in of its three services on real sockets.

Whatever fails, no certificate leaves (INTUNE A).
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

import pyscep
from pyscep.ca import Notification, Profile, RenewalRules
from pyscep.integrations.intune import (
    CLOUDS,
    IntuneChallenges,
    IntuneClient,
    IntuneSettings,
    ResultCode,
    load_settings,
)
from pyscep.integrations.intune.codes import ADVICE
from pyscep.integrations.intune.tokens import TokenSource, _HttpClient
from pyscep.integrations.web import ServiceUnavailable
from tests import forge_keys as keys
from tests.ca_setting import Setting
from tests.fake_intune import FakeIntune, serving, write_configuration
from tests.integration_lab import ODD, party, store_in

CODES = [code for code in ResultCode if code is not ResultCode.SUCCESS]


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeIntune, Path]]:
    fake, directory = FakeIntune(), tmp_path_factory.mktemp("intune")
    with serving(fake, directory) as roots:
        yield fake, roots


@pytest.fixture
def fake(services: tuple[FakeIntune, Path]) -> FakeIntune:
    """The services, as after their start."""
    served, _ = services
    fresh = FakeIntune(url=served.url, stopping=served.stopping)
    for name in FakeIntune.__slots__:
        setattr(served, name, getattr(fresh, name))
    return served


@pytest.fixture
def settings(fake: FakeIntune, services: tuple[FakeIntune, Path]) -> IntuneSettings:
    return settings_for(fake, services[1])


def settings_for(fake: FakeIntune, root: Path, **more: Any) -> IntuneSettings:
    values: dict[str, Any] = {
        "tenant": fake.tenant,
        "client_id": fake.client_id,
        "client_secret": fake.client_secret,
        "login_url": fake.url,
        "graph_url": fake.url,
        "intune_scope": f"{fake.url}/intune//.default",
        "roots": str(root),
        "provider": "pyscep 0.1",
        "timeout": 5.0,
    }
    return IntuneSettings(**(values | more))


class Lab(Setting):
    """A CA that Intune judges for."""

    def __init__(
        self, path: Path, fake: FakeIntune, client: IntuneClient, *, wait: bool = True, **more: Any
    ) -> None:
        self.fake = fake
        self.provider = IntuneChallenges(
            client, store_in(path), issuer_name="Test CA", wait_for_success_notification=wait)
        super().__init__(path, challenge=self.provider, **more)

    def unavailable(self, word: str, **more: Any) -> None:
        """The device is told to come again, and nothing has left."""
        with pytest.raises(pyscep.TransportError) as caught:
            self.enroll(word, **more)
        assert caught.value.status == 503
        assert caught.value.retry_after


@pytest.fixture
def client(settings: IntuneSettings) -> Iterator[IntuneClient]:
    with IntuneClient(settings) as made:
        yield made


@pytest.fixture
def lab(tmp_path: Path, fake: FakeIntune, client: IntuneClient) -> Lab:
    return Lab(tmp_path, fake, client)


def other() -> Any:
    return keys.rsa_key("other device")


# --- the way it should go -------------------------------------------------------------


def test_validated_notified_and_only_then_released(lab: Lab) -> None:
    word = lab.fake.mint(sans=("device.lab.example",))
    sans = (x509.DNSName("device.lab.example"),)
    certificate = lab.certificate(word, sans=sans, transaction_id="ABC")
    assert lab.fake.routes() == [
        "openid", "token", "token", "endpoints", "validateRequest", "successNotification"]
    asked, told = (call.body for call in lab.fake.calls[-2:])
    assert asked["request"]["transactionId"] == told["notification"]["transactionId"] == "ABC"
    assert asked["request"]["callerInfo"] == "pyscep 0.1"
    csr = pyscep.pkcs10.read(base64.b64decode(asked["request"]["certificateRequest"]))
    assert csr.challenge_password == word
    note = told["notification"]
    assert note["certificateRequest"] == asked["request"]["certificateRequest"]
    assert note["certificateThumbprint"] == (
        certificate.fingerprint(hashes.SHA1()).hex().upper())  # noqa: S303
    assert note["certificateSerialNumber"] == f"{certificate.serial_number:X}"
    assert note["certificateExpirationDateUtc"] == "2027-03-01T12:00:00.000Z"
    assert note["issuingCertificateAuthority"] == "Test CA"
    headers = lab.fake.calls[-1].headers
    assert headers["api-version"] == "2018-02-20"
    assert headers["useragent"] == headers["user-agent"] == "pyscep 0.1"
    ids = [call.headers["client-request-id"] for call in lab.fake.calls[-3:]]
    assert len(set(ids)) == 3


def test_tokens_and_addresses_are_kept(lab: Lab) -> None:
    lab.certificate(lab.fake.mint())
    before = len(lab.fake.calls)
    lab.certificate(lab.fake.mint(), key=other())
    assert lab.fake.routes()[before:] == ["validateRequest", "successNotification"]


def test_a_lost_reply_asks_nobody(lab: Lab) -> None:
    word = lab.fake.mint()
    first = lab.certificate(word)
    before = len(lab.fake.calls)
    lab.clock.pass_by(minutes=64)
    assert lab.certificate(word) == first
    assert len(lab.fake.calls) == before


def test_many_devices_at_once(lab: Lab) -> None:
    """One client for all: tokens and addresses are shared, verdicts are not."""
    words = [lab.fake.mint(f"CN=device {number}") for number in range(6)]
    subjects: list[str] = []

    def enroll(number: int) -> None:
        key = keys.rsa_key(f"device {number}")
        certificate = lab.certificate(words[number], key=key, subject=f"CN=device {number}")
        subjects.append(certificate.subject.rfc4514_string())

    threads = [threading.Thread(target=enroll, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(subjects) == [f"CN=device {number}" for number in range(6)]
    assert len(lab.fake.notified) == 6


def test_one_challenge_one_key(lab: Lab) -> None:
    """Nothing is known of Intune refusing a second use (INTUNE F3)."""
    word = lab.fake.mint()
    lab.certificate(word)
    before = len(lab.fake.calls)
    lab.refuses(lambda: lab.enroll(word, key=other()), "spent for another key")
    lab.clock.pass_by(minutes=65)
    lab.refuses(lambda: lab.enroll(word), "has expired")
    lab.refuses(lambda: lab.enroll(word, key=other()), "spent for another key")
    assert len(lab.fake.calls) == before, "Intune is not asked about it"


def test_several_profiles_of_one_device(lab: Lab) -> None:
    for number in range(3):
        subject = f"CN=wifi {number}"
        lab.certificate(lab.fake.mint(subject), subject=subject, key=keys.rsa_key("wifi"))
    assert lab.fake.count("successNotification") == 3


def test_by_certificate_instead_of_a_secret(
    tmp_path: Path, fake: FakeIntune, services: tuple[FakeIntune, Path]
) -> None:
    fake.certificate = party("app registration").certificate
    settings = settings_for(
        fake, services[1], client_secret=None, certificate=party("app registration"))
    with IntuneClient(settings) as client:
        lab = Lab(tmp_path, fake, client)
        lab.certificate(fake.mint())
        form = next(call.body for call in fake.calls if call.route == "token")
        assert "client_secret" not in form
    wrong = settings_for(fake, services[1], client_secret=None, certificate=party("stranger"))
    with IntuneClient(wrong) as client, pytest.raises(ServiceUnavailable, match="invalid_client"):
        client.validate("1", b"x")


def test_renewals_are_not_intune_s(tmp_path: Path, fake: FakeIntune, client: IntuneClient) -> None:
    """Intune renews with a new key and a new challenge; a CA can forbid the other way."""
    lab = Lab(tmp_path, fake, client, profiles=Profile(renewal=RenewalRules(allowed=False)))
    identity = lab.identity(fake.mint())
    before = len(fake.calls)
    lab.refuses(lambda: lab.renew(identity), "does not allow it")
    assert len(fake.calls) == before


# --- verdicts -------------------------------------------------------------------------


def test_there_are_25_codes() -> None:
    assert len(ResultCode) == 25
    assert set(ADVICE) == set(ResultCode)


@pytest.mark.parametrize("code", CODES)
def test_every_other_code_is_a_uniform_failure(lab: Lab, code: ResultCode) -> None:
    lab.fake.code("validateRequest", code.value)
    word = lab.fake.mint()
    lab.refuses(lambda: lab.enroll(word), code.value)
    assert ADVICE[code] in (lab.reason or "")
    assert word not in (lab.reason or "")
    assert lab.serials == []
    assert lab.fake.count("validateRequest") == 1, "a verdict is not asked for twice"
    assert lab.fake.count("failureNotification") == 0, "Intune knows"


@pytest.mark.parametrize("code", ["Sucess", "success", "SUCCESS", "", "Successful", "\x1b[2J"])
def test_an_unknown_code_is_a_refusal(lab: Lab, code: str) -> None:
    lab.fake.code("validateRequest", code)
    lab.refuses(lambda: lab.enroll(lab.fake.mint()), "unknown code")
    assert "\x1b" not in (lab.reason or "")
    assert lab.serials == []


def test_the_stand_in_judges(lab: Lab) -> None:
    mint = lab.fake.mint
    lab.refuses(lambda: lab.enroll("foreign"), "ChallengeDecryptionError")
    lab.refuses(lambda: lab.enroll(mint(), subject="CN=other"), "SubjectNameMismatch")
    lab.refuses(lambda: lab.enroll(mint(), subject="CN=device,CN=a,O=Lab"), "SubjectNameMismatch")
    sans = (x509.DNSName("dc.lab.example"),)
    lab.refuses(lambda: lab.enroll(mint(), sans=sans), "SubjectAltNameMismatch")
    lab.refuses(lambda: lab.enroll(mint(bits=4096)), "KeyLengthMismatch")
    import datetime

    ended = datetime.datetime.now(datetime.UTC)
    lab.refuses(lambda: lab.enroll(mint(ends=ended)), "ChallengeExpired")
    lab.refuses(lambda: lab.enroll(None), "no challenge")
    assert lab.serials == []


@pytest.mark.parametrize("reason", ODD)
def test_odd_requests_are_refused_before_intune_sees_them(lab: Lab, reason: str) -> None:
    word = lab.fake.mint()
    with pytest.raises(pyscep.EnrollmentRefused):
        lab.enroll(word, **ODD[reason])
    assert reason.lower() in (lab.reason or "").lower()
    assert lab.fake.calls == []


def test_control_characters_stop_at_the_ca(lab: Lab) -> None:
    """... even where Intune would not mind."""
    for bad in ("a\x00b", "a\u202eb"):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, bad)])
        lab.fake.code("validateRequest", "Success")
        lab.refuses(
            lambda subject=subject: lab.enroll(lab.fake.mint(), subject=subject),  # type: ignore[misc]  # of several cases
            "control characters")
    assert lab.fake.count("failureNotification") == 2
    assert lab.serials == []


# --- Intune can't be asked ------------------------------------------------------------

OUTAGES: list[dict[str, Any]] = [
    {"status": 400},
    {"status": 403},
    {"status": 429},
    {"status": 500},
    {"status": 503},
    {"status": 302},
    {"drop": True},
    {"body": b""},
    {"body": b"<html>"},
    {"body": b"null"},
    {"body": b"[]"},
    {"body": b"{}"},
    {"body": b'{"code": 0}'},
    {"body": b'{"code": ["Success"]}'},
    {"body": b'{"code": "Success"'},
    {"body": b'{"Code": "Success"}'},
    {"status": 500, "body": b'{"code": "Success"}'},
    {"body": b'{"code": "Success", "x": "' + b"x" * 1_100_000 + b'"}'},
]


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: str(outage)[:40])
def test_validation_without_an_answer(lab: Lab, outage: dict[str, Any]) -> None:
    word = lab.fake.mint()
    lab.fake.fail("validateRequest", **outage)
    lab.unavailable(word)
    assert lab.serials == []
    assert lab.fake.count("validateRequest") == 1
    assert lab.fake.count("failureNotification") == 0
    lab.certificate(word)


@pytest.mark.parametrize("route", ["token", "openid", "endpoints", "validateRequest"])
def test_a_service_that_hangs(
    tmp_path: Path, fake: FakeIntune, services: tuple[FakeIntune, Path], route: str
) -> None:
    with IntuneClient(settings_for(fake, services[1], timeout=0.3)) as client:
        lab = Lab(tmp_path, fake, client)
        fake.fail(route, hang=True)
        lab.unavailable(fake.mint())
        assert lab.serials == []


@pytest.mark.parametrize("route", ["token", "openid", "endpoints"])
@pytest.mark.parametrize(
    "outage",
    [{"status": 400}, {"status": 403}, {"status": 500}, {"drop": True}, {"body": b"rubbish"},
     {"body": b"{}"}, {"body": b"[]"}, {"body": b'{"error": "server_error"}'},
     {"body": b'{"access_token": 7, "value": 7}'}],
    ids=str,
)
def test_no_token_or_no_address(lab: Lab, route: str, outage: dict[str, Any]) -> None:
    lab.fake.fail(route, times=2, **outage)
    lab.unavailable(lab.fake.mint())
    assert lab.serials == []
    assert lab.fake.count("validateRequest") == 0


def test_after_an_outage_at_the_start_it_works(lab: Lab) -> None:
    word = lab.fake.mint()
    lab.fake.fail("openid", status=500)
    lab.unavailable(word)
    lab.fake.fail("endpoints", status=500)
    lab.unavailable(word)
    lab.certificate(word)


def test_a_wrong_secret(
    tmp_path: Path, fake: FakeIntune, services: tuple[FakeIntune, Path]
) -> None:
    with IntuneClient(settings_for(fake, services[1], client_secret="wr0ng")) as client:
        with pytest.raises(ServiceUnavailable, match="invalid_client.*AADSTS7000215") as caught:
            client.validate("1", b"x")
        assert "wr0ng" not in str(caught.value)


def test_missing_permissions_are_named(client: IntuneClient, fake: FakeIntune) -> None:
    fake.fail("endpoints", status=403)
    with pytest.raises(ServiceUnavailable, match=r"Application\.Read\.All"):
        client.validate("1", b"x")
    fake.services = ("Other",)
    with pytest.raises(ServiceUnavailable, match="scep_challenge_provider"):
        client.validate("1", b"x")
    with pytest.raises(ServiceUnavailable, match="PkiConnectorFEService"):
        client.download_revocations("Test CA")


def test_a_list_with_doubles_and_rubbish(client: IntuneClient, fake: FakeIntune) -> None:
    """Of two services with one name the first counts; case does not."""
    good = fake._uri("ScepRequestValidationFEService")
    body = json.dumps({"value": [
        7, {"providerName": None}, {"providerName": "x"},
        {"providerName": "SCEPREQUESTVALIDATIONFESERVICE", "uri": good + "/"},
        {"providerName": "ScepRequestValidationFEService", "uri": "https://127.0.0.1:1/"},
    ]}).encode()
    fake.fail("endpoints", body=body)
    assert client.services() == {"scepRequestValidationFEService".lower(): good}
    fake.fail("endpoints", body=body)
    assert client.validate("1", b"x").code is ResultCode.CERTIFICATE_REQUEST_DECODING_FAILED


def test_no_token_goes_out_in_the_clear(client: IntuneClient, fake: FakeIntune) -> None:
    body = json.dumps({"value": [
        {"providerName": "ScepRequestValidationFEService", "uri": "http://intune.example/x"}]})
    fake.fail("endpoints", body=body.encode())
    with pytest.raises(ServiceUnavailable, match="an https URL is needed"):
        client.validate("1", b"x")


def test_another_server_is_not_believed(
    fake: FakeIntune, services: tuple[FakeIntune, Path]
) -> None:
    """TLS is verified: without our root, the stand-in is a stranger."""
    with (
        IntuneClient(settings_for(fake, services[1], roots=None)) as client,
        pytest.raises(ServiceUnavailable, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.validate("1", b"x")
    assert fake.calls == []


# --- the single retry -----------------------------------------------------------------


def test_a_refused_token_is_renewed_once(lab: Lab) -> None:
    lab.certificate(lab.fake.mint())
    lab.fake.revoke_tokens()
    lab.certificate(lab.fake.mint(), key=other())
    assert lab.fake.count("token") == 3
    lab.fake.fail("validateRequest", times=2, status=401)
    lab.unavailable(lab.fake.mint())
    assert lab.fake.count("validateRequest") == 2 + 1 + 2


def test_services_that_moved_are_found_once(lab: Lab) -> None:
    lab.certificate(lab.fake.mint())
    lab.fake.unit = "msud02"
    lab.certificate(lab.fake.mint(), key=other())
    assert lab.fake.count("endpoints") == 2
    lab.fake.fail("validateRequest", times=2, status=404)
    lab.unavailable(lab.fake.mint())
    assert lab.fake.count("endpoints") == 3


def test_a_host_that_is_gone_is_looked_up_again(lab: Lab) -> None:
    lab.certificate(lab.fake.mint())
    services = lab.provider._client._services
    services["scepRequestValidationFEService".lower()] = "https://127.0.0.1:1/gone"
    lab.certificate(lab.fake.mint(), key=other())
    assert lab.fake.count("endpoints") == 2


def test_nobody_at_all(tmp_path: Path, fake: FakeIntune, services: tuple[FakeIntune, Path]) -> None:
    settings = settings_for(fake, services[1], login_url="https://127.0.0.1:1")
    with IntuneClient(settings) as client, pytest.raises(ServiceUnavailable, match="ConnectError"):
        client.validate("1", b"x")


def test_msal_s_own_questions_go_the_same_way(client: IntuneClient, fake: FakeIntune) -> None:
    web = _HttpClient(client._web)
    url = f"{fake.url}/{fake.tenant}/v2.0/.well-known/openid-configuration"
    answer = web.get(url, params={"a": "b c"})
    assert answer.status_code == 200
    assert "token_endpoint" in answer.text
    web.close()


def test_msal_has_no_say_in_what_goes_wrong(
    settings: IntuneSettings, client: IntuneClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = TokenSource(settings, client._web)

    def broken() -> Any:
        raise KeyError("secret")

    monkeypatch.setattr(source, "_application", broken)
    with pytest.raises(ServiceUnavailable, match=r"token: KeyError$"):
        source.get("scope")


# --- notifications --------------------------------------------------------------------

DEAF: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 500, "after": True},
    {"drop": True},
    {"body": b"rubbish"},
    {"body": b'{"code": "Unknown"}'},
    {"body": b'{"code": "NoSuchCode"}'},
]


@pytest.mark.parametrize("outage", DEAF, ids=str)
def test_stored_but_not_released(lab: Lab, outage: dict[str, Any]) -> None:
    """DECISIONS 21: the retry notifies again, and does not validate again."""
    word = lab.fake.mint()
    lab.fake.fail("successNotification", times=2, **outage)
    lab.unavailable(word)
    assert len(lab.serials) == 1
    lab.unavailable(word)
    lab.refuses(lambda: lab.enroll(word, key=other()), "spent for another key")
    certificate = lab.certificate(word)
    assert [int(serial, 16) for serial in lab.serials] == [certificate.serial_number]
    assert lab.fake.count("validateRequest") == 1
    assert lab.fake.count("successNotification") == 3
    assert lab.fake.count("failureNotification") == 0
    assert f"{certificate.serial_number:X}" in lab.fake.notified


def test_after_an_hour_it_is_revoked(lab: Lab) -> None:
    word = lab.fake.mint()
    lab.fake.fail("successNotification", status=500)
    lab.unavailable(word)
    lab.clock.pass_by(minutes=61)
    lab.refuses(lambda: lab.enroll(word), "could not be released in time")
    crl = x509.load_der_x509_crl(lab.ca.crl())
    assert [one.serial_number for one in crl] == [int(lab.serials[0], 16)]
    assert lab.fake.notified == {}


def test_another_process_releases_it(lab: Lab) -> None:
    word = lab.fake.mint()
    lab.fake.fail("successNotification", status=500)
    lab.unavailable(word)
    assert lab.enroll(word, ca=lab.reopen())
    assert lab.fake.count("validateRequest") == 1


def test_a_poll_can_not_release_it(lab: Lab) -> None:
    """Intune wants the request again, and it is not kept."""
    word = lab.fake.mint()
    lab.fake.fail("successNotification", status=500)
    lab.unavailable(word, transaction_id="T")
    certificate = lab.ca.certificates()[0].certificate
    with pytest.raises(ServiceUnavailable, match="when the device repeats its request"):
        lab.provider.notify(Notification(
            credential="intune:x", outcome="issued", transaction_id="T", certificate=certificate))


def test_a_refusal_of_the_ca_is_notified(
    tmp_path: Path, fake: FakeIntune, client: IntuneClient
) -> None:
    lab = Lab(tmp_path, fake, client, profiles=Profile(rsa_bits=(3072, 4096)))
    lab.refuses(lambda: lab.enroll(fake.mint(), transaction_id="T"), "RSA key of 2048 bits")
    (note,) = fake.failures
    assert note["transactionId"] == "T"
    assert note["hResult"] == -2147467259
    assert "2048" not in note["errorDescription"]
    fake.fail("failureNotification", status=500)
    lab.refuses(lambda: lab.enroll(fake.mint()), "RSA key of 2048 bits")
    assert lab.serials == []


def test_a_denial_is_only_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.provider.notify(
        Notification(credential="intune:x", outcome="denied", transaction_id="1"))
    assert "not told" in caplog.text
    assert lab.fake.calls == []


def test_without_waiting_for_the_notification(
    tmp_path: Path, fake: FakeIntune, client: IntuneClient, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(tmp_path, fake, client, wait=False)
    fake.fail("successNotification", status=500)
    with caplog.at_level(logging.ERROR, "pyscep.intune"):
        lab.certificate(fake.mint())
        lab.certificate(fake.mint(), key=other())
        lab.provider.close()
    assert len(fake.notified) == 1
    assert "HTTP status 500" in caplog.text


def test_closing_without_a_background(lab: Lab) -> None:
    lab.provider.close()


# --- settings -------------------------------------------------------------------------


def test_challenges_are_intune_s(lab: Lab, client: IntuneClient, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Intune makes the challenges"):
        lab.ca.new_challenge()
    with pytest.raises(ValueError, match="issuer_name"):
        IntuneChallenges(client, store_in(tmp_path))


def test_the_issuer_s_name_of_the_settings_goes_first(
    tmp_path: Path, fake: FakeIntune, services: tuple[FakeIntune, Path]
) -> None:
    with IntuneClient(settings_for(fake, services[1], issuer_name="My CA")) as client:
        assert IntuneChallenges(client, store_in(tmp_path)).issuer_name == "My CA"


BASE: dict[str, Any] = {"tenant": "lab.example", "client_id": "x", "client_secret": "s3cret"}


def test_clouds() -> None:
    plain = IntuneSettings(**BASE)
    assert plain.login_url == "https://login.microsoftonline.com"
    assert plain.graph_url == "https://graph.microsoft.com"
    assert plain.intune_scope == "https://api.manage.microsoft.com//.default"
    gcc = IntuneSettings(**BASE, cloud="us-government")
    assert gcc.intune_scope == "https://api.manage.microsoft.us//.default"
    assert gcc.login_url == "https://login.microsoftonline.us"
    for cloud in ("us-dod", "china"):
        with pytest.raises(ValueError, match="needs intune_scope"):
            IntuneSettings(**BASE, cloud=cloud)
        made = IntuneSettings(**BASE, cloud=cloud, intune_scope="https://api.example/.default")
        assert made.graph_url == CLOUDS[cloud].graph_url
    assert "s3cret" not in repr(plain)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tenant": ""}, "tenant and client_id"),
        ({"client_id": ""}, "tenant and client_id"),
        ({"client_secret": None}, "either a client secret or a certificate"),
        ({"certificate": "both"}, "either a client secret or a certificate"),
        ({"cloud": "moon"}, "is none of global"),
        ({"login_url": "http://login.example"}, "an https URL is needed"),
        ({"issuer_name": "x" * 257}, "at most 256"),
    ],
)
def test_settings_that_do_not_fit(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        IntuneSettings(**(BASE | change))


def test_settings_from_a_file(tmp_path: Path, fake: FakeIntune) -> None:
    (tmp_path / "roots.pem").write_text("")
    path = write_configuration(fake, tmp_path)
    found = load_settings(str(path), {})
    assert found.client_secret == fake.client_secret
    assert found.roots == str(tmp_path / "roots.pem")
    text = path.read_text()
    path.write_text(text.replace('client_secret_file = "client-secret"\n', "timeout = 3\n"))
    assert load_settings(str(path), {"PYSCEP_INTUNE_SECRET": "word"}).client_secret == "word"
    with pytest.raises(ValueError, match="either a client secret"):
        load_settings(str(path), {})
    for line, reason in (
        ('client_secret = "x"', "unknown: client_secret"),
        ("issuer_name = 7", "wrong kind"),
        ('certificate_file = "a"', "go together"),
        ("=", "Invalid"),
    ):
        path.write_text(text + line + "\n")
        with pytest.raises(ValueError, match=reason):
            load_settings(str(path), {})


def test_secrets_in_files_that_others_can_read(tmp_path: Path, fake: FakeIntune) -> None:
    path = write_configuration(fake, tmp_path)
    (tmp_path / "client-secret").chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        load_settings(str(path), {})


def test_a_certificate_from_files(tmp_path: Path, fake: FakeIntune) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    app = party("app registration")
    (tmp_path / "app.pem").write_bytes(app.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "app.key").touch(mode=0o600)
    (tmp_path / "app.key").write_bytes(keys.key_pem(app.private_key))
    path = write_configuration(fake, tmp_path)
    text = path.read_text().replace(
        'client_secret_file = "client-secret"',
        'certificate_file = "app.pem"\nkey_file = "app.key"')
    path.write_text(text.replace('roots = "roots.pem"\n', ""))
    found = load_settings(str(path), {}).certificate
    assert found is not None
    assert found.certificate == app.certificate


def test_too_many_revocations(client: IntuneClient) -> None:
    for number in (0, 501):
        with pytest.raises(ValueError, match="between 1 and 500"):
            client.download_revocations("Test CA", number)


def test_the_delay_of_a_retry_is_short(lab: Lab) -> None:
    """A device that was told to come again does so with the same request."""
    lab.fake.fail("validateRequest", status=500)
    word = lab.fake.mint()
    lab.unavailable(word)
    lab.clock.pass_by(seconds=30)
    assert lab.certificate(word).not_valid_after_utc - lab.clock() <= timedelta(days=366)
