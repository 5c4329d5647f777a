"""Group R of the rules: renewal and rollover (RFC 8894 sections 2.3, 4.7 and 5.1).

DECISIONS 5 and 6: every refusal is one badRequest on the wire; why is in the event.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import CertificateAuthority, Profile, RenewalRules, creation
from pyscep.errors import ProtocolError
from pyscep.http import HttpRequest, HttpResponse
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.ca_setting import START, ca_identity, openssl
from tests.endpoint import FakeServer, client, drive, identity
from tests.realm import STATIC, Realm, party_of

TYPES = ["17", "19"]


@pytest.fixture
def realm(tmp_path: Path) -> Realm:
    return Realm(tmp_path)


def with_rules(realm: Realm, **rules: Any) -> None:
    realm.ca = realm.reopen(profiles=Profile(renewal=RenewalRules(**rules)))


def issued(realm: Realm, key_name: str = "client", **request: Any) -> keys.Party:
    """A device with a certificate of this CA."""
    return party_of(realm.identity(STATIC, key=keys.rsa_key(key_name), **request))


def renewal(realm: Realm, old: keys.Party, key_name: str = "renewed", **knobs: Any) -> forge.Forge:
    """A RenewalReq without challenge, signed with the old certificate, for another key."""
    shape = {"message_type": "17", "key": keys.rsa_key(key_name)} | knobs
    return realm.message(None, signer=old, **shape)


def certificate(realm: Realm, message: forge.Forge) -> x509.Certificate:
    reply = realm.post(message)
    assert reply.status == "0", realm.why
    (one,) = reply.open(message.signer).certificates
    return one


@pytest.mark.rule("R01")
def test_r01_signed_with_the_existing_certificate(realm: Realm, tmp_path: Path) -> None:
    old = issued(realm)
    new = certificate(realm, renewal(realm, old))
    assert new.subject == old.certificate.subject
    assert new.serial_number != old.serial
    (tmp_path / "ca").write_bytes(realm.party.pem)
    (tmp_path / "new").write_bytes(new.public_bytes(Encoding.PEM))
    at = str(int(START.timestamp()))
    openssl("verify", "-attime", at, "-CAfile", tmp_path / "ca", tmp_path / "new")


@pytest.mark.rule("R01")
def test_r01_self_signed_signer(realm: Realm) -> None:
    realm.denies(renewal(realm, keys.client()), "self-signed")
    # The challenge that would do for a PKCSReq is not what a RenewalReq goes by.
    realm.denies(renewal(realm, keys.client(), request=keys.csr(
        keys.rsa_key("client"), challenge=STATIC)), "self-signed")


@pytest.mark.parametrize("message_type", TYPES)
@pytest.mark.rule("R02")
def test_r02_reply_is_for_the_old_key(realm: Realm, message_type: str) -> None:
    old = issued(realm)
    message = renewal(realm, old, message_type=message_type)
    reply = realm.post(message)
    opened = reply.open(old)
    (new,) = opened.certificates
    assert keys.spki(new.public_key()) == keys.spki(keys.rsa_key("renewed"))
    assert len(opened.recipients) == 1
    with pytest.raises(AssertionError, match="somebody else"):
        reply.open(keys.Party(keys.rsa_key("renewed"), new.public_bytes(Encoding.DER)))


@pytest.mark.rule("R02")
def test_r02_client_renews_with_a_new_key(realm: Realm) -> None:
    device = realm.identity(STATIC)
    (new,) = realm.renew(device, key=keys.rsa_key("renewed")).certificates
    again = realm.renew(pyscep.Identity(new, keys.rsa_key("renewed")), key=keys.rsa_key("third"))
    assert keys.spki(again.certificates[0].public_key()) == keys.spki(keys.rsa_key("third"))


@pytest.mark.rule("R03")
def test_r03_old_key(realm: Realm) -> None:
    old = issued(realm)
    same = {"key_name": "client"}
    new = certificate(realm, renewal(realm, old, **same))
    assert new.serial_number != old.serial
    with_rules(realm, same_key=False)
    realm.denies(renewal(realm, party_of(pyscep.Identity(new, old.key)), **same), "new key")
    certificate(realm, renewal(realm, old))


@pytest.mark.parametrize("message_type", TYPES)
@pytest.mark.rule("R04")
def test_r04_expired_signer(realm: Realm, message_type: str) -> None:
    old = issued(realm)
    end = old.certificate.not_valid_after_utc
    realm.clock.time = end
    certificate(realm, renewal(realm, old, message_type=message_type))
    realm.clock.time = end + timedelta(seconds=1)
    refused = renewal(realm, old, "later", message_type=message_type)
    realm.denies(refused, "not valid now")
    with_rules(realm, grace=timedelta(days=1))
    certificate(realm, refused)
    realm.clock.time = end + timedelta(days=1, seconds=1)
    realm.denies(renewal(realm, old, "latest", message_type=message_type), "not valid now")


@pytest.mark.rule("R04")
def test_r04_window(realm: Realm) -> None:
    old = issued(realm)
    with_rules(realm, window=timedelta(days=30))
    realm.denies(renewal(realm, old), "too early")
    realm.clock.time = old.certificate.not_valid_after_utc - timedelta(days=30)
    certificate(realm, renewal(realm, old))


@pytest.mark.parametrize("message_type", TYPES)
@pytest.mark.rule("R05")
def test_r05_revoked_signer(realm: Realm, message_type: str) -> None:
    old, other = issued(realm), issued(realm, "other", subject="CN=other,O=Lab")
    realm.ca.revoke(old.serial, "keyCompromise")
    realm.denies(renewal(realm, old, message_type=message_type), "revoked")
    realm.denies(
        renewal(realm, old, "client", message_type=message_type), "revoked")
    certificate(realm, renewal(
        realm, other, message_type=message_type, subject="CN=other,O=Lab"))


def foreign_device(name: str) -> tuple[x509.Certificate, keys.Party]:
    """A CA elsewhere, and a device with a certificate of it."""
    key = keys.rsa_key(name)
    elsewhere = pyscep.Identity(creation.make_ca(
        key, common_name=name, organization=None, validity=timedelta(days=3650),
        now=START - timedelta(days=10), serial_number=17, decrypts=False), key)
    device = keys.party(
        "CN=device,O=Lab", keys.rsa_key("foreign device"), issuer=party_of(elsewhere),
        not_before=START - timedelta(days=1), extensions=(
            keys.key_usage("digitalSignature", "keyEncipherment"),))
    return elsewhere.certificate, device


@pytest.mark.parametrize("message_type", TYPES)
@pytest.mark.rule("R06")
def test_r06_signer_of_another_ca(realm: Realm, message_type: str) -> None:
    elsewhere, device = foreign_device("CA elsewhere")
    message = renewal(realm, device, message_type=message_type)
    realm.denies(message, "unknown CA")
    realm.ca = realm.reopen(trusted_renewal_issuers=(elsewhere,))
    certificate(realm, message)
    # The same rules hold for it: validity, subject.
    realm.denies(renewal(realm, device, subject="CN=root,O=Lab"), "subject")
    realm.clock.time = device.certificate.not_valid_after_utc + timedelta(seconds=1)
    realm.denies(renewal(realm, device, "later"), "not valid now")


@pytest.mark.rule("R06")
def test_r06_listing_is_by_key_not_by_name(realm: Realm) -> None:
    elsewhere, _ = foreign_device("CA elsewhere")
    impostor = keys.Party(
        keys.rsa_key("impostor"), elsewhere.public_bytes(Encoding.DER))
    device = keys.party(
        "CN=device,O=Lab", keys.rsa_key("foreign device"), issuer=impostor,
        not_before=START - timedelta(days=1))
    realm.ca = realm.reopen(trusted_renewal_issuers=(elsewhere,))
    realm.denies(renewal(realm, device), "unknown CA")


@pytest.mark.parametrize("message_type", TYPES)
@pytest.mark.rule("R07")
def test_r07_ca_and_ra_do_not_renew(tmp_path: Path, message_type: str) -> None:
    def ra(usage: str) -> pyscep.Identity:
        key = keys.rsa_key(f"ra of the test {usage}")
        made = creation.make_ra(
            key, ca_identity(), usages=(usage,), now=START, serial_number=len(usage))
        return pyscep.Identity(made, key)

    def sub_ca() -> pyscep.Identity:
        key = keys.rsa_key("intermediate")
        made = creation.make_ca(
            key, common_name="Below", organization=None, validity=timedelta(days=99), now=START,
            serial_number=77, decrypts=True, parent=ca_identity())
        return pyscep.Identity(made, key)

    signing, decrypting = ra("digitalSignature"), ra("keyEncipherment")
    realm = Realm(tmp_path, recipient=signing, encryption=decrypting,
                  trusted_renewal_issuers=(ca_identity().certificate,))
    to = party_of(decrypting)
    for signer in (signing, decrypting, sub_ca(), ca_identity()):
        subject = signer.certificate.subject.public_bytes()
        request = keys.csr(keys.rsa_key("renewed"), subject)
        message = forge.pkcs_req(
            to, signer=party_of(signer), request=request, message_type=message_type)
        realm.denies(message, "")
        assert "renewal" in realm.why or "self-signed" in realm.why or "no challenge" in realm.why
    good = forge.pkcs_req(to, challenge=STATIC)
    assert realm.post(good).status == "0"


@pytest.mark.rule("R07")
def test_r07_nor_does_a_ca_below_a_trusted_one(realm: Realm) -> None:
    elsewhere, _ = foreign_device("CA elsewhere")
    above = keys.Party(keys.rsa_key("CA elsewhere"), elsewhere.public_bytes(Encoding.DER))
    realm.ca = realm.reopen(trusted_renewal_issuers=(elsewhere,))
    for is_ca in (True, False):
        signer = keys.party(
            "CN=device,O=Lab", keys.rsa_key("below"), issuer=above,
            not_before=START - timedelta(days=1), extensions=(keys.basic_constraints(is_ca),))
        if is_ca:
            realm.denies(renewal(realm, signer), "not a device's")
        else:
            certificate(realm, renewal(realm, signer))


@pytest.mark.parametrize("message_type", TYPES)
@pytest.mark.rule("R08")
def test_r08_names_stay_the_same(realm: Realm, message_type: str) -> None:
    san = [x509.DNSName("device.example")]
    old = issued(realm, sans=san)

    def ask(key_name: str, subject: str, *names: str) -> forge.Forge:
        csr = pyscep.pkcs10.create(
            keys.rsa_key(key_name), subject, sans=[x509.DNSName(one) for one in names]).der
        return renewal(realm, old, request=csr, message_type=message_type)

    new = certificate(realm, ask("renewed", "CN=device,O=Lab", "device.example"))
    found = new.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(found) == san
    realm.denies(ask("a", "CN=admin,O=Lab", "device.example"), "subject differs")
    realm.denies(ask("a", "CN=device,O=Lab,OU=x", "device.example"), "subject differs")
    realm.denies(ask("a", "CN=device,O=Lab", "admin.example"), "alternative names differ")
    realm.denies(
        ask("a", "CN=device,O=Lab", "device.example", "b.example"), "alternative names differ")
    with_rules(realm, subject_change=True)
    changed = certificate(realm, ask("a", "CN=admin,O=Lab", "admin.example"))
    assert changed.subject.rfc4514_string() in ("CN=admin,O=Lab", "O=Lab,CN=admin")


@pytest.mark.rule("R09")
def test_r09_pkcs_req_signed_by_an_issued_certificate(realm: Realm) -> None:
    old = issued(realm)
    message = renewal(realm, old, message_type="19")
    certificate(realm, message)
    realm.ca = realm.reopen(legacy_renewal=False)
    refused = renewal(realm, old, "another", message_type="19")
    realm.denies(refused, "no challenge")
    # RenewalReq is not touched by that, nor is a challenge.
    certificate(realm, renewal(realm, old, "another"))
    word = realm.ca.new_challenge()
    certificate(realm, realm.message(word, signer=old, key=keys.rsa_key("fourth")))


@pytest.mark.parametrize(("keywords", "setting", "expected"), [
    (b"SCEPStandard\nRenewal\n", "auto", "17"), (b"SCEPStandard\nRENEWAL\n", "auto", "17"),
    (b"SCEPStandard\n", "auto", "19"), (b"", "auto", "19"),
    (b"SCEPStandard\n", "renewal", "17"), (b"SCEPStandard\nRenewal\n", "pkcs", "19")])
@pytest.mark.rule("R10")
def test_r10_client_sends_17_where_it_is_announced(
    keywords: bytes, setting: Any, expected: str
) -> None:
    server = FakeServer(capabilities=keywords)
    key = keys.rsa_key("client")
    old = pyscep.Identity(
        x509.load_der_x509_certificate(keys.issue(keys.ca(), keys.csr(key))), key)
    new_key = keys.rsa_key("renewed")
    csr = pyscep.pkcs10.create(new_key, "CN=device,O=Lab")
    flow = client(method="post").renew(old, new_key, csr, message_type=setting)
    outcome = drive(flow, server)
    assert keys.spki(outcome.certificates[0].public_key()) == keys.spki(new_key)
    (message,) = server.messages
    assert message.message_type == expected
    assert message.signer_certificate == old.raw.der


@pytest.mark.rule("R11")
def test_r11_ec_certificate_can_not_renew(realm: Realm) -> None:
    """A gateway may enroll an EC key; what it signs itself can't be answered: badAlg."""
    realm.ca = realm.reopen(profiles=Profile(key_algorithms=("rsa", "ec")))
    gateway = keys.client("gateway")
    key = keys.ec_key("device")
    enrolled = realm.message(signer=gateway, request=keys.csr(key, challenge=STATIC))
    (ec_certificate,) = realm.post(enrolled).open(gateway).certificates
    old = keys.Party(key, ec_certificate.public_bytes(Encoding.DER))
    for message_type in TYPES:
        message = renewal(realm, old, message_type=message_type)
        realm.denies(message, "RSA is needed", fail_info="0")
    assert len(realm.serials) == 1


