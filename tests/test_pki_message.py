"""pki_message and attributes: what rule tests and the round trip leave."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

import pyscep
from pyscep import attributes, pki_message
from pyscep.cms import signed_data
from pyscep.cms.algorithms import Algorithms
from pyscep.codec import der
from pyscep.errors import AlgorithmError, DecodeError, DecryptionError, ProtocolError
from pyscep.identity import IssuerAndSerial, RawCertificate
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import identity

CA, CLIENT = keys.ca(), keys.client()
TRANSACTION = pyscep.Transaction(transaction_id="T-1", sender_nonce=b"n" * 16)


def open_outer(data: bytes) -> pki_message.OuterRequest:
    return pki_message.open_request(signed_data.verify(
        signed_data.read_signed_data(data), pyscep.LEGACY, max_rsa_bits=4096))


def decrypt(data: bytes, **changes: Any) -> Any:
    return pki_message.decrypt_request(
        replace(open_outer(data), **changes), (identity(CA),), pyscep.MODERN,
        token_bytes=secrets.token_bytes)


def encode(message: Any, **options: Any) -> bytes:
    shape: dict[str, Any] = {
        "transaction": TRANSACTION, "signer": identity(CLIENT),
        "recipient": RawCertificate(CA.der), "algorithms": Algorithms(),
        "token_bytes": secrets.token_bytes} | options
    return pki_message.encode_request(message, **shape)


MESSAGES: dict[str, Any] = {
    "PKCSReq": pyscep.PKCSReq(csr=pyscep.pkcs10.read(keys.csr(CLIENT.key, challenge="w"))),
    "RenewalReq": pyscep.RenewalReq(csr=pyscep.pkcs10.read(keys.csr(CLIENT.key))),
    "CertPoll": pyscep.CertPoll(issuer=CA.subject, subject=CLIENT.subject),
    "GetCert": pyscep.GetCert(target=IssuerAndSerial(CA.subject, 1 << 150)),
    "GetCRL": pyscep.GetCRL(target=IssuerAndSerial(CA.subject, 5)),
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("signing_time", [None, datetime(2049, 12, 31, 1, 2, 3, tzinfo=UTC),
                                          datetime(2050, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("algorithms", [
    Algorithms(), Algorithms(digest="sha512", cipher="aes256-cbc", signature="sha512WithRSA"),
    Algorithms(key_transport="rsaes-oaep", oaep_digest="sha256", oaep_mgf_digest="sha1")],
    ids=["plain", "combined", "oaep"])
def test_requests(name: str, signing_time: datetime | None, algorithms: Algorithms) -> None:
    message = MESSAGES[name]
    encoded = encode(message, signing_time=signing_time, algorithms=algorithms)
    read = forge.read_message(encoded, der=True)
    assert (read.message_type, read.transaction_id, read.sender_nonce) == (
        str(message.message_type.value), "T-1", b"n" * 16)
    outer = open_outer(encoded)
    assert outer.signing_time == signing_time
    assert outer.transaction == TRANSACTION
    assert repr(outer.envelope) not in repr(outer)
    found, mirrored, recipient = decrypt(encoded)
    assert found == message
    assert mirrored == algorithms
    assert recipient.certificate == CA.certificate


@pytest.mark.parametrize("key", [keys.ec_key("x"), keys.ed_key("x")])
def test_what_cannot_be_encrypted_to(key: Any) -> None:
    recipient = RawCertificate(keys.party("CN=x", key).der)
    with pytest.raises(AlgorithmError):
        encode(MESSAGES["CertPoll"], recipient=recipient)
    with pytest.raises(AlgorithmError):
        cert_rep(pyscep.Success(certificates=(CA.certificate,)), recipient=recipient)


def test_no_message_data_for_a_cert_rep() -> None:
    data = forge.pkcs_req(CA).build()
    with pytest.raises(DecryptionError) as caught:
        decrypt(data, message_type=pyscep.MessageType.CERT_REP)
    assert "no message data for CERT_REP" in str(caught.value.__cause__)


@pytest.mark.parametrize("knobs", [
    {"message_type": "3"}, {"content": b""},
    {"message_type": asn1.tlv(2, b"\x7f" + b"\xff" * 2048)}, {"message_type": asn1.integer(300)},
    {"message_type": asn1.integer(-1)}, {"message_type": asn1.tlv(0x13, b"")},
    {"signing_time": asn1.null()}, {"signing_time": asn1.tlv(0x17, b"991332000000Z")},
    {"transaction_id": ""}, {"transaction_id": "x" * 256}, {"transaction_id": asn1.integer(5)},
    {"sender_nonce": bytes(65)},
])
def test_requests_that_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        open_outer(forge.pkcs_req(CA, **knobs).build())


def test_a_message_type_as_a_number() -> None:
    outer = open_outer(forge.pkcs_req(CA, message_type=asn1.integer(17)).build())
    assert outer.message_type is pyscep.MessageType.RENEWAL_REQ


@pytest.mark.parametrize("message", [
    forge.Forge(signer_infos=0, content=b"x"), forge.Forge(no_signed_attributes=True, content=b""),
    forge.Forge(transaction_id=None, content=b""), forge.Forge(transaction_id="", content=b""),
    forge.Forge(sender_nonce=bytes(65), content=b"")])
def test_no_transaction_to_answer(message: forge.Forge) -> None:
    read = signed_data.read_signed_data(message.build())
    assert pki_message.peek_transaction(read) is None


def test_the_transaction_of_an_unverified_message() -> None:
    message = forge.pkcs_req(CA, transaction_id="ä", transaction_id_tag=asn1.UTF8,
                             signature_value=bytes(256))
    found = pki_message.peek_transaction(signed_data.read_signed_data(message.build()))
    assert found == pyscep.Transaction(
        transaction_id="ä", transaction_id_tag=asn1.UTF8, sender_nonce=message.sender_nonce or b"")


SERIAL = asn1.integer(5)


@pytest.mark.parametrize(("kind", "data"), [
    ("20", b""), ("20", asn1.seq(CA.subject)), ("20", asn1.seq(CA.subject, asn1.null())),
    ("20", asn1.seq(asn1.null(), CA.subject)), ("20", asn1.seq(*[CA.subject] * 3)),
    ("21", asn1.seq(CA.subject)), ("21", asn1.seq(CA.subject, SERIAL, SERIAL)),
    ("21", asn1.seq(SERIAL, CA.subject)), ("21", asn1.seq(CA.subject, asn1.integer(-1))),
    ("22", asn1.seq(CA.subject, asn1.integer(1 << 320))), ("22", asn1.null()),
    ("22", asn1.seq(asn1.null(), SERIAL)), ("19", asn1.seq()),
])
def test_message_data_that_does_not_fit(kind: str, data: bytes) -> None:
    with pytest.raises(DecryptionError, match="does not hold what its type says"):
        decrypt(forge.pkcs_req(CA, request=data, message_type=kind).build())


def test_a_csr_without_padding_behind_it() -> None:
    """Whole blocks that read as a CSR, and yet the padding is wrong."""
    words = ("x" * size for size in range(1, 4000))
    data = next(one for one in (keys.csr(CLIENT.key, challenge=word) for word in words)
                if len(one) % 16 == 0 and one[-1] > 16)
    message = forge.pkcs_req(CA, request=data, envelope={"pad": lambda plain, _: plain})
    with pytest.raises(DecryptionError, match="does not hold what its type says"):
        decrypt(message.build())
    assert decrypt(forge.pkcs_req(CA, request=data).build())


def test_a_serial_number_of_forty_octets() -> None:
    number = (1 << 319) - 1
    found, _, _ = decrypt(forge.pkcs_req(
        CA, request=forge.issuer_and_serial(CA.subject, number), message_type="21").build())
    assert found.target == IssuerAndSerial(CA.subject, number)


# --- CertRep ---------------------------------------------------------------------------


def cert_rep(outcome: Any, **options: Any) -> bytes:
    shape: dict[str, Any] = {
        "transaction": TRANSACTION, "signer": identity(CA),
        "recipient": RawCertificate(CLIENT.der), "algorithms": Algorithms(),
        "token_bytes": secrets.token_bytes} | options
    return pki_message.encode_cert_rep(outcome, **shape)


def decode(data: bytes, **options: Any) -> Any:
    shape: dict[str, Any] = {
        "transaction": TRANSACTION, "signers": (RawCertificate(CA.der),),
        "recipient": identity(CLIENT), "policy": pyscep.MODERN,
        "token_bytes": secrets.token_bytes} | options
    return pki_message.decode_cert_rep(data, **shape)


@pytest.mark.parametrize("outcome", [
    pyscep.Pending(), pyscep.Failure(), pyscep.Failure(fail_info=99, text="ä"),
    pyscep.Failure(fail_info=pyscep.FailInfo.BAD_ALG)], ids=repr)
@pytest.mark.parametrize("empty_content", [True, False])
@pytest.mark.parametrize("recipient", [None, RawCertificate(CLIENT.der)])
def test_answers_without_an_envelope(outcome: Any, empty_content: bool, recipient: Any) -> None:
    encoded = cert_rep(outcome, empty_content=empty_content, recipient=recipient)
    assert forge.read_message(encoded, der=True).content == (b"" if empty_content else None)
    assert decode(encoded) == outcome


def test_a_failure_without_a_code_is_sent_as_bad_request() -> None:
    assert decode(cert_rep(pyscep.Failure(fail_info=None))).fail_info == 2


def test_a_success() -> None:
    encoded = cert_rep(pyscep.Success(certificates=(CA.certificate,), crls=(keys.crl(CA),)))
    asn1.assert_der(encoded)
    found = decode(encoded)
    assert found.certificates == (CA.der,)
    assert len(found.crls) == 1
    with pytest.raises(ValueError, match="needs the certificate"):
        cert_rep(pyscep.Success(certificates=(CA.certificate,)), recipient=None)


def reply(**knobs: Any) -> bytes:
    """A forged answer to TRANSACTION."""
    sent = forge.read_message(encode(MESSAGES["PKCSReq"]))
    return forge.cert_rep(sent, **{"certificates": (CA.der,)} | knobs).build()


@pytest.mark.parametrize("knobs", [
    {"message_type": "19"}, {"message_type": None}, {"transaction_id": None},
    {"transaction_id": "T-2"}, {"recipient_nonce": None}, {"recipient_nonce": b""},
    {"recipient_nonce": b"m" * 16}, {"recipient_nonce": bytes(65)}, {"status": None},
    {"status": "1"}, {"status": "4"}, {"status": "00"}, {"status": "99999"},
    {"no_content": True, "envelope": None}, {"content": b""}, {"content": b"\x00"},
    {"data": b""}, {"data": CA.der}, {"envelope": {"cek": bytes(3)}},
    {"data": keys.csr(CLIENT.key)}, {"to": CA}, {"server": keys.ra("sign")},
    {"server": keys.Party(CLIENT.key, CA.der)},
    {"status": "2", "fail_info": "x"}, {"status": "2", "fail_info": "-1"},
    {"status": "2", "fail_info": asn1.integer(2)}, {"status": "2", "fail_info_text":
                                                    asn1.tlv(asn1.UTF8, b"\xff")},
    {"status": "2", "fail_info_text": asn1.integer(1)},
], ids=repr)
def test_answers_that_are_refused(knobs: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode(reply(**knobs))


def test_an_answer_without_nonce_to_a_request_without() -> None:
    bare = replace(TRANSACTION, sender_nonce=b"")
    for knobs in ({"recipient_nonce": None}, {"recipient_nonce": b""}):
        with pytest.raises(ProtocolError, match="belongs to another request"):
            decode(reply(**knobs), transaction=bare)


def test_failures_as_servers_send_them() -> None:
    found = decode(reply(status="2", fail_info=None))
    assert found == pyscep.Failure(fail_info=None)
    found = decode(reply(status="2", fail_info="7", fail_info_text="x" * 5000))
    assert (found.fail_info, len(found.text)) == (7, 1024)
    found = decode(reply(status="2", fail_info="4"))
    assert found.fail_info is pyscep.FailInfo.BAD_CERT_ID


@pytest.mark.parametrize(("knobs", "words"), [
    ({"digest": "sha1"}, ["sha1"]),
    ({"digest": "sha1", "envelope": {"cipher": "des-cbc"}}, ["sha1", "des-cbc", "legacy"]),
    ({"digest": "md5", "status": "3"}, ["md5"]),
    ({"digest": "md5", "envelope": {"cipher": "unknown"}}, ["md5", "unknown"]),
])
def test_all_refused_algorithms_are_named_at_once(
    knobs: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(AlgorithmError) as caught:
        decode(reply(**knobs))
    assert all(word in caught.value.reason for word in words)


def test_numbers_are_written_in_one_way() -> None:
    def read(content: bytes, tag: int = asn1.PRINTABLE) -> int:
        node = der.read(asn1.tlv(tag, content))
        return attributes.number_of({b"": node}, b"", "it")

    assert [read(text) for text in (b"0", b"3", b"19", b"99999")] == [0, 3, 19, 99999]
    assert read(b"19", asn1.UTF8) == 19
    for text in (b"", b" 3", b"3 ", b"+3", b"-3", b"03", b"3\n", b"100000", b"3.0", b"\xb2",
                 "\u0663".encode(), b"0x3", b"1_0"):
        with pytest.raises(DecodeError, match="it is not a number in text"):
            read(text, asn1.UTF8)
    with pytest.raises(DecodeError, match="it is not a number"):
        read(b"3", asn1.OCTET_STRING)
    with pytest.raises(DecodeError, match="it is missing"):
        attributes.number_of({}, b"", "it")
