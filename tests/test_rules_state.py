"""Group S of the rules: what counts as the same request, and who may have what.

DECISIONS 1 to 6 give the form: a credential and a key make an issue, the transactionID only
addresses polls, and all refusals up to authorization are one badRequest.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import pyscep
from pyscep.adapters.asgi import ScepApp
from pyscep.ca import Profile
from pyscep.cli.group import pyscep as command
from pyscep.errors import EnrollmentRefused, ProtocolError, SignatureError, TransportError
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.ca_setting import openssl
from tests.cli_lab import listening
from tests.endpoint import FakeServer, answering, client, enroll, issue_at_once
from tests.realm import STATIC, Realm, shape

MANUAL = Profile(approval="manual")
ID = "0123456789ABCDEF0123456789ABCDEF"


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm(tmp_path)


@pytest.fixture
def manual(tmp_path: Path) -> Realm:
    """A CA that leaves each request to somebody's approval."""
    return Realm(tmp_path, profiles=MANUAL)


def device(name: str) -> keys.Party:
    return keys.client(f"device {name}")


# --- the client's moves ---------------------------------------------------------------


@pytest.mark.rule("S01")
def test_s01_states_of_a_client(manual: Realm) -> None:
    # CERT-REQ-PENDING, and CERT-REQ-PENDING again
    pending = manual.enroll(STATIC)
    assert isinstance(pending, pyscep.PendingEnrollment)
    pending = manual.poll(pending)
    assert isinstance(pending, pyscep.PendingEnrollment)
    # CERT-ISSUED, and never anything else afterwards
    certificate = manual.ca.approve(manual.ca.pending()[0].id)
    for _ in range(2):
        assert manual.poll(pending) == pyscep.Success(certificates=(certificate,))
    assert manual.ca.pending() == ()


@pytest.mark.rule("S01")
def test_s01_failure_leads_back_to_nonexistent(realm: Realm) -> None:
    with pytest.raises(EnrollmentRefused):
        realm.enroll("wrong", transaction_id="1")
    # A refusal closes nothing: the same transaction with the right word.
    assert isinstance(realm.enroll(STATIC, transaction_id="1"), pyscep.Success)
    # CERT-ISSUED directly, and there is nothing to poll for.
    assert realm.ca.pending() == ()


@pytest.mark.rule("S01")
def test_s01_pending_after_success_is_refused() -> None:
    """The authority of a server can't answer a look-up with it, nor the client take it."""
    server = FakeServer()
    identity = pyscep.Identity(enroll(server).certificates[0], keys.rsa_key("client"))
    server.answer = answering(status="3")
    serial = identity.certificate.serial_number
    with pytest.raises(ProtocolError, match="PENDING"):
        pyscep.run(client().get_cert(identity, serial), server)


@pytest.mark.rule("S02")
def test_s02_poll_keeps_the_transaction_id() -> None:
    server = FakeServer(answering(status="3"))
    pending = enroll(server)
    key = keys.rsa_key("client")
    for _ in range(2):
        pending = pyscep.run(client().poll(pending, key), server)
    types = [one.message_type for one in server.messages]
    assert types == ["19", "20", "20"]
    assert {one.transaction_id for one in server.messages} == {pending.transaction_id}
    assert len({one.sender_nonce for one in server.messages}) == 3
    # RFC 8894 section 4.4: same signer, same recipient.
    assert len({one.signer_certificate for one in server.messages}) == 1
    restored = pyscep.PendingEnrollment.from_json(pending.to_json())
    pyscep.run(client().poll(restored, key), server)
    assert server.messages[-1].transaction_id == server.messages[0].transaction_id


@pytest.mark.rule("S03")
def test_s03_polls_are_counted() -> None:
    server = FakeServer(answering(status="3"))
    pending = enroll(server)
    assert pending.polls == 0
    again = pyscep.run(client().poll(pending, keys.rsa_key("client")), server)
    again = pyscep.PendingEnrollment.from_json(again.to_json())
    assert again.polls == 1
    assert again.requested_at == pending.requested_at


