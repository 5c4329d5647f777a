"""First enrollments: challenges, what counts as the same request, approval."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import pyscep
from pyscep.ca import FirstOf, OneTimeChallenges, Profile, StaticChallenge, Store
from pyscep.ca.authorizer import Authorized
from pyscep.ca.ledger import KEPT_REFUSALS
from tests import devices, forge
from tests import forge_keys as keys
from tests.ca_setting import START, Clock, Setting, ask, ca_identity, openssl, write_pem

MANUAL = Profile(approval="manual")
OPEN = Profile(challenge="optional")


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path, static_challenge="static-secret")


def key(name: str = "other") -> Any:
    return keys.rsa_key(name)


# --- challenges ------------------------------------------------------------------------


def test_enrolls_with_one_time_challenge_and_openssl_agrees(
    setting: Setting, tmp_path: Path
) -> None:
    certificate = setting.certificate(setting.ca.new_challenge())
    leaf = write_pem(tmp_path / "leaf.pem", [certificate])
    root = write_pem(tmp_path / "root.pem", setting.ca.ca_certificates)
    at = str(int(setting.clock().timestamp()))
    said = openssl("verify", "-x509_strict", "-attime", at, "-CAfile", root, leaf)
    assert said.strip().endswith("OK")
    text = openssl("x509", "-in", leaf, "-noout", "-text")
    assert "Subject: O = Lab, CN = device" in text
    assert "CA:FALSE" in text
    assert "TLS Web Client Authentication" in text
    assert "Not Before: Feb 28 12:00:00 2026" in text, "backdated by 24 hours"
    assert "Not After : Mar  1 12:00:00 2027" in text
    serial = openssl("x509", "-in", leaf, "-noout", "-serial").strip()
    assert serial == f"serial={setting.serials[0].upper()}"
    assert len(serial) == len("serial=") + 40, "20 octets"


@pytest.mark.rule("S09")
def test_s09_s14_repeat_gets_the_same_certificate(setting: Setting) -> None:
    """The reply was lost: same challenge and key again, not a reuse of the challenge."""
    word = setting.ca.new_challenge()
    first = setting.certificate(word)
    setting.clock.pass_by(minutes=59)
    assert setting.certificate(word) == first
    assert len(setting.serials) == 1


@pytest.mark.rule("S13")
def test_s13_challenge_is_spent_once(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    word = setting.ca.new_challenge()
    setting.certificate(word)
    with caplog.at_level(logging.WARNING, "pyscep.ca"):
        setting.refuses(lambda: setting.enroll(word, key=key()), "spent for another key")
    assert "used again" in caplog.text
    assert word not in caplog.text
    assert len(setting.serials) == 1


@pytest.mark.rule("S15")
def test_s15_expired_challenge(setting: Setting) -> None:
    word = setting.ca.new_challenge()
    setting.clock.pass_by(minutes=60)
    setting.refuses(lambda: setting.enroll(word), "has expired")
    brief = setting.ca.new_challenge(lifetime=timedelta(minutes=1))
    setting.clock.pass_by(seconds=59)
    setting.certificate(brief)


@pytest.mark.rule("S15")
def test_s15_no_redelivery_once_the_challenge_has_expired(setting: Setting) -> None:
    word = setting.ca.new_challenge()
    setting.certificate(word)
    setting.clock.pass_by(minutes=61)
    setting.refuses(lambda: setting.enroll(word), "has expired")


def test_wrong_then_right_enrolls(setting: Setting) -> None:
    """DECISIONS 2: a refusal closes nothing, not even under the same transactionID."""
    word = setting.ca.new_challenge()
    setting.refuses(lambda: setting.enroll("wrong", transaction_id="7"), "wrong static challenge")
    first = setting.certificate(word, transaction_id="7")
    rows = setting.sql("SELECT state, transaction_id, reason FROM attempts ORDER BY id")
    assert [row[:2] for row in rows] == [("refused", "7"), ("issued", "7")]
    assert first.serial_number == int(setting.serials[0], 16)


def test_one_transaction_serves_enrollment_and_renewals(setting: Setting) -> None:
    """DECISIONS 2: the measured clients derive the ID from their key and keep it."""
    identity = setting.identity("static-secret", transaction_id="0")
    renewed = setting.renew(identity, transaction_id="0").certificates[0]
    again = setting.renew(identity, transaction_id="0").certificates[0]
    assert renewed == again != identity.certificate
    assert setting.certificate("static-secret", transaction_id="0") == identity.certificate
    assert len(setting.serials) == 2


def test_static_challenge_window(setting: Setting) -> None:
    """DECISIONS 1: 20 minutes with a reusable credential; then a request on its own merits."""
    first = setting.certificate("static-secret")
    setting.clock.pass_by(minutes=19)
    assert setting.certificate("static-secret") == first
    setting.clock.pass_by(minutes=1)
    second = setting.certificate("static-secret")
    assert second != first
    assert setting.certificate("static-secret") == second


def test_same_key_with_another_credential_is_a_new_request(setting: Setting) -> None:
    first = setting.certificate(setting.ca.new_challenge())
    assert setting.certificate(setting.ca.new_challenge()) != first


@pytest.mark.rule("S17")
def test_s17_no_challenge_is_refused(setting: Setting) -> None:
    setting.refuses(lambda: setting.enroll(None), "no challenge")
    setting.refuses(lambda: setting.enroll(""), "no challenge")


def test_empty_store_enrolls_nobody(tmp_path: Path) -> None:
    """SECURITY 1.1: not one challenge has been made, so nobody gets in."""
    setting = Setting(tmp_path)
    for word in (None, "", "x", "a" * 13 + "-" + "a" * 32):
        setting.refuses(lambda word=word: setting.enroll(word), "challenge")
    assert setting.serials == []


@pytest.mark.rule("M05")
@pytest.mark.parametrize("wrong", ["Static-secret", "static-secret ", "static-secre", "x"])
def test_m05_static_challenge_is_compared_exactly(setting: Setting, wrong: str) -> None:
    setting.refuses(lambda: setting.enroll(wrong), "wrong static challenge")


def test_wrong_secrets_burn_a_challenge(setting: Setting) -> None:
    word = setting.ca.new_challenge()
    number = word.partition("-")[0]
    for _ in range(5):
        setting.refuses(lambda: setting.enroll(f"{number}-{'a' * 32}"), "wrong secret")
    setting.refuses(lambda: setting.enroll(word), "too many wrong secrets")


def test_four_wrong_secrets_do_not(setting: Setting) -> None:
    word = setting.ca.new_challenge()
    for _ in range(4):
        setting.refuses(lambda: setting.enroll(word[:14] + "a" * 32), "wrong secret")
    setting.certificate(word)


@pytest.mark.parametrize(
    ("bound", "subject", "sans", "other"),
    [
        ({"subject": "CN=device,O=Lab"}, "CN=device,O=Lab", (), None),
        ({"subject": "O=Lab,CN=device"}, "CN=device,O=Lab", (), None),
        ({"subject": "CN=device"}, "CN=device,O=Lab", (), "subject"),
        ({"subject": "CN=admin,O=Lab"}, "CN=device,O=Lab", (), "subject"),
        ({"sans": ["dns:a.test"]}, "CN=device", ("a.test",), None),
        ({"sans": ["dns:a.test"]}, "CN=device", (), "alternative names"),
        ({"sans": ["dns:a.test"]}, "CN=device", ("a.test", "b.test"), "alternative names"),
    ],
)
def test_challenge_bound_to_names(
    setting: Setting, bound: Any, subject: str, sans: tuple[str, ...], other: str | None
) -> None:
    """VU#971035: a challenge for one device is not one for another."""
    from cryptography import x509

    word = setting.ca.new_challenge(**bound)
    names = [x509.DNSName(one) for one in sans]
    if other is None:
        setting.certificate(word, subject=subject, sans=names)
    else:
        setting.refuses(lambda: setting.enroll(word, subject=subject, sans=names), other)


