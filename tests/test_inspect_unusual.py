"""What `pyscep.inspect` calls unusual, each with the smallest message that shows it."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pyscep import inspect
from pyscep.codec import der
from pyscep.inspect import Report, encoding, names
from tests import corpus, forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.forge_envelope import ENCRYPTED_DATA, Recipient, kek_recipient

CA = keys.ca()
CLIENT = keys.client()
BER = asn1.Style(indefinite=True, chunk=1000)
REQUEST = forge.read_message(forge.pkcs_req(CA).build())
FIRST_REQUEST = {"self-signed"}
"""What is always said of a first enrollment."""


def codes(report: Report) -> set[str]:
    return {remark.code for remark in report.remarks}


def seen(message: forge.Forge, *opening: Any) -> set[str]:
    """The remarks on a message, without those that every first request gets."""
    return codes(inspect.inspect(message.build(), keys=opening)) - FIRST_REQUEST


def request(**knobs: Any) -> forge.Forge:
    return forge.pkcs_req(CA, **knobs)


def reply(**knobs: Any) -> forge.Forge:
    issued = keys.issue(CA, keys.csr(CLIENT.key))
    return forge.cert_rep(REQUEST, certificates=[issued], **knobs)


def unknown(dotted: str) -> bytes:
    return asn1.algorithm(dotted, asn1.null())


def test_a_message_as_it_should_be_has_no_remarks() -> None:
    assert seen(request(), CA.key) == set()
    assert seen(reply(), CLIENT.key) == set()
    assert seen(reply(status="3", no_content=True)) == set()
    assert seen(reply(status="2", no_content=True)) == set()


# --- the signed layer -----------------------------------------------------------------

SIGNED: dict[str, tuple[forge.Forge, set[str]]] = {
    "MD5": (request(digest="md5"), {"weak-digest"}),
    "SHA-1": (request(digest="sha1"), {"weak-digest"}),
    "SHA-512": (request(digest="sha512"), set()),
    "RSASSA-PSS": (request(signature="pss"), {"pss"}),
    "combined identifier": (request(signature="combined"), set()),
    "rsaEncryption without NULL": (
        request(signature=asn1.algorithm("1.2.840.113549.1.1.1")), {"no-null"}),
    "unknown digest": (
        request(replace_values=(), digest="sha256").but(
            signature=unknown("1.2.3.4")), {"unknown-algorithm", "signature"}),
    "algorithm of three parts": (
        request(signature=asn1.seq(asn1.oid("1.2.3.4"), asn1.null(), asn1.null())),
        {"unknown-algorithm", "signature"}),
    "signer by key": (request(sid="ski"), {"signer-by-key"}),
    "signer that is not there": (
        request(certificates=(CA.der,)), {"no-signer"}),
    "no certificates": (request(certificates=()), {"no-signer", "certificates"}),
    "signer named by rubbish": (
        request(sid=asn1.seq(asn1.null())), {"bad-signer-id"}),
    "version 3 with an issuer": (request(signer_info_version=3), {"version"}),
    "two signers": (request(signer_infos=2), {"several-signers", "signature"}),
    "BER": (request(style=BER), {"ber", "ber-envelope"}),
    "lengths longer than needed": (
        request(attributes_style=asn1.Style(pad=1)), {"ber"}),
    "attributes in another order": (request(order="reversed"), {"unsorted-attributes"}),
    "no attributes": (
        request(no_signed_attributes=True), {"no-attributes", "signature"}),
    "extra attribute": (
        request(extra=(forge.attribute("microsoft_error", asn1.integer(1)),)),
        {"extra-attribute"}),
    "CMSAlgorithmProtection": (request(algorithm_protection=True), {"algorithm-protection"}),
    "an attribute twice": (
        request(extra=(forge.attribute("message_type", asn1.text("17")),)),
        {"repeated-attribute", "signature"}),
    "an attribute with two values": (
        request(replace_values=(("sender_nonce", (asn1.octets(b"a"), asn1.octets(b"b"))),)),
        {"several-values", "nonce-length", "signature"}),
    "an attribute that is none": (
        request(extra=(asn1.seq(asn1.null(), asn1.null()),)), {"bad-attribute", "signature"}),
    "eight octets of nonce": (request(sender_nonce=bytes(8)), {"nonce-length"}),
    "no nonce": (request(sender_nonce=None), {"missing-attribute"}),
    "nonce that is text": (
        request(replace_values=(("sender_nonce", (asn1.text("x"),)),)),
        {"bad-nonce", "missing-attribute"}),
    "message type as a number": (
        request(message_type=asn1.integer(19)), {"string-type"}),
    "message type 99": (request(message_type="99"), {"unknown-value"}),
    "no transaction": (request(transaction_id=None), {"missing-attribute"}),
    "transaction 0": (request(transaction_id="0"), {"transaction-id"}),
    "empty transaction": (request(transaction_id=""), {"transaction-id"}),
    "long transaction": (request(transaction_id="x" * 256), {"transaction-id"}),
    "transaction outside PrintableString": (
        request(transaction_id="under_score_"), {"transaction-id"}),
    "transaction in UTF-8": (
        request(transaction_id="übergroß-genug", transaction_id_tag=asn1.UTF8), {"string-type"}),
    "transaction that is no text": (
        request(transaction_id=asn1.octets(b"x")), {"string-type", "bad-text"}),
    "signing time": (request(signing_time=asn1.utc_time(datetime.now(UTC))), set()),
    "signing time that is none": (
        request(signing_time=asn1.tlv(0x17, b"2611221400")), {"bad-signing-time"}),
    "wrong signature": (request(signature_value=bytes(256)), {"signature"}),
    "wrong digest of the content": (request(message_digest=bytes(32)), {"signature"}),
    "signature without the SET": (request(sign_over="A0"), {"signature"}),
    "trailing octets": (request(trailing=b"\r\n"), {"trailing"}),
    "another eContentType": (
        request(econtent_type="1.2.840.113549.1.7.3"), {"content-type"}),
    "eContent that is no OCTET STRING": (
        request(econtent=asn1.tlv(0xA0, asn1.null())),
        {"bad-content", "no-envelope", "signature"}),
    "no envelope": (request(no_content=True), {"no-envelope", "signature"}),
    "an envelope that is none": (request().but(envelope=None, content=b"x"), {"bad-envelope"}),
    "an RA's signature": (request(signer=keys.ra()), set()),
}


@pytest.mark.parametrize("case", SIGNED)
def test_what_is_unusual_about_the_signed_layer(case: str) -> None:
    message, expected = SIGNED[case]
    assert seen(message) == expected


def test_an_unknown_digest_is_named_by_its_number() -> None:
    data = request().build().replace(
        asn1.oid("2.16.840.1.101.3.4.2.1"), asn1.oid("2.16.840.1.101.3.4.2.9"))
    found = inspect.inspect(data).to_dict()
    assert found["digest"] == "2.16.840.1.101.3.4.2.9"
    assert found["verified"]["value"] is False
    nothing = request(signature=asn1.seq(asn1.null())).build()
    assert inspect.inspect(nothing).to_dict()["signature_algorithm"] is None


def test_a_message_without_signed_attributes_is_no_pki_message() -> None:
    report = inspect.inspect(request(no_signed_attributes=True).build())
    assert report.kind == "signedData"
    assert "no-attributes" in codes(report)


def test_a_crl_in_the_signed_layer() -> None:
    """A signer's bag may hold them; nobody should need them."""
    message = bytearray(request(certificates=()).build())
    info = forge.read_message(bytes(request(certificates=(CLIENT.der,)).build()))
    assert info.raw
    signed = asn1.read(bytes(message))[1][0]
    version, digests, content, infos = (part.raw for part in signed)
    bag = asn1.tlv(0xA0, CLIENT.der) + asn1.tlv(0xA1, keys.crl(CA, 1))
    data = asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0, asn1.seq(
        version, digests, content, bag, infos)))
    assert "crls" in codes(inspect.inspect(data))