@pytest.mark.parametrize(("polls", "expected"), [(0, 1), (1, 2)])
@pytest.mark.rule("S03")
def test_s03_limit_of_polls(manual: Realm, tmp_path: Path, polls: int, expected: int) -> None:
    """Pending after the last poll is exit code 5, and there is no further request."""
    posts: list[str] = []

    def authority(request: Any) -> Any:
        posts.append(request.message.message_type.name)
        return manual.ca(request)

    with listening(ScepApp(manual.ca.server(), authority)) as origin:
        words = ["enroll", f"{origin}/scep", "--trust-on-first-use",
                 "--key", str(tmp_path / "k.pem"), "--out", str(tmp_path / "c.pem"),
                 "--subject", "CN=device", "--challenge", STATIC,
                 "--poll-interval", "1", "--max-polls", str(polls)]
        found = CliRunner().invoke(command, words)
    assert found.exit_code == 5, (found.stdout, found.stderr)
    assert posts == ["PKCS_REQ", "CERT_POLL"][:expected]
    assert not (tmp_path / "c.pem").exists()


@pytest.mark.rule("S03")
def test_s03_limit_of_time(manual: Realm) -> None:
    """The server forgets what nobody decides on within seven days."""
    pending = manual.enroll(STATIC)
    manual.clock.pass_by(days=7)
    assert isinstance(manual.poll(pending), pyscep.PendingEnrollment)
    manual.clock.pass_by(seconds=1)
    assert manual.ca.pending() == ()
    manual.refuses(lambda: manual.poll(pending), "nobody decided in time")


@pytest.mark.rule("S04")
def test_s04_no_response_ends_the_transaction(realm: Realm) -> None:
    key = keys.rsa_key("client")
    for lost in ("request", "reply"):
        flow = realm.client.enroll(key, realm.request(STATIC, key=key))
        posted = flow.send(realm.send(flow.send(realm.send(next(flow)))))
        if lost == "reply":
            realm.send(posted)
        with pytest.raises(TransportError, match="nothing came"):
            flow.throw(TransportError("nothing came back"))
        with pytest.raises(StopIteration):
            next(flow)
    first = int(realm.serials[0], 16)
    assert realm.certificate(STATIC, key=key).serial_number == first


@pytest.mark.rule("S05")
def test_s05_recovery_starts_a_new_transaction() -> None:
    server = FakeServer(answering(status="2"))
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password="secret")
    for wanted in (None, None, "stored-ID-1"):
        with pytest.raises(EnrollmentRefused):
            pyscep.run(client().enroll(key, csr, transaction_id=wanted), server)
    ids = [one.transaction_id for one in server.messages]
    assert len(set(ids)) == 3
    assert ids[2] == "stored-ID-1"


# --- polls at the server --------------------------------------------------------------


@pytest.mark.rule("S06")
def test_s06_poll_needs_a_transaction(manual: Realm) -> None:
    manual.denies(manual.poll_message(ID), "no request under this transactionID")
    assert manual.post(manual.message(transaction_id=ID)).status == "3"
    assert manual.post(manual.poll_message(ID)).status == "3"
    manual.denies(manual.poll_message(ID[::-1]), "no request under this transactionID")
    manual.denies(manual.poll_message(ID.lower()), "no request under this transactionID")


@pytest.mark.parametrize("decided", [False, True])
@pytest.mark.rule("S07")
def test_s07_poll_by_another_key(manual: Realm, decided: bool) -> None:
    manual.post(manual.message(transaction_id=ID))
    if decided:
        manual.ca.approve(manual.ca.pending()[0].id)
    thief = keys.client("thief")
    # Names, transactionID, issuer and serial number of the right one's certificate; another key.
    copied = keys.party("CN=device,O=Lab", keys.rsa_key("thief"), serial=keys.client().serial)
    replies = [
        manual.denies(manual.poll_message(tid, signer=signer), "no request under")
        for signer in (thief, copied) for tid in (ID, "F" * 32)]
    assert shape(replies[0]) == shape(replies[1])
    assert shape(replies[2]) == shape(replies[3])
    assert manual.post(manual.poll_message(ID)).status == ("0" if decided else "3")


@pytest.mark.rule("S08")
def test_s08_repeat_while_pending_is_one_entry(manual: Realm) -> None:
    for _ in range(3):
        assert manual.post(manual.message(transaction_id=ID)).status == "3"
    # Another transaction of the same key with the same credential is the same request too.
    assert manual.post(manual.message(transaction_id="2")).status == "3"
    (attempt,) = manual.ca.pending()
    manual.ca.approve(attempt.id)
    serials = {manual.serial(manual.poll_message(tid)) for tid in (ID, "2")}
    assert len(serials) == 1
    assert len(manual.serials) == 1