@pytest.mark.rule("R11")
def test_r11_client_does_not_even_ask(realm: Realm) -> None:
    key = keys.ec_key("device")
    old = pyscep.Identity(keys.party("CN=device,O=Lab", key).certificate, key)
    csr = pyscep.pkcs10.create(keys.rsa_key("renewed"), "CN=device,O=Lab")
    with pytest.raises(ValueError, match="RSA"):
        realm.renew(old)
    with pytest.raises(ValueError, match="RSA"):
        next(realm.client.renew(old, keys.rsa_key("renewed"), csr))
    assert realm.last is None


# --- the next CA certificate ----------------------------------------------------------

NEXT = "CN=Next CA,O=Lab"


def next_ca_message(signer: keys.Party | None, **knobs: Any) -> bytes:
    """The answer to GetNextCACert: no pkiMessage, so without SCEP attributes."""
    content = forge.certs_only((keys.ca(NEXT).der,))
    shape = {"content": content, "message_type": None, "transaction_id": None,
             "sender_nonce": None} | knobs
    return forge.Forge(signer=signer or keys.ca(), **shape).build()


def next_of(body: bytes, *, bag: tuple[bytes, ...] | None = None) -> tuple[x509.Certificate, ...]:
    """What a client makes of that answer."""
    current = keys.ca().der if bag is None else forge.certs_only(bag)

    def server(request: HttpRequest) -> HttpResponse:
        following = b"GetNextCACert" in request.query
        return HttpResponse(status=200, body=body if following else current)

    found: tuple[x509.Certificate, ...] = drive(client().get_next_ca_cert(), server)
    return found


