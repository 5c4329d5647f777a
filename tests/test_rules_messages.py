"""Group M of the rules: what stands in each message (RFC 8894 section 3.3)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

import pyscep
from pyscep.errors import EnrollmentRefused, ProtocolError
from pyscep.messages import Failure, Pending
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import (
    CHALLENGE,
    Answer,
    Endpoint,
    FakeServer,
    answering,
    client,
    drive,
    enroll,
    issue_at_once,
)

OUT_OF_SCOPE = {
    "M13 (strict warning)": "certificates beside the CRL are overlooked, nobody is warned",
    "M21 (strict)": "there is no strict reader: signed and version-3 forms are read",
}
STRINGS = {"PrintableString": asn1.PRINTABLE, "UTF8String": asn1.UTF8, "BMPString": asn1.BMP,
           "IA5String": asn1.IA5, "T61String": asn1.T61, "UniversalString": asn1.UNIVERSAL,
           "NumericString": asn1.NUMERIC, "VisibleString": asn1.VISIBLE}


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def request(**knobs: Any) -> forge.Forge:
    return forge.pkcs_req(keys.ca(), **knobs)


def own_identity(server: FakeServer) -> pyscep.Identity:
    """An identity that the fake server's CA issued."""
    before = server.answer
    server.answer = issue_at_once
    outcome = enroll(server)
    server.answer = before
    server.messages.clear()
    server.opened.clear()
    return pyscep.Identity(outcome.certificates[0], keys.rsa_key("client"))


# --- PKCSReq and RenewalReq -----------------------------------------------------------


@pytest.mark.rule("M01")
def test_m01_pkcs_req_carries_a_csr(endpoint: Endpoint) -> None:
    server = FakeServer()
    enroll(server)
    (opened,) = server.opened
    asn1.assert_der(opened.plaintext)
    csr = x509.load_der_x509_csr(opened.plaintext)
    assert csr.is_signature_valid
    assert csr.subject.rfc4514_string() in ("O=Lab,CN=device", "CN=device,O=Lab")
    endpoint.enrolls(request())


@pytest.mark.parametrize("message_type", ["19", "17"])
@pytest.mark.parametrize("data", [
    os.urandom(700), keys.client().der, keys.ca().issuer_and_serial,
    forge.issuer_and_subject(keys.ca().subject, keys.client().subject), b"", b"\x30\x00"],
    ids=["random", "certificate", "serial", "subject", "empty", "empty sequence"])
@pytest.mark.rule("M01")
def test_m01_pkcs_req_with_other_data(
    endpoint: Endpoint, message_type: str, data: bytes
) -> None:
    endpoint.refuses(request(message_type=message_type, request=data), "2")


def broken_csrs() -> dict[str, bytes]:
    key = keys.rsa_key("client")
    good = keys.csr(key, challenge=CHALLENGE)
    info, algorithm, signature = asn1.read(good)
    without_key = asn1.seq(asn1.seq(info[0].raw, info[1].raw), algorithm.raw, signature.raw)
    indefinite = b"\x30\x80" + info.raw + algorithm.raw + signature.raw + b"\x00\x00"
    bare_rsa = asn1.algorithm(keys.RSA_ENCRYPTION, asn1.null())
    return {
        "no digest named": asn1.seq(info.raw, bare_rsa, signature.raw),
        "unknown algorithm": asn1.seq(info.raw, asn1.algorithm("1.2.3.4"), signature.raw),
        "no parameters but three": asn1.seq(
            info.raw, asn1.seq(*(part.raw for part in algorithm), asn1.null()), signature.raw),
        "odd bits": asn1.seq(info.raw, algorithm.raw, asn1.bits(signature.content[1:], 1)),
        "no bits": asn1.seq(info.raw, algorithm.raw, asn1.tlv(asn1.BIT_STRING)),
        "truncated": good[:-1], "trailing": good + b"\x00", "twice": good + good,
        "without key": without_key, "indefinite": indefinite,
        "without signature": asn1.seq(info.raw, algorithm.raw)}