# --- the same request again -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["static", "once"])
@pytest.mark.rule("S09")
def test_s09_repeat_gets_the_same_certificate(realm: Realm, kind: str) -> None:
    word = STATIC if kind == "static" else realm.ca.new_challenge()
    message = realm.message(word, transaction_id=ID)
    first = realm.serial(message)
    assert realm.serial(message) == first, "byte for byte the same message"
    assert realm.serial(realm.message(word, transaction_id=ID)) == first
    assert realm.serial(realm.message(word, transaction_id="other")) == first
    realm.clock.pass_by(minutes=19, seconds=59)
    assert realm.serial(realm.message(word)) == first
    assert len(realm.serials) == 1


@pytest.mark.rule("S09")
def test_s09_envelope_is_fresh_and_for_the_present_signer(realm: Realm) -> None:
    message = realm.message()
    replies = [realm.post(message) for _ in range(2)]
    opened = [one.open(message.signer) for one in replies]
    assert opened[0].plaintext == opened[1].plaintext
    assert opened[0].ciphertext != opened[1].ciphertext
    gateway = keys.client("gateway")
    relayed = realm.message(signer=gateway, key=keys.rsa_key("client"))
    assert realm.post(relayed).open(gateway).plaintext == opened[0].plaintext


@pytest.mark.rule("S09")
def test_s09_window_ends(realm: Realm) -> None:
    """DECISIONS 1: after 20 minutes, or with another credential, on its own merits."""
    first = realm.serial(realm.message())
    assert realm.serial(realm.message(realm.ca.new_challenge())) != first
    realm.clock.pass_by(minutes=20)
    assert realm.serial(realm.message()) != first
    assert len(realm.serials) == 3


@pytest.mark.rule("S10")
def test_s10_pending_transaction_is_not_for_another_key(manual: Realm) -> None:
    manual.post(manual.message(transaction_id=ID))
    other = device("other")
    manual.denies(
        manual.message(transaction_id=ID, signer=other), "another key's request is pending")
    # Signed by the same key but for another one: no.
    manual.denies(
        manual.message(transaction_id=ID, key=keys.rsa_key("another")),
        "another key's request is pending")
    assert manual.post(manual.message(transaction_id="2", signer=other)).status == "3"
    assert len(manual.ca.pending()) == 2


@pytest.mark.rule("S10")
def test_s10_decided_transaction_belongs_to_nobody(realm: Realm) -> None:
    """DECISIONS 2: IDs like "0" collide between clients. Each gets its own certificate."""
    first = realm.message(transaction_id="0")
    second = realm.message(transaction_id="0", signer=device("other"))
    issued = [realm.post(one).open(one.signer).certificates[0] for one in (first, second)]
    assert issued[0].serial_number != issued[1].serial_number
    for certificate, message in zip(issued, (first, second), strict=True):
        assert keys.spki(certificate.public_key()) == keys.spki(message.signer.key)


def at_once(realm: Realm, messages: list[forge.Forge]) -> list[forge.Message]:
    """Replies to messages that threads send at the same time."""
    server = realm.ca.server(on_event=realm.events.append)
    bodies = [one.build() for one in messages]
    barrier = threading.Barrier(len(bodies))

    def send(body: bytes) -> forge.Message:
        barrier.wait(20)
        request = pyscep.HttpRequest(method="POST", path="/scep", body=body)
        return forge.read_message(server.handle(request, realm.ca).body)

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(send, bodies))


@pytest.mark.rule("S11")
def test_s11_parallel_equal_requests_issue_once(realm: Realm) -> None:
    message = realm.message()
    replies = at_once(realm, [message] * 6)
    assert [one.status for one in replies] == ["0"] * 6
    serials = {one.open(message.signer).certificates[0].serial_number for one in replies}
    assert len(serials) == 1
    assert len(realm.serials) == 1


@pytest.mark.rule("S11")
def test_s11_parallel_equal_requests_wait_once(manual: Realm) -> None:
    replies = at_once(manual, [manual.message(transaction_id=ID)] * 6)
    assert [one.status for one in replies] == ["3"] * 6
    assert len(manual.ca.pending()) == 1