@pytest.mark.rule("R12")
def test_r12_signed_by_the_current_ca() -> None:
    assert next_of(next_ca_message(None)) == (keys.ca(NEXT).certificate,)
    assert next_of(next_ca_message(None, certificates=())) == (keys.ca(NEXT).certificate,)


@pytest.mark.parametrize("kind", [
    "next CA", "stranger", "same names", "RA", "flipped", "no signer", "plain", "changed",
    "bare certificate"])
@pytest.mark.rule("R12")
def test_r12_signed_by_somebody_else(kind: str) -> None:
    same_names = keys.Party(keys.rsa_key("same names"), keys.certificate(
        "CN=Forge CA,O=Lab", keys.rsa_key("same names"), serial=1,
        extensions=(keys.basic_constraints(True),)))
    body = {
        "next CA": lambda: next_ca_message(keys.ca(NEXT)),
        "stranger": lambda: next_ca_message(keys.client("thief")),
        "same names": lambda: next_ca_message(same_names),
        "RA": lambda: next_ca_message(keys.ra()),
        "flipped": lambda: next_ca_message(None, signature_value=bytes(256)),
        "no signer": lambda: next_ca_message(None, signer_infos=0),
        "plain": lambda: forge.certs_only((keys.ca(NEXT).der,)),
        "changed": lambda: next_ca_message(None, message_digest=bytes(32)),
        "bare certificate": lambda: keys.ca(NEXT).der,
    }[kind]()
    with pytest.raises(ProtocolError):
        next_of(body, bag=(keys.ca().der, keys.ra().der))