def test_challenge_names_a_profile(tmp_path: Path) -> None:
    profiles = [Profile(), Profile(name="short", validity=timedelta(days=1))]
    setting = Setting(tmp_path, profiles=profiles)
    short = setting.certificate(setting.ca.new_challenge(profile="short"))
    assert short.not_valid_after_utc == setting.clock() + timedelta(days=1)
    with pytest.raises(ValueError, match="none of device, short"):
        setting.ca.new_challenge(profile="root")
    word = setting.ca.new_challenge(profile="short")
    other = setting.reopen(profiles=[Profile()])
    setting.refuses(lambda: setting.enroll(word, ca=other, key=key()), "unknown profile")


@pytest.mark.rule("X05")
def test_x05_challenges_stay_out_of_sight(setting: Setting, caplog: Any) -> None:
    """Not in the database, not in events, not in reprs."""
    word = setting.ca.new_challenge()
    secret = word.partition("-")[2]
    caplog.set_level(logging.DEBUG)
    setting.certificate(word)
    setting.refuses(lambda: setting.enroll(word, key=key()), "spent")
    setting.refuses(lambda: setting.enroll("guess-me"), "wrong")
    setting.enroll("static-secret", key=key("third"))
    setting.ca.close()
    stored = setting.database.read_bytes()
    said = repr(setting.events) + caplog.text + repr(StaticChallenge("static-secret"))
    for hidden in (secret, "static-secret", "guess-me"):
        assert hidden.encode() not in stored
        assert hidden not in said
    assert setting.sql("SELECT length(mac) FROM challenges") == [(32,)]