@pytest.mark.rule("S12")
def test_s12_approval_and_denial(manual: Realm) -> None:
    other = device("other")
    manual.post(manual.message(transaction_id="1"))
    manual.post(manual.message(transaction_id="2", signer=other))
    first, second = manual.ca.pending()
    certificate = manual.ca.approve(first.id)
    manual.ca.deny(second.id, "not on the list")
    assert manual.serial(manual.poll_message("1")) == certificate.serial_number
    # Polling with a new PKCSReq, as some clients do.
    assert manual.serial(manual.message(transaction_id="1")) == certificate.serial_number
    manual.denies(manual.poll_message("2", signer=other), "not on the list")
    for tid in ("2", "3"):
        manual.denies(manual.message(transaction_id=tid, signer=other), "not on the list")
    assert len(manual.serials) == 1


# --- challenges -----------------------------------------------------------------------


@pytest.mark.rule("S13")
def test_s13_one_time_challenge_enrolls_one_key(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    word = realm.ca.new_challenge()
    realm.serial(realm.message(word, transaction_id="1"))
    caplog.clear()
    realm.denies(
        realm.message(word, transaction_id="2", signer=device("other")), "is spent")
    assert "spent challenge was used again" in caplog.text
    # Also under the ID of the first, or by its signer for another key.
    realm.denies(realm.message(word, transaction_id="1", signer=device("other")), "is spent")
    realm.denies(realm.message(word, key=keys.rsa_key("another")), "is spent")


@pytest.mark.rule("S14")
def test_s14_redelivery_is_no_reuse(realm: Realm, caplog: pytest.LogCaptureFixture) -> None:
    word = realm.ca.new_challenge()
    serials = {realm.serial(realm.message(word, transaction_id=tid)) for tid in ("1", "1", "2")}
    realm.clock.pass_by(minutes=59)
    serials.add(realm.serial(realm.message(word)))
    assert len(serials) == 1
    assert caplog.text == ""


@pytest.mark.rule("S15")
def test_s15_expired_challenge(realm: Realm) -> None:
    early, late = realm.ca.new_challenge(), realm.ca.new_challenge()
    realm.clock.pass_by(minutes=59, seconds=59)
    realm.serial(realm.message(early))
    realm.clock.pass_by(seconds=1)
    realm.denies(realm.message(late, signer=device("other")), "has expired")
    # Neither does the one that was used give anything any more.
    realm.denies(realm.message(early), "has expired")


@pytest.mark.rule("S16")
def test_s16_race_for_one_challenge(realm: Realm) -> None:
    word = realm.ca.new_challenge()
    racers = [device(str(number)) for number in range(4)]
    replies = at_once(realm, [realm.message(word, signer=one) for one in racers])
    assert sorted(one.status or "" for one in replies) == ["0", "2", "2", "2"]
    assert len(realm.serials) == 1


@pytest.mark.parametrize("challenge", [None, ""])
@pytest.mark.rule("S17")
def test_s17_no_challenge(tmp_path: Path, challenge: str | None) -> None:
    realm = Realm(tmp_path)
    realm.denies(realm.message(challenge), "no challenge")
    realm.ca = realm.reopen(profiles=Profile(challenge="optional"))
    message = realm.message(challenge, transaction_id=ID)
    assert realm.post(message).status == "3"
    assert realm.serials == []
    realm.ca.approve(realm.ca.pending()[0].id)
    assert realm.post(message).status == "0"
    # A wrong word is not the same as none.
    realm.denies(realm.message("wrong", signer=device("other")), "challenge")


# --- who signs, and what --------------------------------------------------------------


@pytest.mark.parametrize("message_type", ["19", "17"])
@pytest.mark.rule("S18")
def test_s18_self_signed_certificate_never_authenticates(realm: Realm, message_type: str) -> None:
    issued = realm.identity(STATIC)
    names = issued.certificate.subject.public_bytes()
    for subject, serial in ((realm.party.subject, realm.party.serial),
                            (names, issued.certificate.serial_number)):
        key = keys.rsa_key("thief")
        thief = keys.Party(key, keys.certificate(subject, key, serial=serial))
        expected = "self-signed" if message_type == "17" else "no challenge"
        realm.denies(realm.message(None, signer=thief, message_type=message_type), expected)
    # With a challenge it is an ordinary enrollment.
    assert realm.post(realm.message(signer=keys.client("thief"))).status == "0"


@pytest.mark.parametrize("message_type", ["19", "17"])
@pytest.mark.rule("S18")
def test_s18_certificate_that_only_claims_our_ca(realm: Realm, message_type: str) -> None:
    """Issuer name and serial number of an issued certificate, signed by the thief."""
    issued = realm.identity(STATIC)
    key = keys.rsa_key("thief")
    false_ca = keys.Party(key, realm.party.der)
    thief = keys.party(
        "CN=device,O=Lab", key, issuer=false_ca, serial=issued.certificate.serial_number)
    assert thief.issuer == realm.party.subject
    realm.denies(
        realm.message(None, signer=thief, message_type=message_type), "not issued to a client")


@pytest.mark.rule("S19")
def test_s19_signature_of_the_csr(realm: Realm) -> None:
    """DECISIONS 6: one badRequest on the wire; the event has the reason."""
    key = keys.rsa_key("client")
    realm.denies(
        realm.message(request=keys.csr(key, challenge=STATIC, flip=True)), "signature")
    # Somebody else's public key, signed with one's own.
    stolen = keys.csr(keys.rsa_key("victim"), challenge=STATIC, signing_key=key)
    realm.denies(realm.message(request=stolen), "signature")
    assert realm.post(realm.message(request=keys.csr(key, challenge=STATIC))).status == "0"


@pytest.mark.rule("S20")
def test_s20_signer_key_and_csr_key(tmp_path: Path) -> None:
    """DECISIONS 4: they may differ, unless the profile says signer_key="csr"."""
    realm = Realm(tmp_path)
    gateway = keys.client("gateway")
    relayed = realm.message(signer=gateway, key=keys.rsa_key("client"))
    reply = realm.post(relayed)
    (certificate,) = reply.open(gateway).certificates
    assert keys.spki(certificate.public_key()) == keys.spki(keys.rsa_key("client"))
    realm.ca = realm.reopen(profiles=Profile(signer_key="csr"))
    realm.denies(
        realm.message(signer=gateway, key=keys.rsa_key("another")), "another key")
    assert realm.post(realm.message(signer=gateway)).status == "0"


@pytest.mark.rule("S20")
def test_s20_captured_envelope_signed_again(tmp_path: Path) -> None:
    """Whoever re-signs it with signer_key="csr" gets nothing, and the challenge is not spent."""
    realm = Realm(tmp_path, profiles=Profile(signer_key="csr"))
    word = realm.ca.new_challenge()
    captured = realm.message(word)
    stolen = captured.but(signer=keys.client("thief"), content=captured.octets, envelope=None)
    realm.denies(stolen, "another key")
    assert realm.post(captured).status == "0"


@pytest.mark.rule("S21")
def test_s21_subject_of_the_self_signed_certificate(realm: Realm) -> None:
    """Windows signs as "CN=SCEP Protocol Certificate"; the CSR's subject counts."""
    signer = keys.party("CN=SCEP Protocol Certificate", keys.rsa_key("client"))
    message = realm.message(signer=signer)
    (certificate,) = realm.post(message).open(signer).certificates
    assert certificate.subject.public_bytes() == keys.client().subject
    equal = realm.message(signer=device("same subject"), subject="CN=device,O=Lab")
    assert realm.post(equal).status == "0"


# --- whom a client believes -----------------------------------------------------------


def stranger(subject: str = "CN=Forge CA,O=Lab") -> keys.Party:
    """A CA with the right names and another key."""
    key = keys.rsa_key("stranger")
    return keys.party(subject, key, serial=1, extensions=(
        keys.basic_constraints(True),
        keys.key_usage("digitalSignature", "keyEncipherment", "keyCertSign", "cRLSign"),
        keys.subject_key_identifier(key)))


@pytest.mark.parametrize("status", ["0", "2", "3"])
@pytest.mark.parametrize("kind", ["stranger", "unsigned", "flipped", "plain text"])
@pytest.mark.rule("S22")
def test_s22_forged_verdict_is_no_verdict(status: str, kind: str) -> None:
    def answer(request: forge.Message, opened: Any) -> forge.Forge:
        reply = answering(status=status)(request, opened)
        return {
            "stranger": lambda: reply.but(signer=stranger()),
            "unsigned": lambda: reply.but(signer_infos=0),
            "flipped": lambda: reply.but(signature_value=bytes(256)),
            "plain text": lambda: reply.but(outer_type="1.2.840.113549.1.7.1"),
        }[kind]()

    with pytest.raises(ProtocolError):
        enroll(answer)


@pytest.mark.rule("S22")
def test_s22_signed_failure_ends_it() -> None:
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info="1"))
    assert caught.value.fail_info is pyscep.FailInfo.BAD_MESSAGE_CHECK
    assert not isinstance(caught.value, ProtocolError)