def test_a_signer_that_is_given_beside_the_message() -> None:
    message = reply().but(certificates=()).build()
    alone = inspect.inspect(message).to_dict()
    assert alone["verified"] == {
        "value": False, "reason": "not checked: the signer's certificate is not here"}
    report = inspect.inspect(message, certificates=[CA.certificate])
    assert report.verified["value"] is True
    assert "but was given" in " ".join(remark.text for remark in report.remarks)


# --- CertRep --------------------------------------------------------------------------

REPLIES: dict[str, tuple[forge.Forge, set[str]]] = {
    "empty content": (reply(status="2", content=b""), {"empty-content"}),
    "one octet of content": (  # NDES
        reply(status="2", content=b"\x00"), {"content", "bad-envelope"}),
    "FAILURE without failInfo": (reply(status="2", fail_info=None, no_content=True),
                                 {"missing-attribute"}),
    "failInfo of no RFC": (reply(status="2", fail_info="9", no_content=True), {"unknown-value"}),
    "no status": (reply(status=None, no_content=True), {"missing-attribute"}),
    "no recipientNonce": (reply(recipient_nonce=None), {"missing-attribute"}),
    "nonce copied": (reply(sender_nonce=REQUEST.sender_nonce), {"nonce-copied"}),
    "SUCCESS without envelope": (
        reply(no_content=True), {"no-envelope", "signature"}),
    "failInfoText": (reply(status="2", fail_info_text="no: ü", no_content=True), set()),
    "failInfoText as PrintableString": (
        reply(status="2", fail_info_text=asn1.text("no"), no_content=True), {"string-type"}),
    "failInfoText of the draft": (
        reply(status="2", no_content=True,
              extra=(forge.attribute("1.3.6.1.5.5.7.24", asn1.text("no", asn1.UTF8)),)),
        {"old-fail-info-text"}),
    "the issued certificate in the clear": (
        reply().but(certificates=(CLIENT.der, CA.der)), {"certificates"}),
    "certificates in BER": (
        reply(data=forge.certs_only([CLIENT.der], style=asn1.Style(indefinite=True))),
        {"ber-inside"}),
    "a CSR where certificates are due": (reply(data=keys.csr(CLIENT.key)), {
        "wrong-plaintext", "other-key"}),
    "plaintext that is nothing": (
        reply(data=asn1.seq(asn1.null(), asn1.null())), {"bad-plaintext"}),
    "certificates that can't be read": (
        reply(data=asn1.seq(asn1.oid(forge.SIGNED_DATA), asn1.tlv(0xA0, asn1.seq(
            asn1.null(), asn1.null(), asn1.null(), *[asn1.tlv(0xA0, *[asn1.seq()] * 33)])))),
        {"unreadable"}),
}