def test_one_time_challenges_have_the_entropy(tmp_path: Path) -> None:
    drawn: list[int] = []

    def token_bytes(size: int) -> bytes:
        drawn.append(size)
        return bytes(size)

    store = Store(f"sqlite:///{tmp_path / 'db'}")
    provider = OneTimeChallenges(store, token_bytes=token_bytes)
    assert provider.generate() == "a" * 13 + "-" + "a" * 32
    assert drawn == [8, 20]
    with pytest.raises(ValueError, match="positive"):
        provider.generate(lifetime=timedelta(0))
    with pytest.raises(ValueError, match="no name like"):
        provider.generate(subject="no name")
    store.close()


def test_static_challenge_has_no_bindings() -> None:
    provider = StaticChallenge("word")
    assert provider.generate() == "word"
    for more in ({"subject": "CN=a"}, {"sans": ["dns:a"]}, {"profile": "x"},
                 {"lifetime": timedelta(1)}):
        with pytest.raises(ValueError, match="every name"):
            provider.generate(**more)  # type: ignore[arg-type]  # one of several keywords
    with pytest.raises(ValueError, match="empty"):
        StaticChallenge("")
    with pytest.raises(ValueError, match="at least one"):
        FirstOf()


def test_settings_that_contradict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either challenge or static_challenge"):
        Setting(tmp_path, challenge=StaticChallenge("a"), static_challenge="b")
    with pytest.raises(ValueError, match="two profiles"):
        Setting(tmp_path, profiles=[Profile(), Profile()])
    with pytest.raises(ValueError, match="RA that signs"):
        Setting(tmp_path, encryption=ca_identity())


def test_settings_that_contradict_leave_no_connection_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Store] = []
    close = Store.close

    def watched(store: Store) -> None:
        closed.append(store)
        close(store)

    monkeypatch.setattr(Store, "close", watched)
    with pytest.raises(ValueError, match="two profiles"):
        Setting(tmp_path, profiles=[Profile(), Profile()])
    assert len(closed) == 1


# --- who signs -------------------------------------------------------------------------


@pytest.mark.rule("S18")
def test_s18_self_signed_certificate_never_authenticates(setting: Setting) -> None:
    """Not even one with names of the CA and of a certificate that was issued."""
    identity = setting.identity("static-secret")
    stolen = keys.rsa_key("thief")
    party = keys.party("CN=device,O=Lab", stolen, serial=identity.certificate.serial_number)
    thief = pyscep.Identity(party.certificate, stolen)
    setting.refuses(lambda: setting.renew(thief), "self-signed")
    setting.refuses(lambda: setting.renew(thief, message_type="pkcs"), "no challenge")