@pytest.mark.rule("R12")
def test_r12_server_signs_with_the_ca_not_the_ra() -> None:
    server = pyscep.Server(
        identity(keys.ra()), ca_certificates=(keys.ca().certificate,), ca_identity=identity(
            keys.ca()), next_ca_certificates=(keys.ca(NEXT).certificate,))
    query = HttpRequest(method="GET", query=b"operation=GetNextCACert")
    body = server.handle(query, lambda _: pyscep.Failure()).body
    message = forge.read_message(body, der=True)
    assert message.signer_certificate == keys.ca().der
    assert message.content == forge.certs_only((keys.ca(NEXT).der,))
    assert message.message_type is None
    found = drive(client().get_next_ca_cert(), lambda asked: server.handle(
        asked, lambda _: pyscep.Failure()))
    assert found == (keys.ca(NEXT).certificate,)


@pytest.mark.parametrize("kind", ["id-data", "id-signedData", "BER", "bare SignedData"])
@pytest.mark.rule("R13")
def test_r13_nesting(kind: str) -> None:
    signed = "1.2.840.113549.1.7.2"
    knobs: dict[str, dict[str, Any]] = {
        "id-data": {},
        "id-signedData": {"econtent_type": signed},
        "BER": {"style": asn1.BER},
        "bare SignedData": {
            "econtent_type": signed,
            "content": forge.certs_only((keys.ca(NEXT).der,), wrap=False)},
    }
    assert next_of(next_ca_message(None, **knobs[kind])) == (keys.ca(NEXT).certificate,)