@pytest.mark.parametrize("name", broken_csrs())
@pytest.mark.rule("M02")
def test_m02_csr_that_does_not_parse(endpoint: Endpoint, name: str) -> None:
    endpoint.refuses(request(request=broken_csrs()[name]), "2")


@pytest.mark.rule("M02")
def test_m02_csr_has_subject_and_key(endpoint: Endpoint) -> None:
    certificate = endpoint.enrolls(request(subject="CN=named,O=Lab"))
    assert certificate.subject == x509.Name.from_rfc4514_string("O=Lab,CN=named")
    csr = endpoint.authority.seen[0].message.csr
    assert csr.subject == keys.name("CN=named,O=Lab")
    assert csr.spki == keys.spki(keys.rsa_key("client"))


@pytest.mark.parametrize("key", [keys.ec_key("csr"), keys.ed_key("csr")], ids=["EC", "Ed25519"])
@pytest.mark.rule("M02")
def test_m02_csr_for_a_key_that_cannot_encrypt(endpoint: Endpoint, key: Any) -> None:
    """Asked for by an RSA signer, who can open the reply."""
    certificate = endpoint.enrolls(request(key=key))
    assert keys.spki(certificate.public_key()) == keys.spki(key)


@pytest.mark.parametrize(("word", "tag"), [
    ("plain text 1", asn1.PRINTABLE), ("under_score", asn1.UTF8), ("\u00e9t\u00e9", asn1.UTF8)])
@pytest.mark.rule("M03")
def test_m03_challenge_password_is_written_once(word: str, tag: int) -> None:
    csr = pyscep.pkcs10.create(keys.rsa_key("client"), "CN=x", challenge_password=word)
    attributes = [part for part in asn1.read(csr.der)[0][3]
                  if part[0].oid == keys.CHALLENGE_PASSWORD]
    assert len(attributes) == 1
    assert [value.raw for value in attributes[0][1]] == [asn1.text(word, tag)]
    assert pyscep.pkcs10.read(csr.der).challenge_password == word
    assert word not in repr(csr)


@pytest.mark.parametrize("attributes", [
    (keys.challenge_attribute(asn1.text(CHALLENGE), asn1.text(CHALLENGE, asn1.UTF8)),),
    (keys.challenge_attribute(asn1.text(CHALLENGE)),
     keys.challenge_attribute(asn1.text(CHALLENGE, asn1.UTF8))),
    (keys.challenge_attribute(),),
    (keys.challenge_attribute(asn1.octets(CHALLENGE.encode())),),
    (keys.challenge_attribute(asn1.text("x" * (32 * 1024 + 1))),),
], ids=["two values", "two attributes", "no value", "no string", "too long"])
@pytest.mark.rule("M03")
def test_m03_challenge_password_in_another_shape(
    endpoint: Endpoint, attributes: tuple[bytes, ...]
) -> None:
    csr = keys.csr(keys.rsa_key("client"), attributes=attributes)
    endpoint.refuses(request(request=csr), "2")


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.rule("M04")
def test_m04_challenge_password_in_each_string_type(endpoint: Endpoint, name: str) -> None:
    csr = keys.csr(keys.rsa_key("client"), challenge=CHALLENGE, challenge_tag=STRINGS[name])
    endpoint.enrolls(request(request=csr))
    message = endpoint.authority.seen[0].message
    assert message.challenge_password == CHALLENGE
    assert message.csr.challenge_tag == name
    wrong = keys.csr(keys.rsa_key("client"), challenge="wrong", challenge_tag=STRINGS[name])
    reply = endpoint.send(request(request=wrong))
    assert (reply.status, reply.fail_info) == ("2", "2")


@pytest.mark.parametrize("word", ["Secret", "secret ", " secret", "secre", "secrets", ""])
@pytest.mark.rule("M05")
def test_m05_challenge_password_is_not_changed(endpoint: Endpoint, word: str) -> None:
    reply = endpoint.send(request(challenge=word))
    assert (reply.status, reply.fail_info) == ("2", "2")
    assert endpoint.authority.seen[0].message.challenge_password == word