def test_s18_forged_certificate_with_our_issuer_name(setting: Setting) -> None:
    """Name and serial number of an issued certificate, signed by a key of the thief."""
    identity = setting.identity("static-secret")
    stolen = keys.rsa_key("thief")
    false_ca = keys.Party(stolen, ca_identity().raw.der)
    forged = keys.party(
        "CN=device,O=Lab", stolen, issuer=false_ca, serial=identity.certificate.serial_number)
    thief = pyscep.Identity(forged.certificate, stolen)
    setting.refuses(lambda: setting.renew(thief), "not issued to a client here")
    setting.refuses(
        lambda: setting.renew(thief, message_type="pkcs"), "not issued to a client here")


@pytest.mark.rule("S20")
def test_s20_signer_key_may_differ_unless_the_profile_says_so(tmp_path: Path) -> None:
    """DECISIONS 4: Windows signs with a throw-away key."""
    throw_away = keys.rsa_key("throw away")
    party = keys.party("CN=SCEP Protocol Certificate", throw_away)
    signer = pyscep.Identity(party.certificate, throw_away)
    setting = Setting(tmp_path, static_challenge="static-secret")
    first = setting.certificate("static-secret", signer=signer)
    assert setting.certificate("static-secret") == first, "the device itself fetches it too"
    strict = setting.reopen(profiles=Profile(signer_key="csr"))
    setting.refuses(
        lambda: setting.enroll("static-secret", key=key(), signer=signer, ca=strict),
        "another key")
    setting.enroll("static-secret", key=key(), ca=strict)


@pytest.mark.parametrize(
    "device",
    [
        devices.windows(throw_away_key=True, challenge="static-secret"),
        devices.windows(throw_away_key=False, challenge="static-secret"),
    ],
    ids=["throw-away key", "own key"],
)
def test_windows_enrolls(setting: Setting, device: devices.Device) -> None:
    """Its URI name is no URI: left out, not refused."""
    setting.policy = pyscep.COMPATIBLE
    recipient = keys.Party(ca_identity().private_key, ca_identity().raw.der)
    sent = device.message(recipient)
    response = setting.send(device.http(sent.build()))
    certificate = device.certificate(response, sent, recipient)
    assert "Microsoft" not in str(certificate.extensions)


@pytest.mark.rule("S19")
def test_s19_signature_of_the_csr(setting: Setting) -> None:
    recipient = keys.Party(ca_identity().private_key, ca_identity().raw.der)
    request = keys.csr(keys.rsa_key("client"), challenge="static-secret", flip=True)
    message = forge.pkcs_req(recipient, request=request).build()
    device = devices.micromdm()
    setting.send(device.http(message))
    assert setting.serials == []


@pytest.mark.rule("R11")
def test_r11_ec_signer_is_refused_before_anything_is_issued(setting: Setting) -> None:
    """Nothing can be encrypted to an EC key; no serial number is used up."""
    recipient = keys.Party(ca_identity().private_key, ca_identity().raw.der)
    signer = keys.party("CN=ec", keys.ec_key("device"))
    message = forge.pkcs_req(recipient, signer=signer, challenge="static-secret").build()
    setting.send(devices.micromdm().http(message))
    assert setting.serials == []


def test_only_the_authorizer_authorizes(setting: Setting) -> None:
    with pytest.raises(TypeError, match="only the Authorizer"):
        Authorized(
            credential="static", profile=Profile(), names=None, key=None,  # type: ignore[arg-type]  # refused before they are looked at
            window_ends=setting.clock(), waits=False)


def test_unknown_message_is_refused(setting: Setting) -> None:
    """SECURITY 0.4: what is not known must be the error branch."""
    class Strange:
        message = "neither"

    outcome = setting.ca(Strange())  # type: ignore[arg-type]  # that is the point
    assert outcome == pyscep.Failure(reason="unknown message str")


# --- approval --------------------------------------------------------------------------