def with_ra(answer: Any) -> FakeServer:
    bag = forge.certs_only((keys.ra().der, keys.ca().der))
    return FakeServer(answer, ca_reply=("application/x-x509-ca-ra-cert", bag),
                      recipients=(keys.ra(), keys.ca()))


@pytest.mark.parametrize("server", [keys.ra(), keys.ca()], ids=["RA", "CA"])
@pytest.mark.rule("S23")
def test_s23_cert_rep_signed_by_ra_or_ca(server: keys.Party) -> None:
    assert enroll(with_ra(answering(server=server))).certificates


def named_as_ra() -> keys.Party:
    """An RA by its names, of nobody's making."""
    fake = stranger()
    return keys.Party(keys.rsa_key("stranger"), keys.certificate(
        keys.ra().subject, keys.rsa_key("stranger"), issuer=fake, serial=keys.ra().serial))


def device_of_the_ca() -> keys.Party:
    """A certificate that the CA did issue: to a device."""
    key = keys.rsa_key("device with certificate")
    usage = keys.extension("2.5.29.37", asn1.seq(asn1.oid("1.3.6.1.5.5.7.3.2")))
    return keys.party("CN=a device", key, issuer=keys.ca(), extensions=(
        keys.key_usage("digitalSignature", "keyEncipherment"), usage))