@pytest.mark.parametrize("capabilities", [b"Renewal\nSCEPStandard\n", b"SCEPStandard\n"])
@pytest.mark.rule("M06")
def test_m06_renewal_has_no_challenge_unless_asked_for(capabilities: bytes) -> None:
    server = FakeServer(capabilities=capabilities)
    owner, key = own_identity(server), keys.rsa_key("renewed")
    drive(client().renew(owner, key, pyscep.pkcs10.create(key, "CN=device,O=Lab")), server)
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password=CHALLENGE)
    drive(client().renew(owner, key, csr), server)
    words = [pyscep.pkcs10.read(opened.plaintext).challenge_password for opened in server.opened]
    assert words == [None, CHALLENGE]


# --- CertPoll -------------------------------------------------------------------------


def poll(**knobs: Any) -> forge.Forge:
    names = forge.issuer_and_subject(keys.ca().subject, keys.client().subject)
    return request(**{"message_type": "20", "request": names} | knobs)


@pytest.mark.rule("M07")
def test_m07_cert_poll_names_issuer_and_subject() -> None:
    server = FakeServer(answering(status="3"))
    pending = enroll(server)
    drive(client().poll(pending, keys.rsa_key("client")), server)
    names = asn1.read(server.opened[1].plaintext)
    assert [name.raw for name in names] == [
        keys.ca().subject, asn1.read(server.opened[0].plaintext)[0][1].raw]


@pytest.mark.parametrize("data", [
    asn1.seq(keys.ca().subject), keys.ca().issuer_and_serial,
    asn1.seq(asn1.integer(1), keys.ca().subject), b"\x30\x00"],
    ids=["one name", "serial", "number first", "empty"])
@pytest.mark.rule("M07")
def test_m07_cert_poll_with_other_data(endpoint: Endpoint, data: bytes) -> None:
    endpoint.authority.pending = True
    endpoint.send(request())
    endpoint.refuses(poll(request=data), "2")


@pytest.mark.parametrize("names", [
    (keys.name("CN=Forge CA,O=Lab", asn1.PRINTABLE), keys.name("CN=device,O=Lab", asn1.T61)),
    (keys.client().subject, keys.ca().subject), (asn1.seq(), asn1.seq())],
    ids=["encoded differently", "swapped", "empty"])
@pytest.mark.rule("M08")
def test_m08_cert_poll_goes_by_transaction_id(
    endpoint: Endpoint, names: tuple[bytes, bytes]
) -> None:
    endpoint.authority.pending = True
    endpoint.send(request())
    endpoint.authority.pending = False
    endpoint.enrolls(poll(request=forge.issuer_and_subject(*names)))


@pytest.mark.rule("M08")
def test_m08_cert_poll_with_another_transaction_id(endpoint: Endpoint) -> None:
    endpoint.authority.pending = True
    endpoint.send(request())
    endpoint.authority.pending = False
    reply = endpoint.send(poll(transaction_id="another"))
    assert (reply.status, reply.fail_info) == ("2", "2")


# --- GetCert and GetCRL ---------------------------------------------------------------

SERIAL = int.from_bytes(bytes(range(0x40, 0x40 + 20)), "big")


@pytest.mark.parametrize("message_type", ["21", "22"])
@pytest.mark.parametrize("serial", [0, 1, SERIAL, (1 << 319) - 1])
@pytest.mark.rule("M09")
def test_m09_issuer_and_serial_number(
    endpoint: Endpoint, message_type: str, serial: int
) -> None:
    endpoint.authority.crls = (keys.crl(keys.ca()),)
    data = forge.issuer_and_serial(keys.ca().subject, serial)
    endpoint.send(request(message_type=message_type, request=data))
    target = endpoint.authority.seen[0].message.target
    assert (target.issuer, target.serial_number) == (keys.ca().subject, serial)