@pytest.mark.parametrize("case", REPLIES)
def test_what_is_unusual_about_a_reply(case: str) -> None:
    message, expected = REPLIES[case]
    assert seen(message, CLIENT.key) == expected


def test_fail_info_text_is_told() -> None:
    for message in (REPLIES["failInfoText"][0], REPLIES["failInfoText of the draft"][0]):
        assert inspect.inspect(message.build()).to_dict()["fail_info_text"] in ("no: ü", "no")


# --- the envelope ---------------------------------------------------------------------


def enveloped(**envelope: Any) -> forge.Forge:
    return request(envelope=envelope)


def addressed(**to: Any) -> forge.Forge:
    return request(to=to)


CSR = keys.csr(CLIENT.key, challenge="secret")
ENVELOPES: dict[str, tuple[forge.Forge, set[str]]] = {
    "single DES": (request(cipher="des-cbc"), {"weak-cipher"}),
    "3DES": (request(cipher="des-ede3-cbc"), {"weak-cipher"}),
    "DES without an IV": (
        enveloped(cipher="des-cbc", iv=bytes(8), algorithm=asn1.algorithm("1.3.14.3.2.7")),
        {"weak-cipher", "no-iv"}),
    "an IV of zeros": (enveloped(iv=bytes(16)), {"no-iv"}),
    "another cipher": (request(cipher="rc2-cbc"), {"unknown-cipher"}),
    "cipher of three parts": (
        enveloped(algorithm=asn1.seq(asn1.oid("1.2.3"), asn1.null(), asn1.null())),
        {"unknown-cipher"}),
    "as Go does": (
        enveloped(encrypted_content="definite"), {"ber-envelope"}),
    "BER": (enveloped(style=BER), {"ber-envelope"}),
    "content type encryptedData": (
        enveloped(content_type=ENCRYPTED_DATA), {"content-type"}),
    "another content type": (enveloped(content_type="1.2.3"), {"content-type"}),
    "RSAES-OAEP": (addressed(oaep=("sha256", "sha256")), {"oaep"}),
    "RSAES-OAEP to somebody else": (
        enveloped(recipients=(Recipient(party=keys.ra(), oaep=("sha1", "sha1")),)), {"oaep"}),
    "OAEP with unknown parameters": (
        addressed(oaep=("sha1", "sha1"), oaep_parameters=asn1.seq(asn1.tlv(0xA5, asn1.null()))),
        {"unknown-key-transport"}),
    "rsaEncryption without NULL": (addressed(null_parameters=False), {"no-null"}),
    "recipient by key": (addressed(rid="ski"), {"recipient-by-key"}),
    "recipient named by rubbish": (addressed(rid=asn1.seq(asn1.null())), set()),
    "several recipients": (
        enveloped(recipients=(Recipient(party=keys.ra()), Recipient(party=CA))),
        {"several-recipients"}),
    "a recipient with a shared key": (
        enveloped(recipients=(kek_recipient(),)), {"other-recipients"}),
    "content that is not whole blocks": (enveloped(ciphertext=bytes(15)), set()),
    "content in a bad piece": (
        request().but(envelope=None, content=forge.pkcs_req(CA, envelope={
            "encrypted_content": "definite"}).octets.replace(
                b"\xa0\x82\x02\x94\x04\x82\x02\x90", b"\xa0\x82\x02\x94\x0c\x82\x02\x90")),
        {"ber-envelope"}),
    "content-encryption key of a wrong length": (enveloped(cek=bytes(5)), set()),
    "padding of zeros": (enveloped(ciphertext=os.urandom(4096)), set()),
}