@pytest.mark.parametrize("make", [stranger, named_as_ra, device_of_the_ca, keys.client])
@pytest.mark.parametrize("in_bag", [False, True])
@pytest.mark.rule("S23")
def test_s23_cert_rep_signed_by_somebody_else(make: Any, in_bag: bool) -> None:
    """Even if its certificate stands in the unauthenticated GetCACert answer."""
    signer = make()
    server = with_ra(answering(signer=signer, certificates=None))
    server.answer = lambda request, opened: issue_at_once(request, opened).but(signer=signer)
    if in_bag:
        bag = (keys.ra().der, keys.ca().der, signer.der)
        server.ca_reply = ("application/x-x509-ca-ra-cert", forge.certs_only(bag))
    with pytest.raises(SignatureError):
        enroll(server)


@pytest.mark.parametrize("sid", ["issuer", "ski"])
@pytest.mark.rule("S24")
def test_s24_cert_rep_without_certificates(sid: str) -> None:
    def answer(request: forge.Message, opened: Any) -> forge.Forge:
        return issue_at_once(request, opened).but(signer=keys.ra(), certificates=(), sid=sid)

    assert enroll(with_ra(answer)).certificates


@pytest.mark.rule("S24")
def test_s24_sid_that_nobody_has() -> None:
    unknown = asn1.seq(keys.ca().subject, asn1.integer(999))
    for bag in ((), None):
        with pytest.raises(SignatureError):
            enroll(lambda request, opened, bag=bag: issue_at_once(request, opened).but(
                sid=unknown, certificates=bag))


@pytest.mark.rule("S25")
def test_s25_issued_certificate_is_from_the_pinned_ca(tmp_path: Path) -> None:
    good = enroll(issue_at_once).certificates[0]
    for name, data in (("ca", keys.ca().pem), ("leaf", good.public_bytes(keys.Encoding.PEM))):
        (tmp_path / name).write_bytes(data)
    openssl("verify", "-CAfile", tmp_path / "ca", tmp_path / "leaf")

    def answer(issuer: keys.Party, request: forge.Message, opened: Any) -> forge.Forge:
        return forge.cert_rep(request, certificates=(keys.issue(issuer, opened.plaintext),))

    for issuer in (stranger(), stranger("CN=Other CA"), device_of_the_ca(), keys.ra()):
        with pytest.raises(SignatureError):
            enroll(partial(answer, issuer))