@pytest.mark.rule("M09")
def test_m09_client_writes_issuer_and_serial_number() -> None:
    server = FakeServer(answering(status="2", fail_info="4"))
    owner = own_identity(server)
    with pytest.raises(EnrollmentRefused):
        drive(client().get_cert(owner, SERIAL), server)
    assert server.opened[-1].plaintext == forge.issuer_and_serial(keys.ca().subject, SERIAL)
    with pytest.raises(EnrollmentRefused):
        drive(client().get_crl(owner), server)
    serial = owner.certificate.serial_number
    assert server.opened[-1].plaintext == forge.issuer_and_serial(keys.ca().subject, serial)


@pytest.mark.parametrize("message_type", ["21", "22"])
@pytest.mark.parametrize("data", [
    forge.issuer_and_serial(keys.ca().subject, -1), asn1.seq(keys.ca().subject),
    forge.issuer_and_serial(keys.ca().subject, 1 << 320), asn1.seq(asn1.integer(1)),
    asn1.seq(keys.ca().subject, asn1.text("1")),
    asn1.seq(keys.ca().subject, asn1.integer(1), asn1.integer(2))],
    ids=["negative", "no serial", "41 octets", "no issuer", "text", "two serials"])
@pytest.mark.rule("M09")
def test_m09_bad_issuer_and_serial_number(
    endpoint: Endpoint, message_type: str, data: bytes
) -> None:
    endpoint.refuses(request(message_type=message_type, request=data), "2")


def get_cert(certificates: tuple[bytes, ...], serial: int = 1) -> Any:
    server = FakeServer(lambda message, opened: forge.cert_rep(
        message, certificates=certificates))
    return drive(client().get_cert(own_identity(server), serial), server)


@pytest.mark.rule("M10")
def test_m10_client_gets_the_certificate_it_asked_for() -> None:
    assert get_cert((keys.ca().der,)) == keys.ca().certificate
    assert get_cert((keys.ra().der, keys.ca().der)) == keys.ca().certificate
    assert get_cert((keys.ca().der, keys.ra().der)) == keys.ca().certificate


@pytest.mark.parametrize("certificates", [
    (keys.ra().der,), (), (keys.client().der, keys.ra().der)], ids=len)
@pytest.mark.rule("M10")
def test_m10_client_rejects_another_certificate(certificates: tuple[bytes, ...]) -> None:
    with pytest.raises(ProtocolError):
        get_cert(certificates)


@pytest.mark.rule("M10")
def test_m10_client_rejects_the_serial_of_another_issuer() -> None:
    other = keys.party("CN=Other,O=Lab", keys.rsa_key("client"), serial=1)
    with pytest.raises(ProtocolError):
        get_cert((other.der,))


@pytest.mark.rule("M11")
def test_m11_get_cert_of_an_unknown_serial(endpoint: Endpoint) -> None:
    issued = endpoint.enrolls(request())
    known = request(message_type="21", request=forge.issuer_and_serial(
        keys.ca().subject, issued.serial_number))
    assert endpoint.enrolls(known) == issued
    unknown = request(message_type="21", request=forge.issuer_and_serial(keys.ca().subject, 7))
    reply = endpoint.send(unknown)
    assert (reply.status, reply.fail_info) == ("2", "4")


@pytest.mark.parametrize("operation", ["get_cert", "get_crl"])
@pytest.mark.rule("M12")
def test_m12_client_rejects_pending_for_access(operation: str) -> None:
    server = FakeServer(answering(status="3"))
    owner = own_identity(server)
    with pytest.raises(ProtocolError, match="PENDING"):
        drive(getattr(client(), operation)(owner, 1), server)


@pytest.mark.parametrize("message_type", ["21", "22"])
@pytest.mark.rule("M12")
def test_m12_server_never_answers_pending_to_access(message_type: str) -> None:
    endpoint = Endpoint(authority=lambda asked: Pending())
    data = forge.issuer_and_serial(keys.ca().subject, 1)
    response = endpoint.post(request(message_type=message_type, request=data))
    if response.status == 200:
        assert forge.read_message(response.body).status == "2"
    else:
        assert response.status == 503