@pytest.mark.parametrize("content", [b"", b"junk", forge.certs_only(()), keys.ca().der])
@pytest.mark.rule("R13")
def test_r13_nothing_useful_inside(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        next_of(next_ca_message(None, content=content))


@pytest.mark.rule("R13")
def test_r13_certificates_outside_only() -> None:
    """Nothing signs the outer bag: it is never taken for the next CA's certificates."""
    body = next_ca_message(
        None, no_content=True, content=b"", certificates=(keys.ca().der, keys.ca(NEXT).der))
    with pytest.raises(ProtocolError):
        next_of(body)


# --- two CAs at once ------------------------------------------------------------------


class Rollover:
    """An endpoint of the current CA that has the next one's key too."""

    def __init__(self, path: Path, *, active: bool = True) -> None:
        self.current = Realm(path)
        key = keys.rsa_key("next ca under test")
        made = creation.make_ca(
            key, common_name="Next Test CA", organization="Lab", validity=timedelta(days=7300),
            now=START - timedelta(days=1), serial_number=4712, decrypts=True)
        self.identity = pyscep.Identity(made, key)
        self.next = CertificateAuthority.open(
            f"sqlite:///{path}/scep.db", issuer=self.identity, static_challenge=STATIC,
            now=self.current.clock)
        self.server = self.current.ca.server(
            rollover=(self.identity,) if active else (),
            next_ca_certificates=(made,) if active else (),
            on_event=self.current.events.append)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        def authority(asked: pyscep.PkiRequest) -> pyscep.Outcome:
            return self.next(asked) if asked.recipient is self.identity else self.current.ca(asked)

        return self.server.handle(request, authority)

    def post(self, message: forge.Forge) -> forge.Message:
        response = self(HttpRequest(method="POST", path="/scep", body=message.build()))
        return forge.read_message(response.body, der=True)


def verified_by(issuer: pyscep.Identity, message: forge.Forge, reply: forge.Message) -> None:
    (one,) = reply.open(message.signer).certificates
    one.verify_directly_issued_by(issuer.certificate)


@pytest.mark.rule("R14")
def test_r14_enrollment_under_the_next_ca(tmp_path: Path) -> None:
    rollover = Rollover(tmp_path)
    message = forge.pkcs_req(party_of(rollover.identity), challenge=STATIC)
    reply = rollover.post(message)
    assert reply.status == "0"
    verified_by(rollover.identity, message, reply)
    # The reply is still signed by who answers today.
    assert reply.signer_certificate == rollover.current.party.der


@pytest.mark.rule("R14")
def test_r14_client_enrolls_under_the_next_ca(tmp_path: Path) -> None:
    """It pins the next CA first, and the current one beside it, which signs the reply."""
    rollover = Rollover(tmp_path)
    realm = rollover.current
    following = pyscep.run(realm.client.get_next_ca_cert(), rollover)
    one = pyscep.Client("http://ca.test/scep", now=realm.clock, ca_certificates=(
        *following, ca_identity().certificate))
    key = keys.rsa_key("client")
    (issued,) = pyscep.run(one.enroll(key, realm.request(STATIC, key=key)), rollover).certificates
    issued.verify_directly_issued_by(following[0])


@pytest.mark.rule("R14")
def test_r14_without_rollover_there_is_no_recipient(tmp_path: Path) -> None:
    rollover = Rollover(tmp_path, active=False)
    reply = rollover.post(forge.pkcs_req(party_of(rollover.identity), challenge=STATIC))
    assert (reply.status, reply.fail_info) == ("2", "2")
    assert rollover.current.serials == []


@pytest.mark.rule("R15")
def test_r15_current_enrollments_go_on(tmp_path: Path) -> None:
    rollover = Rollover(tmp_path)
    pairs = ((rollover.current.ca.issuer.identity, "one"), (rollover.identity, "two"))
    for issuer, name in (*pairs, *reversed(pairs)):
        message = forge.pkcs_req(
            party_of(issuer), signer=keys.client(name), challenge=STATIC)
        verified_by(issuer, message, rollover.post(message))
    assert len(rollover.current.serials) == 2
    # A client that knows nothing of it enrolls, and renews.
    key = keys.rsa_key("client")
    flow = rollover.current.client.enroll(key, rollover.current.request(STATIC, key=key))
    (first,) = pyscep.run(flow, rollover).certificates
    first.verify_directly_issued_by(ca_identity().certificate)
    new_key = keys.rsa_key("renewed")
    csr = pyscep.pkcs10.create(new_key, "CN=device,O=Lab")
    flow = rollover.current.client.renew(pyscep.Identity(first, key), new_key, csr)
    (second,) = pyscep.run(flow, rollover).certificates
    second.verify_directly_issued_by(ca_identity().certificate)


@pytest.mark.rule("R15")
def test_r15_one_ca_does_not_renew_for_the_other(tmp_path: Path) -> None:
    """Unless the next CA lists the current one as an issuer to migrate from."""
    rollover = Rollover(tmp_path)
    old = party_of(rollover.current.identity(STATIC))
    message = forge.pkcs_req(
        party_of(rollover.identity), signer=old, challenge=None, message_type="17",
        key=keys.rsa_key("renewed"))
    assert rollover.post(message).status == "2"
    rollover.next = CertificateAuthority.open(
        f"sqlite:///{tmp_path}/scep.db", issuer=rollover.identity, now=rollover.current.clock,
        trusted_renewal_issuers=(ca_identity().certificate,))
    verified_by(rollover.identity, message, rollover.post(message))
