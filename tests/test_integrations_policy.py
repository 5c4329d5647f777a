"""Challenges that a callable judges; policy modules and the password cache of NDES."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

import pyscep
from pyscep.ca import FirstOf, Granted, Notification, Profile, Refused, StaticChallenge
from pyscep.ca.password_cache import PasswordCache, PasswordCacheFull
from pyscep.ca.release import revoke_unreleased
from pyscep.ca.single_use import SingleUse, claim_once
from pyscep.codec import der
from pyscep.integrations import csr_check
from pyscep.integrations.policy_module import (
    E_FAIL,
    CallableChallenges,
    Disposition,
    ndes_policy,
)
from tests import forge_keys as keys
from tests.ca_setting import START, Setting
from tests.integration_lab import ODD, asks, csr_with, self_signed, store_in


def other() -> Any:
    return keys.rsa_key("other device")


# --- any callable ---------------------------------------------------------------------


def test_a_callable_judges_and_each_challenge_counts_once(tmp_path: Path) -> None:
    asked = []

    def judge(request: pyscep.ca.ChallengeRequest) -> bool:
        asked.append((request.password, request.transaction_id, request.endpoint))
        return request.password.startswith("good")

    setting = Setting(tmp_path, challenge=CallableChallenges(judge, store=store_in(tmp_path)))
    first = setting.certificate("good one", transaction_id="12")
    assert asked == [("good one", "12", "default")]
    assert setting.certificate("good one") == first, "a retry"
    assert len(asked) == 1, "nobody is asked about a retry"
    setting.refuses(lambda: setting.enroll("good one", key=other()), "spent for another key")
    setting.refuses(lambda: setting.enroll("bad"), "the policy module refused")
    setting.certificate("good two", key=other())
    setting.clock.pass_by(minutes=60)
    setting.refuses(lambda: setting.enroll("good one"), "spent, and has expired")
    assert "good" not in str(setting.sql("SELECT * FROM challenges"))
    assert "good" not in str(setting.sql("SELECT credential, reason FROM attempts"))


def test_without_a_store_the_callable_counts(tmp_path: Path) -> None:
    setting = Setting(tmp_path, challenge=CallableChallenges(lambda request: True))
    setting.certificate("word")
    setting.certificate("word", key=other())


@pytest.mark.parametrize("answer", [None, 1, "yes", False, 0, [True]])
def test_only_true_grants(tmp_path: Path, answer: Any) -> None:
    for store in (None, store_in(tmp_path)):
        provider = CallableChallenges(lambda request: answer, store=store)
        verdict = provider.verify(asks("word"))
        assert isinstance(verdict, Refused)
        assert "word" not in verdict.reason


def test_a_callable_may_answer_in_full(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    ends = START + timedelta(minutes=5)
    answers: list[Granted | Refused] = [
        Granted(credential="mine", profile="vpn", expires_at=ends),
        Granted(credential="mine", claim=lambda connection, key, now: True),
        Refused(reason="not today"),
    ]
    provider = CallableChallenges(lambda request: answers.pop(0), store=store)
    granted = provider.verify(asks("word"))
    assert isinstance(granted, Granted)
    assert granted.credential.startswith("module:")
    assert (granted.profile, granted.expires_at) == ("vpn", ends)
    assert provider.verify(asks("word")).credential == "mine"  # type: ignore[union-attr]  # the test is about that
    assert provider.verify(asks("word")) == Refused(reason="not today")


def test_a_retry_keeps_its_profile(tmp_path: Path) -> None:
    provider = CallableChallenges(
        lambda request: Granted(credential="", profile="vpn"), store=store_in(tmp_path)
    )
    profiles = (
        Profile(patterns=(("commonName", "never"),)), Profile(name="vpn", backdate=timedelta(0)))
    setting = Setting(tmp_path, challenge=provider, profiles=profiles)
    assert setting.certificate("word") == setting.certificate("word")


@pytest.mark.parametrize("reason", ODD)
def test_nobody_is_asked_about_an_odd_request(tmp_path: Path, reason: str) -> None:
    provider = CallableChallenges(lambda request: pytest.fail("asked"), store=store_in(tmp_path))
    verdict = provider.verify(asks("word", csr_with("word", **ODD[reason])))
    assert isinstance(verdict, Refused)
    assert reason.lower() in verdict.reason.lower()


def test_extensions_in_two_places(tmp_path: Path) -> None:
    """A judge could look at one, and the certificate be made from the other (INTUNE F4)."""
    csr = csr_with("word", sans=(x509.DNSName("a.example"),))

    class Twice:
        extensions = csr.extensions
        subject_name = csr.subject_name
        certificate_request = type("", (), {"attributes": [
            x509.Attribute(x509.ObjectIdentifier(oid), b"", 12)
            for oid in csr_check.EXTENSION_REQUESTS]})

    assert csr_check.fault_of(Twice()) == "extensions in more than one attribute"  # type: ignore[arg-type]  # the test is about that


def test_an_attribute_with_several_values(tmp_path: Path) -> None:
    """cryptography refuses it when attributes are looked at; so does everybody here."""
    values = der.set_of(der.octet_string(b"1"), der.octet_string(b"2"))
    extra = der.sequence(der.oid("1.2.3.4"), values)
    key = keys.rsa_key("client")
    info = der.sequence(
        der.integer(0), x509.Name.from_rfc4514_string("CN=a").public_bytes(),
        keys.spki(key), der.context(0, extra))
    signature = key.sign(info, padding.PKCS1v15(), hashes.SHA256())
    algorithm = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.null())
    csr = pyscep.pkcs10.read(der.sequence(info, algorithm, der.bit_string(signature)))
    assert "attributes of the CSR: " in str(csr_check.fault_of(csr))


def test_a_callable_that_raises_is_503_and_not_a_verdict(tmp_path: Path) -> None:
    def judge(request: pyscep.ca.ChallengeRequest) -> bool:
        raise RuntimeError("the directory is away")

    setting = Setting(tmp_path, challenge=CallableChallenges(judge, store=store_in(tmp_path)))
    with pytest.raises(pyscep.TransportError) as caught:
        setting.enroll("word")
    assert caught.value.status == 503
    assert setting.serials == []


def test_a_notification_that_fails_keeps_the_certificate_back(tmp_path: Path) -> None:
    heard: list[Notification] = []
    deaf = [True]

    def notify(notification: Notification) -> None:
        if deaf[0]:
            raise RuntimeError("nobody listens")
        heard.append(notification)

    provider = CallableChallenges(
        lambda request: True, store=store_in(tmp_path), notify=notify)
    setting = Setting(tmp_path, challenge=provider)
    with pytest.raises(pyscep.TransportError):
        setting.enroll("word")
    assert len(setting.serials) == 1, "stored, not released"
    # ... by no other way either.
    (serial,) = setting.serials
    key = keys.rsa_key("client")
    client = pyscep.Identity(self_signed("client", key), key)
    flow = setting.client.get_cert(client, int(serial, 16))
    setting.refuses(lambda: pyscep.run(flow, setting.send), "no such certificate", "badCertId")
    deaf.clear()
    deaf.append(False)
    certificate = setting.certificate("word")
    assert f"{certificate.serial_number:x}" == serial
    assert [one.outcome for one in heard] == ["issued"]
    assert heard[0].certificate == certificate
    assert heard[0].request is not None
    assert heard[0].request.password == "word"
    setting.certificate("word")
    assert len(heard) == 1, "told once"


def test_what_is_not_released_in_an_hour_is_revoked(tmp_path: Path) -> None:
    def notify(notification: Notification) -> None:
        raise RuntimeError("nobody listens")

    provider = CallableChallenges(
        lambda request: True, store=store_in(tmp_path), notify=notify,
        lifetime=timedelta(hours=3))
    setting = Setting(tmp_path, challenge=provider)
    for word, key in (("a", None), ("b", other())):
        with pytest.raises(pyscep.TransportError):
            setting.enroll(word, key=key)
    setting.clock.pass_by(minutes=60)
    assert revoke_unreleased(setting.ca.store, setting.ca.issuer, setting.clock()) == ()
    setting.clock.pass_by(minutes=1)
    setting.refuses(lambda: setting.enroll("a"), "could not be released in time")
    setting.refuses(lambda: setting.enroll("a"), "has been revoked")
    serials = [int(serial, 16) for serial in setting.serials]
    gone = revoke_unreleased(setting.ca.store, setting.ca.issuer, setting.clock())
    assert gone == (serials[1],)
    crl = x509.load_der_x509_crl(setting.ca.crl())
    assert {one.serial_number for one in crl} == set(serials)
    assert revoke_unreleased(setting.ca.store, setting.ca.issuer, setting.clock()) == ()


def test_a_refusal_is_told_and_stands_if_nobody_listens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard = []

    def notify(notification: Notification) -> None:
        heard.append((notification.outcome, notification.reason))
        raise RuntimeError("nobody listens")

    provider = CallableChallenges(lambda request: True, store=store_in(tmp_path), notify=notify)
    setting = Setting(tmp_path, challenge=provider, profiles=Profile(rsa_bits=(3072, 4096)))
    setting.refuses(lambda: setting.enroll("word"), "RSA key of 2048 bits")
    assert heard == [("refused", "RSA key of 2048 bits: 3072 to 4096 are allowed")]
    assert "nobody listens" in caplog.text
    assert "'word'" not in caplog.text


def test_a_denial_is_told(tmp_path: Path) -> None:
    heard = []
    provider = CallableChallenges(
        lambda request: True, store=store_in(tmp_path),
        notify=lambda one: heard.append((one.outcome, one.request)))
    setting = Setting(tmp_path, challenge=provider, profiles=Profile(approval="manual"))
    setting.enroll("word")
    (attempt,) = setting.ca.pending()
    setting.ca.deny(attempt.id, "unknown device")
    assert heard == [("denied", None)]


def test_what_waited_for_approval_may_be_fetched_late(tmp_path: Path) -> None:
    heard = []
    provider = CallableChallenges(
        lambda request: True, store=store_in(tmp_path), notify=lambda one: heard.append(one))
    setting = Setting(tmp_path, challenge=provider, profiles=Profile(approval="manual"))
    pending = setting.enroll("word")
    (attempt,) = setting.ca.pending()
    setting.ca.approve(attempt.id)
    setting.clock.pass_by(hours=5)
    assert revoke_unreleased(setting.ca.store, setting.ca.issuer, setting.clock()) == ()
    assert isinstance(setting.poll(pending), pyscep.Success)
    assert [one.outcome for one in heard] == ["issued"]


def test_making_challenges(tmp_path: Path) -> None:
    made = CallableChallenges(lambda request: True, generate=lambda: "abc")
    assert made.generate() == "abc"
    assert not made.notifies
    made.notify(Notification(credential="module:x", outcome="issued", transaction_id="1"))
    for bound in ({"subject": "CN=a"}, {"sans": ("dns:a",)}, {"profile": "a"},
                  {"lifetime": timedelta(1)}):
        with pytest.raises(ValueError, match="can't be bound"):
            made.generate(**bound)  # type: ignore[arg-type]  # the test is about that
    with pytest.raises(ValueError, match="made elsewhere"):
        CallableChallenges(lambda request: True).generate()
    for scheme in ("", "a:b", "x" * 21):
        with pytest.raises(ValueError, match="scheme"):
            CallableChallenges(lambda request: True, scheme=scheme)


def test_of_two_at_once_one_gets_it(tmp_path: Path) -> None:
    """Both were granted before either was entered: the store decides."""
    both = threading.Barrier(2, timeout=30)

    def judge(request: pyscep.ca.ChallengeRequest) -> bool:
        both.wait()
        return True

    setting = Setting(tmp_path, challenge=CallableChallenges(judge, store=store_in(tmp_path)))
    outcomes: list[str] = []

    def enroll(key: Any) -> None:
        try:
            setting.enroll("word", key=key)
            outcomes.append("issued")
        except pyscep.EnrollmentRefused:
            outcomes.append("refused")

    pair = (keys.rsa_key("client"), other())
    threads = [threading.Thread(target=enroll, args=(key,)) for key in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["issued", "refused"]
    assert len(setting.serials) == 1


def test_single_use_by_itself(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    uses = SingleUse(store)
    name = uses.credential("x", "word\udc80")
    assert name == SingleUse(store).credential("x", "word\udc80")
    assert name != uses.credential("x", "other")
    assert len(name) <= 64
    assert uses.spending(name, asks("word")) is None
    claim = claim_once(name, START + timedelta(minutes=1), "vpn")
    assert store.write(lambda connection: claim(connection, "me", START))
    assert store.write(lambda connection: claim(connection, "me", START))
    assert not store.write(lambda connection: claim(connection, "you", START))
    later = START + timedelta(minutes=1)
    assert not store.write(lambda connection: claim(connection, "me", later))


# --- in the terms of NDES -------------------------------------------------------------


class Module:
    """A policy module that spends in notify, as NDES wants it."""

    def __init__(self) -> None:
        self.open = {"C1", "C2"}
        self.calls: list[Any] = []

    def generate_challenge(self, template: str, parameters: str) -> str:
        self.calls.append(("generate", template, parameters))
        return "C3"

    def verify_request(
        self, request: bytes, signer: bytes | None, template: str, transaction_id: str
    ) -> bool:
        self.calls.append(("verify", signer, template, transaction_id))
        return pyscep.pkcs10.read(request).challenge_password in self.open

    def notify(
        self, challenge: str, transaction_id: str, disposition: Disposition,
        last_hresult: int, certificate: bytes | None,
    ) -> None:
        self.calls.append(("notify", challenge, disposition, last_hresult, certificate is None))
        if disposition is Disposition.SUCCESS:
            self.open.discard(challenge)


def test_a_policy_module_of_ndes(tmp_path: Path) -> None:
    module = Module()
    provider = ndes_policy(module, store_in(tmp_path), template="Device")
    setting = Setting(tmp_path, challenge=provider, profiles=Profile(san_types=("dns",)))
    assert setting.ca.new_challenge() == "C3"
    first = setting.certificate("C1", transaction_id="9")
    assert module.calls == [
        ("generate", "Device", ""),
        ("verify", None, "Device", "9"),
        ("notify", "C1", Disposition.SUCCESS, 0, False),
    ]
    assert module.open == {"C2"}
    assert setting.certificate("C1") == first, "a lost reply, though the module has spent it"
    setting.refuses(lambda: setting.enroll("C1", key=other()), "spent for another key")
    assert setting.certificate("C2", key=other())


def test_a_policy_module_hears_of_refusals(tmp_path: Path) -> None:
    module = Module()
    provider = ndes_policy(module, store_in(tmp_path))
    setting = Setting(tmp_path, challenge=provider, profiles=Profile(rsa_bits=(3072, 4096)))
    setting.refuses(lambda: setting.enroll("C1"), "RSA key of 2048 bits")
    assert module.calls[-1] == ("notify", "C1", Disposition.FAILURE, E_FAIL, True)
    assert module.open == {"C1", "C2"}
    provider.notify(Notification(credential="x", outcome="denied", transaction_id="1"))
    assert module.calls[-1] == ("notify", "", Disposition.FAILURE, E_FAIL, True)


# --- the password cache ---------------------------------------------------------------


def test_five_outstanding_for_sixty_minutes(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    cache = PasswordCache(setting.ca.store, now=setting.clock)
    setting.ca = setting.reopen(challenge=cache)
    words = [setting.ca.new_challenge() for _ in range(5)]
    assert all(len(word) == 16 and set(word) <= set("0123456789ABCDEF") for word in words)
    with pytest.raises(PasswordCacheFull, match="full"):
        setting.ca.new_challenge()
    first = setting.certificate(words[0])
    words.append(setting.ca.new_challenge())
    with pytest.raises(PasswordCacheFull):
        setting.ca.new_challenge()
    assert setting.certificate(words[0].lower()) == first
    setting.refuses(lambda: setting.enroll(words[0], key=other()), "spent for another key")
    setting.refuses(lambda: setting.enroll("0" * 16), "unknown password")
    setting.refuses(lambda: setting.enroll("no hex"), "not a password of the cache")
    setting.clock.pass_by(minutes=60)
    setting.refuses(lambda: setting.enroll(words[1], key=other()), "has expired")
    fresh = setting.ca.new_challenge()
    setting.refuses(lambda: setting.enroll(words[1], key=other()), "unknown password")
    setting.certificate(fresh, key=other())
    stored = str(setting.sql("SELECT * FROM challenges"))
    assert not [word for word in (*words, fresh) if word in stored]


def test_passwords_can_be_bound(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=(Profile(), Profile(name="vpn")))
    cache = PasswordCache(setting.ca.store, now=setting.clock, size=2, length=16)
    setting.ca = setting.reopen(challenge=cache)
    word = setting.ca.new_challenge(subject="CN=printer", profile="vpn")
    assert len(word) == 32
    setting.refuses(lambda: setting.enroll(word), "is for another subject")
    setting.certificate(word, subject="CN=printer")
    assert setting.ca.certificates()[0].profile == "vpn"
    with pytest.raises(ValueError, match="is no name"):
        setting.ca.new_challenge(subject="printer")
    brief = setting.ca.new_challenge(lifetime=timedelta(minutes=1))
    setting.clock.pass_by(minutes=1)
    setting.refuses(lambda: setting.enroll(brief, key=other()), "has expired")


def test_single_password_mode(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    cache = PasswordCache(setting.ca.store, now=setting.clock, single=True)
    setting.ca = setting.reopen(challenge=cache)
    word = setting.ca.new_challenge()
    assert word == setting.ca.new_challenge()
    again = PasswordCache(setting.ca.store, single=True)
    assert again.generate() == word, "it stays after a restart"
    setting.certificate(word)
    setting.clock.pass_by(days=300)
    setting.certificate(word, key=other())
    setting.refuses(lambda: setting.enroll("0" * 16, key=other()), "wrong single password")
    assert word not in str(setting.sql("SELECT * FROM challenges"))
    for bound in ({"subject": "CN=a"}, {"sans": ("dns:a",)}, {"lifetime": timedelta(1)}):
        with pytest.raises(ValueError, match="for every name"):
            cache.generate(**bound)  # type: ignore[arg-type]  # the test is about that
    cache.notify(Notification(credential="ndes", outcome="issued", transaction_id="1"))


def test_two_consoles_at_once_do_not_overfill_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    cache = PasswordCache(setting.ca.store)
    made: list[str] = []

    def generate() -> None:
        for _ in range(4):
            try:
                made.append(cache.generate())
            except PasswordCacheFull:
                return

    threads = [threading.Thread(target=generate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 5


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for settings in ({"size": 0}, {"length": 4}, {"lifetime": timedelta(0)}):
        with pytest.raises(ValueError, match="a password cache has"):
            PasswordCache(store, **settings)  # type: ignore[arg-type]  # the test is about that
    with pytest.raises(ValueError, match="lifetime"):
        PasswordCache(store).generate(lifetime=timedelta(0))


def test_several_kinds_at_one_ca(tmp_path: Path) -> None:
    """What became of a request goes to the provider that granted it."""
    heard = []
    module = CallableChallenges(
        lambda request: request.password == "module", store=store_in(tmp_path),
        notify=lambda one: heard.append(one.credential))
    provider = FirstOf(StaticChallenge("static"), module)
    setting = Setting(tmp_path, challenge=provider)
    setting.certificate("static")
    assert heard == []
    setting.certificate("module", key=other())
    assert len(heard) == 1
    setting.refuses(lambda: setting.enroll("x", key=other()), "refused")