@pytest.mark.rule("S12")
def test_s12_approval(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    pending = setting.enroll("static-secret")
    assert isinstance(pending, pyscep.PendingEnrollment)
    assert isinstance(setting.poll(pending), pyscep.PendingEnrollment)
    (attempt,) = setting.ca.pending()
    assert (attempt.subject, attempt.credential, attempt.state) == (
        "CN=device,O=Lab", "static", "pending")
    approved = setting.ca.approve(attempt.id)
    assert setting.ca.pending() == ()
    assert setting.poll(pending).certificates == (approved,)
    assert setting.poll(pending).certificates == (approved,), "delivered again"
    with pytest.raises(LookupError, match="pending"):
        setting.ca.approve(attempt.id)
    with pytest.raises(LookupError, match="pending"):
        setting.ca.deny(attempt.id)


@pytest.mark.rule("S12")
def test_s12_denial(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    pending = setting.enroll("static-secret")
    (attempt,) = setting.ca.pending()
    setting.ca.deny(attempt.id, "not ours")
    setting.refuses(lambda: setting.poll(pending), "denied: not ours")
    setting.refuses(lambda: setting.enroll("static-secret"), "denied: not ours")
    setting.refuses(
        lambda: setting.enroll("static-secret", transaction_id=pending.transaction_id), "denied")
    setting.clock.pass_by(minutes=21)
    assert isinstance(setting.enroll("static-secret"), pyscep.PendingEnrollment)
    assert setting.serials == []


@pytest.mark.rule("S08")
def test_s08_repeat_while_pending(tmp_path: Path) -> None:
    """certmonger polls with a new PKCSReq under the same transactionID."""
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    for _ in range(3):
        setting.enroll("static-secret", transaction_id="77")
    assert len(setting.ca.pending()) == 1
    assert setting.sql("SELECT count(*) FROM attempts") == [(1,)]
    setting.enroll("wrong", transaction_id="77")
    approved = setting.ca.approve(setting.ca.pending()[0].id)
    setting.clock.pass_by(days=6)
    word = "wrong, and expired long ago"
    assert setting.certificate(word, transaction_id="77") == approved
    setting.clock.pass_by(days=2)
    setting.refuses(lambda: setting.enroll(word, transaction_id="77"), "wrong")


def test_one_time_challenge_waits_for_approval_beyond_its_end(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=MANUAL)
    word = setting.ca.new_challenge()
    pending = setting.enroll(word)
    setting.refuses(lambda: setting.enroll(word, key=key()), "spent for another key")
    setting.clock.pass_by(hours=30)
    assert isinstance(
        setting.enroll(word, transaction_id=pending.transaction_id), pyscep.PendingEnrollment)
    approved = setting.ca.approve(setting.ca.pending()[0].id)
    assert setting.poll(pending).certificates == (approved,)
    assert setting.certificate(word, transaction_id=pending.transaction_id) == approved


def test_same_id_and_key_is_a_poll_whatever_the_challenge(tmp_path: Path) -> None:
    """DECISIONS 2; the second challenge stays unspent."""
    setting = Setting(tmp_path, profiles=MANUAL)
    words = [setting.ca.new_challenge() for _ in range(2)]
    setting.enroll(words[0], transaction_id="5")
    setting.ca = setting.reopen(profiles=Profile())
    assert isinstance(setting.enroll(words[1], transaction_id="5"), pyscep.PendingEnrollment)
    assert setting.sql("SELECT count(*) FROM challenges WHERE spent_at IS NULL") == [(1,)]
    assert setting.sql("SELECT count(*) FROM attempts") == [(1,)]


@pytest.mark.rule("S10")
def test_s10_pending_transaction_is_not_for_another_key(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    setting.enroll("static-secret", transaction_id="0")
    setting.refuses(
        lambda: setting.enroll("static-secret", key=key(), transaction_id="0"), "another key")


def test_same_id_after_the_decision_is_nobodys(setting: Setting) -> None:
    """DECISIONS 2: IDs like "0" collide between clients."""
    first = setting.certificate("static-secret", transaction_id="0")
    assert setting.certificate("static-secret", key=key(), transaction_id="0") != first


def test_same_request_from_several_places_waits_once(tmp_path: Path) -> None:
    """Another transactionID or signer, same credential and key: one decision, all polled."""
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    polled = [setting.enroll("static-secret") for _ in range(7)]
    (attempt,) = setting.ca.pending()
    assert setting.sql("SELECT count(*) FROM attempts") == [(5,)]
    approved = setting.ca.approve(attempt.id)
    for pending in polled[:5]:
        assert setting.poll(pending).certificates == (approved,)
    assert len(setting.serials) == 1


def test_same_request_under_another_signer_key(tmp_path: Path) -> None:
    """A throw-away signer key for each attempt: each can poll, and one decision serves all."""
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    throw_away = keys.rsa_key("throw away")
    party = keys.party("CN=SCEP Protocol Certificate", throw_away)
    signer = pyscep.Identity(party.certificate, throw_away)
    setting.clock.time = START.now(START.tzinfo)
    first = setting.enroll("static-secret", transaction_id="1")
    second = setting.enroll("static-secret", transaction_id="1", signer=signer)
    setting.enroll("static-secret", transaction_id="2")
    rows = "SELECT count(*) FROM attempts WHERE state = 'pending'"
    assert setting.sql(rows) == [(3,)]
    # The profile is automatic from now on: what waits goes on waiting.
    setting.ca = setting.reopen(profiles=Profile())
    for transaction_id in ("1", "2"):
        outcome = setting.enroll("static-secret", transaction_id=transaction_id)
        assert isinstance(outcome, pyscep.PendingEnrollment)
    assert setting.sql(rows) == [(3,)]
    approved = setting.ca.approve(setting.ca.pending()[0].id)
    assert setting.poll(first).certificates == (approved,)
    assert setting.poll(second, throw_away).certificates == (approved,)


@pytest.mark.rule("S06")
@pytest.mark.rule("S07")
def test_s06_s07_poll_by_another_key_or_id(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    pending = setting.enroll("static-secret")
    ca_party = keys.Party(ca_identity().private_key, ca_identity().raw.der)
    subject = forge.issuer_and_subject(ca_identity().raw.subject, keys.name("CN=device,O=Lab"))

    def poll(signer: keys.Party, transaction_id: str) -> forge.Message:
        message = forge.pkcs_req(
            ca_party, signer=signer, request=subject, message_type="20",
            transaction_id=transaction_id).build()
        return forge.read_message(setting.send(devices.micromdm().http(message)).body)

    own, thief = keys.client("client"), keys.client("thief")
    assert poll(own, pending.transaction_id).status == "3"
    assert poll(own, "unknown").fail_info == "2"
    assert poll(thief, pending.transaction_id).fail_info == "2"
    assert "this key has no request" in (setting.reason or "")
    setting.ca.approve(setting.ca.pending()[0].id)
    assert poll(own, pending.transaction_id).status == "0"
    assert poll(thief, pending.transaction_id).fail_info == "2"


def test_refused_attempt_does_not_hide_the_granted_one(setting: Setting) -> None:
    """A refusal closes nothing: the earlier attempt can still be polled."""
    certificate = setting.certificate("static-secret", transaction_id="9")
    setting.refuses(lambda: setting.enroll("wrong", transaction_id="9"), "wrong")
    outcome = setting.ca(ask(pyscep.CertPoll(issuer=b"", subject=b""), transaction_id="9"))
    assert outcome == pyscep.Success(certificates=(certificate,))


@pytest.mark.rule("S17")
def test_s17_without_challenge_waits_where_the_profile_allows(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=OPEN)
    pending = setting.enroll(None)
    assert isinstance(pending, pyscep.PendingEnrollment), "never issued in silence"
    assert setting.ca.pending()[0].credential == "none"
    assert isinstance(setting.enroll(setting.ca.new_challenge(), key=key()), pyscep.Success)
    setting.refuses(lambda: setting.enroll("wrong", key=key("third")), "unknown")
    approved = setting.ca.approve(setting.ca.pending()[0].id)
    assert setting.poll(pending).certificates == (approved,)


def test_only_what_waited_is_polled_without_challenge(tmp_path: Path) -> None:
    """A certificate that was granted at once is not handed out for a wrong challenge."""
    setting = Setting(tmp_path, profiles=OPEN, static_challenge="static-secret")
    setting.certificate("static-secret", transaction_id="3")
    setting.refuses(lambda: setting.enroll("wrong", transaction_id="3"), "wrong")


def test_approval_gives_what_was_asked_for(tmp_path: Path) -> None:
    from cryptography import x509

    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    setting.enroll("static-secret", sans=[x509.DNSName("a.test")])
    (attempt,) = setting.ca.pending()
    assert attempt.sans == ("dns:a.test",)
    certificate = setting.ca.approve(attempt.id)
    leaf = write_pem(tmp_path / "leaf.pem", [certificate])
    text = openssl("x509", "-in", leaf, "-noout", "-text")
    assert "DNS:a.test" in text
    assert "Subject: O = Lab, CN = device" in text


def test_nobody_decides(tmp_path: Path) -> None:
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    pending = setting.enroll("static-secret")
    setting.clock.pass_by(days=8)
    assert setting.ca.pending() == ()
    setting.refuses(lambda: setting.poll(pending), "nobody decided in time")
    assert isinstance(setting.enroll("static-secret"), pyscep.PendingEnrollment)


def test_pending_requests_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyscep.ca import ledger

    monkeypatch.setattr(ledger, "MAX_PENDING", 1)
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    setting.enroll("static-secret")
    setting.refuses(lambda: setting.enroll("static-secret", key=key()), "too many")


def test_approved_again_after_the_window(tmp_path: Path) -> None:
    """The same request, months later: a new decision and a new certificate."""
    setting = Setting(tmp_path, profiles=MANUAL, static_challenge="static-secret")
    setting.enroll("static-secret")
    first = setting.ca.approve(setting.ca.pending()[0].id)
    setting.clock.pass_by(days=60)
    setting.enroll("static-secret")
    second = setting.ca.approve(setting.ca.pending()[0].id)
    assert first != second


# --- two at once -----------------------------------------------------------------------


@pytest.mark.rule("S11")
def test_s11_parallel_equal_requests_issue_once(setting: Setting) -> None:
    word = setting.ca.new_challenge()
    results = _at_once(setting, [lambda: setting.certificate(word) for _ in range(6)])
    assert len({one.serial_number for one in results}) == 1
    assert len(setting.serials) == 1


@pytest.mark.rule("S16")
def test_s16_concurrent_use_of_one_challenge_issues_once(setting: Setting) -> None:
    word = setting.ca.new_challenge()
    results = _at_once(
        setting,
        [lambda name=name: setting.certificate(word, key=key(name))
         for name in ("client", "other", "third", "thief")])
    assert sum(not isinstance(one, Exception) for one in results) == 1
    assert len(setting.serials) == 1


def _at_once(setting: Setting, calls: list[Any]) -> list[Any]:
    for name in ("client", "other", "third", "thief"):
        keys.rsa_key(name)
    results: list[Any] = []
    barrier = threading.Barrier(len(calls))

    def run(call: Any) -> None:
        barrier.wait()
        try:
            results.append(call())
        except pyscep.EnrollmentRefused as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(calls)
    return results


# --- records ---------------------------------------------------------------------------


def test_refusals_are_kept_but_not_for_ever(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyscep.ca import ledger

    assert KEPT_REFUSALS == 10_000
    monkeypatch.setattr(ledger, "KEPT_REFUSALS", 2)
    setting.refuses(lambda: setting.enroll("wrong"), "wrong")
    setting.sql("UPDATE sqlite_sequence SET seq = 254 WHERE name = 'attempts'")
    setting.refuses(lambda: setting.enroll("wrong"), "wrong")
    assert setting.sql("SELECT id FROM attempts") == [(1,), (255,)]
    setting.refuses(lambda: setting.enroll("wrong"), "wrong")
    assert setting.sql("SELECT id FROM attempts") == [(255,), (256,)]


def test_endpoints_are_kept_apart(setting: Setting) -> None:
    first = setting.certificate("static-secret")
    other = setting.reopen(endpoint="other", profiles=MANUAL)
    assert isinstance(setting.enroll("static-secret", ca=other), pyscep.PendingEnrollment)
    assert setting.ca.pending() == ()
    (attempt,) = other.pending()
    with pytest.raises(LookupError):
        setting.ca.approve(attempt.id)
    assert other.approve(attempt.id) != first


def test_clock_is_the_callers() -> None:
    clock = Clock()
    clock.pass_by(hours=1)
    assert (clock() - Clock()()).total_seconds() == 3600