@pytest.mark.parametrize("case", ENVELOPES)
def test_what_is_unusual_about_the_envelope(case: str) -> None:
    message, expected = ENVELOPES[case]
    assert seen(message, CA.key) == expected


@pytest.mark.parametrize(("case", "reason"), [
    ("another cipher", "the cipher is unknown"),
    ("content that is not whole blocks", "not whole blocks: 15 bytes"),
    ("content-encryption key of a wrong length", "none of the keys opens it"),
    ("OAEP with unknown parameters", "none of the keys opens it"),
    ("RSAES-OAEP to somebody else", "none of the keys opens it"),
    ("a recipient with a shared key", "none of the keys opens it"),
    ("recipient named by rubbish", "opened as (unreadable: IssuerAndSerialNumber is too short"),
    ("several recipients", "opened as serial 01 of CN=Forge CA, O=Lab"),
])
def test_why_an_envelope_opens_or_not(case: str, reason: str) -> None:
    found = inspect.inspect(ENVELOPES[case][0].build(), keys=[CA.key]).to_dict()
    assert reason in found["decrypted"]["reason"]


def test_padding_is_told_apart() -> None:
    """A key that fits by chance is not believed, unless nothing better is found."""
    noise = enveloped(plaintext=b"not ASN.1")
    report = inspect.inspect(noise.build(), keys=[CA.key])
    assert report.to_dict()["decrypted"] == {
        "value": True, "reason": "padding and key fit, but the plaintext is no ASN.1"}
    assert "bad-plaintext" in codes(report)


def test_an_envelope_with_a_bad_piece() -> None:
    envelope = request(envelope={"encrypted_content": "definite"}).octets
    place = envelope.rindex(b"\x04\x82")
    broken = envelope[:place] + b"\x0c" + envelope[place + 1 :]
    found = inspect.inspect(request().but(envelope=None, content=broken).build(), keys=[CA.key])
    assert "has a bad segment" in found.to_dict()["decrypted"]["reason"]


def test_an_unknown_cipher_that_has_no_number() -> None:
    message = enveloped(algorithm=asn1.seq(asn1.null()))
    report = inspect.inspect(message.build())
    assert report.to_dict()["cipher"] is None
    assert "unknown-cipher" in codes(report)


# --- what the envelope holds ----------------------------------------------------------


def csr(**shape: Any) -> forge.Forge:
    return request(request=keys.csr(CLIENT.key, **({"challenge": "secret"} | shape)))


EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
REQUESTS: dict[str, tuple[forge.Forge, set[str]]] = {
    "no challenge": (csr(challenge=None), set()),
    "empty challenge": (csr(challenge=""), {"empty-challenge"}),
    "challenge in UTF-8": (csr(challenge_tag=asn1.UTF8), {"challenge-type"}),
    "CSR with SHA-1": (csr(digest="sha1"), {"weak-csr"}),
    "CSR of another key": (csr(signing_key=CA.key), {"csr-signature"}),
    "CSR with a flipped bit": (csr(flip=True), {"csr-signature"}),
    "a key of 1024 bits": (
        request(request=keys.csr(keys.rsa_key("small", 1024))), {"weak-key", "other-key"}),
    "two challenges": (
        csr(attributes=[keys.challenge_attribute(asn1.text("x"))]), {"bad-csr"}),
    "another attribute": (
        csr(attributes=[forge.attribute("1.2.840.113549.1.9.20", asn1.text("x", asn1.UTF8))]),
        {"csr-attribute"}),
    "an extension that can't be read": (
        csr(attributes=[forge.attribute(EXTENSION_REQUEST, asn1.seq(
            keys.extension("2.5.29.17", asn1.null())))]), {"csr-extensions"}),
    "a CSR in BER": (
        request(request=asn1.Style(indefinite=True).seq(*(part.raw for part in asn1.read(CSR)))),
        {"ber-csr", "bad-csr"}),
    "a poll where a CSR is due": (
        request(request=forge.issuer_and_subject(CA.subject, CLIENT.subject)),
        {"wrong-plaintext"}),
    "a poll": (
        request(request=forge.issuer_and_subject(CA.subject, CLIENT.subject), message_type="20"),
        set()),
    "a question for a certificate": (
        request(request=forge.issuer_and_serial(CA.subject, 77), message_type="21"), set()),
    "a question for a CRL": (
        request(request=forge.issuer_and_serial(CA.subject, 77), message_type="22"), set()),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_what_is_unusual_about_the_inside(case: str) -> None:
    message, expected = REQUESTS[case]
    assert seen(message, CA.key) == expected


def test_the_key_of_the_signer_and_that_of_the_csr() -> None:
    for key, same in ((CLIENT.key, True), (keys.rsa_key("another"), False)):
        found = inspect.inspect(request(key=key).build(), keys=[CA.key])
        assert found.to_dict()["signer_holds_key"] is same
        assert ("other-key" in codes(found)) is not same


def test_polls_and_questions_are_told() -> None:
    poll = inspect.inspect(REQUESTS["a poll"][0].build(), keys=[CA.key]).to_dict()
    assert (poll["message_type"], poll["issuer"], poll["subject"]) == (
        "CertPoll", "CN=Forge CA, O=Lab", "CN=device, O=Lab")
    question = inspect.inspect(REQUESTS["a question for a CRL"][0].build(), keys=[CA.key])
    assert question.to_dict()["serial"] == "4d"


def test_a_csr_with_a_key_that_nobody_knows() -> None:
    data = CSR.replace(asn1.oid("1.2.840.113549.1.1.1"), asn1.oid("1.2.840.113549.1.1.99"), 1)
    report = inspect.inspect(data)
    assert report.verified["value"] is False
    assert report.to_dict()["csr_key"] is None
    odd = CSR.replace(asn1.oid("1.2.840.113549.1.1.11"), asn1.oid("1.2.840.113549.1.1.99"), 1)
    assert "unknown signature" in inspect.inspect(odd).to_dict()["csr_signature_algorithm"]


# --- certificates ---------------------------------------------------------------------


def signed_by(**shape: Any) -> forge.Forge:
    return request(signer=keys.party("CN=device,O=Lab", CLIENT.key, **shape))


CERTIFICATES: dict[str, tuple[forge.Forge, set[str]]] = {
    "version 1": (signed_by(version=0), {"certificate-version"}),
    "version 4": (signed_by(version=3), {"certificate-version", "strict-readers-refuse"}),
    "a serial number of 33 octets": (  # certmonger
        signed_by(serial=1 << 257, version=0, times="generalized",
                  not_before=datetime(2026, 1, 1, tzinfo=UTC)),
        {"certificate-version", "long-serial", "generalized-time"}),
    "GeneralizedTime when it is due": (
        signed_by(times="generalized", not_before=datetime(2050, 2, 1, tzinfo=UTC)), set()),
    "serial number 0": (signed_by(serial=0), {"strict-readers-refuse"}),
    "signed by a CA with SHA-1": (
        signed_by(issuer=CA, digest="sha1"), {"weak-certificate"}),
    "an extension twice": (
        signed_by(extensions=[keys.basic_constraints(False)] * 2), {"strict-readers-refuse"}),
    "1024 bits": (
        request(signer=keys.party("CN=device,O=Lab", keys.rsa_key("small", 1024))), {"weak-key"}),
    "a certificate that is none": (
        request(certificates=(CLIENT.der, asn1.seq(asn1.null()))),
        {"certificates", "unreadable-certificate"}),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_what_is_unusual_about_certificates(case: str) -> None:
    message, expected = CERTIFICATES[case]
    assert seen(message) == expected


def certificate_with(old: bytes, new: bytes) -> Report:
    assert old in CLIENT.der
    return inspect.inspect(CLIENT.der.replace(old, new, 1))


def test_odd_parts_of_a_certificate() -> None:
    start = asn1.read(CLIENT.der)[0][4][0].raw
    odd = certificate_with(start, b"\x17" + start[1:2] + b"x" * (len(start) - 2))
    assert odd.to_dict()["not_before"] == "x" * (len(start) - 2)
    validity = asn1.read(CLIENT.der)[0][4].raw
    gone = certificate_with(validity, asn1.tlv(0x31, validity[2:]))
    assert gone.to_dict()["not_before"] is None
    strange = certificate_with(asn1.oid("1.2.840.113549.1.1.1"), asn1.oid("1.2.840.113549.1.1.99"))
    assert strange.to_dict()["key"] is None
    assert "unreadable-key" in codes(strange)


# --- encodings and names --------------------------------------------------------------


@pytest.mark.parametrize(("data", "expected"), [
    (asn1.seq(asn1.integer(1)), []),
    (b"\x30\x80\x02\x01\x01\x00\x00", ["indefinite-length"]),
    (b"\x30\x81\x03\x02\x01\x01", ["non-minimal-length"]),
    (b"\x30\x82\x00\x80" + b"\x04\x7e" + bytes(126), ["non-minimal-length"]),
    (b"\x30\x04\x02\x02\x00\x01", ["non-minimal-integer"]),
    (b"\x30\x04\x02\x02\xff\xff", ["non-minimal-integer"]),
    (b"\x30\x04\x02\x02\x00\x80", []),
    (b"\x30\x03\x01\x01\x01", ["loose-boolean"]),
    (b"\x30\x03\x01\x01\xff", []),
    (b"\x30\x04\x24\x02\x04\x00", ["constructed-octet-string"]),
    (b"\x30\x04\x2c\x02\x0c\x00", ["constructed-string"]),
])
def test_what_is_not_der(data: bytes, expected: list[str]) -> None:
    assert encoding.features(der.read(data)) == expected


def test_names() -> None:
    pair = asn1.seq(asn1.oid("2.5.4.3"), asn1.text("a"))
    other = asn1.seq(asn1.oid("1.2.3"), asn1.octets(b"\x01"))
    name = asn1.seq(asn1.set_of(pair), asn1.set_of(other, pair))
    assert names.name_text(name) == "CN=a, 1.2.3=#040101 + CN=a"
    assert names.name_text(b"\x05\x00") == "(not a Name: 0500)"
    assert names.name_text(asn1.seq(pair)) .startswith("(not a Name")
    assert names.name_text(b"") == "(not a Name: )"


# --- real messages --------------------------------------------------------------------

CAPTURED = {
    "certmonger-jscep/04-pkcsreq-success-get.req": {
        "certificate-version", "long-serial", "generalized-time"},
    "scepclient210-jscep/06-get-pkcsreq-http500-get.req": {
        "url", "message-first", "weak-digest", "weak-cipher", "no-null", "ber-envelope"},
    "scepclient210-jscep/11-ra-pkcsreq-success.req": {"several-recipients", "content-type"},
    "strongswan-jscep/06-aes-sha256-pss-pkcsreq-success.req": {"pss"},
    "jscepclient-micromdmmain/03-pkcsreq-success.req": {"ber", "algorithm-protection"},
    "scepclient210-micromdm210/03-pkcsreq-success.resp": {
        "nonce-copied", "certificates", "weak-digest", "weak-cipher"},
    "certmonger-jscep/04-pkcsreq-success-get.resp": {"ber", "ber-envelope", "ber-inside"},
}


@pytest.mark.parametrize("name", CAPTURED)
def test_what_is_unusual_about_real_messages(name: str) -> None:
    stem, _, suffix = name.rpartition(".")
    one = corpus.exchange(stem)
    side = "request" if suffix == "req" else "response"
    keys_given = [corpus.key(getattr(one, side)["decrypts_with"])]
    found = codes(inspect.inspect(one.raw(side), keys=keys_given))
    assert found >= CAPTURED[name]


def test_remarks_are_said_once() -> None:
    message = enveloped(recipients=tuple(
        replace(Recipient(party=CA), null_parameters=False) for _ in range(3)))
    report = inspect.inspect(message.build())
    assert [remark.code for remark in report.remarks].count("no-null") == 1