def get_crl(data: bytes) -> Any:
    server = FakeServer(lambda message, opened: forge.cert_rep(message, data=data))
    return drive(client().get_crl(own_identity(server)), server)


@pytest.mark.rule("M13")
def test_m13_get_crl(endpoint: Endpoint) -> None:
    revoked = keys.crl(keys.ca(), 5, 6)
    assert get_crl(forge.certs_only(crls=(revoked,))) == revoked
    endpoint.authority.crls = (revoked,)
    asked = request(message_type="22", request=forge.issuer_and_serial(keys.ca().subject, 5))
    opened = endpoint.send(asked).open(asked.signer)
    assert opened.plaintext == forge.certs_only(crls=(revoked,))


@pytest.mark.rule("M13")
def test_m13_certificates_beside_the_crl_are_overlooked() -> None:
    revoked = keys.crl(keys.ca())
    assert get_crl(forge.certs_only((keys.ca().der,), crls=(revoked,))) == revoked


@pytest.mark.parametrize("data", [
    forge.certs_only((keys.ca().der,)), forge.certs_only(), b"\x30\x00", keys.crl(keys.ca())],
    ids=["certificate", "nothing", "empty", "bare"])
@pytest.mark.rule("M13")
def test_m13_get_crl_without_a_crl(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        get_crl(data)


@pytest.mark.rule("M13")
def test_m13_crl_of_another_ca_is_rejected() -> None:
    """Neither of another name nor of another key."""
    stranger = keys.ca("CN=Stranger,O=Lab")
    namesake = replace(keys.ca(), key=keys.rsa_key("client"))
    for issuer in (stranger, namesake):
        with pytest.raises(ProtocolError):
            get_crl(forge.certs_only(crls=(keys.crl(issuer),)))


# --- CertRep --------------------------------------------------------------------------


@pytest.mark.rule("M14")
def test_m14_success_has_an_envelope(endpoint: Endpoint) -> None:
    sent = request()
    assert endpoint.send(sent).open(sent.signer).certificates


@pytest.mark.parametrize("knobs", [
    {"no_content": True}, {"content": b""}, {"content": b"\x00"},
    {"content": forge.certs_only((keys.client().der,))}], ids=str)
@pytest.mark.rule("M14")
def test_m14_client_rejects_success_without_envelope(knobs: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        enroll(answering(**knobs))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.rule("M15")
def test_m15_failure_has_no_content(strict: bool) -> None:
    """By default an empty OCTET STRING, which several clients need; absent if asked for."""
    endpoint = Endpoint(empty_content=not strict)
    reply = endpoint.send(request(challenge="wrong"))
    assert (reply.status, reply.content) == ("2", None if strict else b"")
    assert not hasattr(Failure(), "certificates")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.rule("M16")
def test_m16_pending_has_no_content(strict: bool) -> None:
    endpoint = Endpoint(empty_content=not strict)
    endpoint.authority.pending = True
    reply = endpoint.send(request())
    assert (reply.status, reply.content) == ("3", None if strict else b"")
    assert not hasattr(Pending(), "certificates")


JUNK = [{"no_content": True}, {"content": b""}, {"content": b"\x00"}, {"content": os.urandom(99)}]


@pytest.mark.parametrize("knobs", JUNK, ids=["absent", "empty", "NDES", "junk"])
@pytest.mark.rule("M17")
def test_m17_junk_content_of_failure_and_pending_is_overlooked(knobs: dict[str, Any]) -> None:
    with pytest.raises(EnrollmentRefused):
        enroll(answering(status="2", **knobs))
    assert isinstance(enroll(answering(status="3", **knobs)), pyscep.PendingEnrollment)


@pytest.mark.parametrize("status", ["2", "3"])
@pytest.mark.rule("M17")
def test_m17_an_envelope_in_failure_and_pending_is_not_opened(status: str) -> None:
    """The certificate in it is not delivered."""

    def answer(message: forge.Message, opened: Any) -> forge.Forge:
        return issue_at_once(message, opened).but(pki_status=status, fail_info="2")

    if status == "2":
        with pytest.raises(EnrollmentRefused):
            enroll(answer)
    else:
        assert isinstance(enroll(answer), pyscep.PendingEnrollment)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.rule("M18")
def test_m18_message_digest_without_content(strict: bool) -> None:
    """Of zero octets; the reader of forge.py insists on it."""
    reply = Endpoint(empty_content=not strict).send(request(challenge="wrong"))
    value = reply.value("message_digest")
    assert value is not None
    assert value.content.hex().startswith("e3b0c44298fc1c149afbf4c8996fb924")


@pytest.mark.rule("M18")
def test_m18_client_rejects_the_digest_of_another_content() -> None:
    digest = hashlib.sha256(b"\x00").digest()
    with pytest.raises(ProtocolError):
        enroll(answering(status="2", no_content=True, message_digest=digest))


# --- certificates-only ----------------------------------------------------------------


def with_data(make: Any) -> Answer:
    """A SUCCESS whose messageData is made of the issued certificate."""
    return lambda message, opened: forge.cert_rep(
        message, data=make(keys.issue(keys.ca(), opened.plaintext)))


@pytest.mark.parametrize("make", [
    lambda der: der, lambda der: b"", lambda der: b"\x30\x00", lambda der: os.urandom(500),
    lambda der: forge.certs_only(())],
    ids=["certificate", "empty", "sequence", "random", "no certificates"])
@pytest.mark.rule("M19")
def test_m19_client_rejects_other_message_data(make: Any) -> None:
    with pytest.raises(ProtocolError):
        enroll(with_data(make))


@pytest.mark.rule("M19")
def test_m19_success_carries_certificates_only() -> None:
    assert enroll(with_data(lambda der: forge.certs_only((der,)))).certificates


@pytest.mark.rule("M20")
def test_m20_degenerate_form(endpoint: Endpoint) -> None:
    """Compared with bytes written by hand, forge.py and RFC 8894 section 3.4."""
    sent = request()
    opened = endpoint.send(sent).open(sent.signer)
    (issued,) = endpoint.authority.issued.values()
    der = issued.public_bytes(keys.Encoding.DER)
    assert opened.plaintext == forge.certs_only((der,))
    head = bytes.fromhex("020101 3100 300b06092a864886f70d010701")
    signed = asn1.read(opened.plaintext)[1][0]
    assert signed.content == head + asn1.tlv(0xA0, der) + bytes.fromhex("3100")


@pytest.mark.parametrize("shape", [
    {"version": 3}, {"signer": keys.ca()}, {"version": 3, "signer": keys.ca()}, {"wrap": False},
    {"econtent": asn1.tlv(0xA0, asn1.octets(b""))}, {"style": asn1.BER},
    {"style": asn1.BOUNCY_CASTLE}], ids=str)
@pytest.mark.rule("M21")
def test_m21_degenerate_reader_is_lenient(shape: dict[str, Any]) -> None:
    assert enroll(with_data(lambda der: forge.certs_only((der,), **shape))).certificates


@pytest.mark.parametrize("data", [
    asn1.seq(asn1.oid(forge.DATA), asn1.tlv(0xA0, asn1.octets(b""))),
    asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0, asn1.seq(asn1.integer(1)))),
    asn1.seq(asn1.integer(1), asn1.set_of())], ids=["data", "short", "bare and short"])
@pytest.mark.rule("M21")
def test_m21_message_data_that_is_no_signed_data(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        enroll(answering(data=data))


@pytest.mark.parametrize("count", [32, 33])
@pytest.mark.rule("M21")
def test_m21_number_of_certificates_is_bounded(count: int) -> None:
    answer = with_data(lambda der: forge.certs_only((der, *[keys.ca().der] * (count - 1))))
    if count <= 32:
        assert enroll(answer).certificates
    else:
        with pytest.raises(ProtocolError):
            enroll(answer)


@pytest.mark.parametrize("order", [
    lambda der: (der, keys.ca().der), lambda der: (keys.ca().der, der),
    lambda der: (keys.ca().der, keys.ra().der, der)], ids=["leaf first", "CA first", "last"])
@pytest.mark.rule("M22")
def test_m22_issued_certificate_is_found_by_key(order: Any) -> None:
    outcome = enroll(with_data(lambda der: forge.certs_only(order(der))))
    issued = outcome.certificates[0]
    assert keys.spki(issued.public_key()) == keys.spki(keys.rsa_key("client"))


@pytest.mark.parametrize("others", [
    (keys.ca().der,), (keys.ca().der, keys.ra().der)], ids=len)
@pytest.mark.rule("M22")
def test_m22_no_certificate_for_our_key(others: tuple[bytes, ...]) -> None:
    with pytest.raises(ProtocolError):
        enroll(answering(certificates=others))


@pytest.mark.rule("M22")
def test_m22_two_certificates_for_our_key() -> None:
    def answer(message: forge.Message, opened: Any) -> forge.Forge:
        two = tuple(keys.issue(keys.ca(), opened.plaintext) for _ in range(2))
        return forge.cert_rep(message, certificates=two)

    with pytest.raises(ProtocolError):
        enroll(answer)


@pytest.mark.rule("M23")
def test_m23_reply_holds_the_issued_certificate_alone(endpoint: Endpoint) -> None:
    sent = request()
    assert len(endpoint.send(sent).open(sent.signer).certificates) == 1


@pytest.mark.rule("M23")
def test_m23_chain_goes_along_if_the_authority_says_so(endpoint: Endpoint) -> None:
    inner = endpoint.authority

    def authority(asked: Any) -> Any:
        outcome = inner(asked)
        return replace(outcome, certificates=(*outcome.certificates, keys.ca().certificate))

    endpoint.authority = authority
    sent = request()
    response = endpoint.server.handle(
        pyscep.HttpRequest(method="POST", path="/scep", body=sent.build()), authority)
    opened = forge.read_message(response.body, der=True).open(sent.signer)
    assert keys.ca().certificate in opened.certificates
    assert len(opened.certificates) == 2
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab", challenge_password=CHALLENGE)
    outcome = drive(client().enroll(key, csr),
                    lambda asked: endpoint.server.handle(asked, authority))
    assert keys.spki(outcome.certificates[0].public_key()) == keys.spki(key)


CSR = keys.csr(keys.rsa_key("client"), challenge=CHALLENGE)
SUBJECT = forge.issuer_and_subject(keys.ca().subject, keys.client().subject)
TARGET = forge.issuer_and_serial(keys.ca().subject, 1)


@pytest.mark.parametrize(("message_type", "data"), [
    ("17", SUBJECT), ("17", TARGET), ("19", SUBJECT), ("19", TARGET), ("20", CSR),
    ("20", TARGET), ("21", CSR), ("21", SUBJECT), ("22", CSR), ("22", SUBJECT)])
@pytest.mark.rule("M24")
def test_m24_message_type_must_fit_the_data(
    endpoint: Endpoint, message_type: str, data: bytes
) -> None:
    endpoint.refuses(request(message_type=message_type, request=data), "2")


@pytest.mark.parametrize("knobs", [{}, {"content": b""}, {"content": b"\x00"}], ids=str)
@pytest.mark.parametrize("message_type", ["17", "19", "20", "21", "22"])
@pytest.mark.rule("M25")
def test_m25_request_without_envelope(
    endpoint: Endpoint, message_type: str, knobs: dict[str, Any]
) -> None:
    endpoint.refuses(forge.Forge(message_type=message_type, **knobs), "2")


@pytest.mark.rule("M25")
def test_m25_csr_in_the_clear_is_refused(endpoint: Endpoint) -> None:
    """SignedData around a bare CSR: its secret is not used, nor asked about."""
    endpoint.refuses(forge.Forge(content=CSR), "2")
    assert CHALLENGE not in repr(endpoint.events)
