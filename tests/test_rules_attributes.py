"""Group A of the rules: the signed attributes of a pkiMessage (RFC 8894 section 3.2.1)."""

from __future__ import annotations

from typing import Any

import pytest

import pyscep
from pyscep.errors import EnrollmentRefused, ProtocolError
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1
from tests.endpoint import (
    CHALLENGE,
    Authority,
    Endpoint,
    FakeServer,
    answering,
    client,
    drive,
    enroll,
    issue_at_once,
)

OUT_OF_SCOPE = {
    "A01 (INTEGER)": "messageType as INTEGER was seen from a device and is read",
    "A08 (strict)": "there is no strict reader: senderNonce of 0 to 64 octets is accepted",
    "A10 (absent)": "a request without senderNonce is accepted: devices send none",
    "A17 (strict)": "there is no strict reader: FAILURE without failInfo is a refusal",
    "A21 (strict)": "there is no strict reader: a stray failInfo is ignored",
    "A25 (strict)": "there is no strict reader: stray attributes in a request are ignored",
}


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def request(**knobs: Any) -> forge.Forge:
    return forge.pkcs_req(keys.ca(), **knobs)


def enrolled_client(server: FakeServer) -> Any:
    """The Identity that a client gets from a fake server."""
    outcome = enroll(server)
    return pyscep.Identity(outcome.certificates[0], keys.rsa_key("client"))


def every_client_message() -> dict[str, forge.Message]:
    """One message of each type, as the package's client writes it."""
    server = FakeServer()
    key = keys.rsa_key("client")
    owner = enrolled_client(server)
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab")
    drive(client().renew(owner, key, csr), server)
    server.answer = answering(status="3")
    pending = enroll(server)
    drive(client().poll(pending, key), server)
    server.answer = lambda message, opened: forge.cert_rep(
        message, certificates=(owner.raw.der,))
    drive(client().get_cert(owner, owner.certificate.serial_number), server)
    server.answer = answering(status="2")
    with pytest.raises(EnrollmentRefused):
        drive(client().get_crl(owner), server)
    return {message.message_type or "": message for message in server.messages}


@pytest.fixture(scope="module")
def client_messages() -> dict[str, forge.Message]:
    return every_client_message()


# --- messageType ----------------------------------------------------------------------


@pytest.mark.rule("A01")
def test_a01_message_type_is_a_printable_string(
    client_messages: dict[str, forge.Message], endpoint: Endpoint
) -> None:
    assert sorted(client_messages) == ["17", "19", "20", "21", "22"]
    for number, message in client_messages.items():
        value = message.value("message_type")
        assert value is not None
        assert value.raw == b"\x13\x02" + number.encode()
    reply = endpoint.send(request())
    value = reply.value("message_type")
    assert value is not None
    assert value.raw == b"\x13\x013"


@pytest.mark.parametrize("value", [
    asn1.octets(b"19"), asn1.seq(), asn1.null(), asn1.tlv(0x0A, b"\x13")], ids=bytes.hex)
@pytest.mark.rule("A01")
def test_a01_message_type_of_another_type(endpoint: Endpoint, value: bytes) -> None:
    endpoint.refuses(request(message_type=value), "2")


@pytest.mark.rule("A01")
def test_a01_message_type_as_an_integer_is_read(endpoint: Endpoint) -> None:
    """Seen once, so accepted; an unknown number is still unknown."""
    endpoint.enrolls(request(message_type=asn1.integer(19)))
    endpoint.refuses(request(message_type=asn1.integer(18)), "2")
    endpoint.refuses(request(message_type=asn1.integer(-19)), "2")


@pytest.mark.rule("A02")
def test_a02_message_without_message_type(endpoint: Endpoint) -> None:
    endpoint.refuses(request(message_type=None), "2")


@pytest.mark.parametrize("value", [
    "18", "0", "99", "019", " 19", "19 ", "+19", "1_9", "", "3",
    asn1.text("\u0661\u0669", asn1.UTF8), asn1.text("\u0661\u0669", asn1.BMP)], ids=ascii)
@pytest.mark.rule("A03")
def test_a03_unknown_message_type(endpoint: Endpoint, value: str | bytes) -> None:
    endpoint.refuses(request(message_type=value), "2")


@pytest.mark.parametrize("tag", [asn1.PRINTABLE, asn1.UTF8, asn1.IA5, asn1.T61])
@pytest.mark.rule("A03")
def test_a03_known_message_type(endpoint: Endpoint, tag: int) -> None:
    endpoint.enrolls(request(message_type=asn1.text("19", tag)))


@pytest.mark.parametrize("value", ["19", "17", "20", "22", "18", "0", "", asn1.integer(19)],
                         ids=ascii)
@pytest.mark.parametrize("status", ["0", "2", "3"])
@pytest.mark.rule("A03")
def test_a03_client_rejects_what_is_not_a_cert_rep(status: str, value: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        enroll(answering(status=status, message_type=value))


# --- transactionID --------------------------------------------------------------------


@pytest.mark.rule("A04")
def test_a04_message_without_transaction_id(endpoint: Endpoint) -> None:
    response = endpoint.post(request(transaction_id=None))
    assert response.status == 400
    assert endpoint.authority.seen == []


@pytest.mark.rule("A04")
def test_a04_every_message_has_a_transaction_id(
    client_messages: dict[str, forge.Message]
) -> None:
    assert all(message.transaction_id for message in client_messages.values())


@pytest.mark.rule("A05")
def test_a05_transaction_id_is_emitted_as_printable_string(
    client_messages: dict[str, forge.Message]
) -> None:
    for message in client_messages.values():
        value = message.value("transaction_id")
        assert value is not None
        assert value.tag == asn1.PRINTABLE
        assert set(value.text) <= set("0123456789ABCDEF")


@pytest.mark.parametrize("value", ["a_b", "a*b", "\u00e9", "", "x" * 256])
@pytest.mark.rule("A05")
def test_a05_client_refuses_to_send_other_characters(value: str) -> None:
    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device")
    with pytest.raises(ValueError, match="transaction"):
        drive(client().enroll(key, csr, transaction_id=value), FakeServer())


@pytest.mark.parametrize("tag", [
    asn1.PRINTABLE, asn1.UTF8, asn1.IA5, asn1.T61, asn1.BMP, asn1.UNIVERSAL, asn1.NUMERIC,
    asn1.VISIBLE])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.rule("A06")
def test_a06_transaction_id_is_echoed_with_its_type(
    endpoint: Endpoint, tag: int, fails: bool
) -> None:
    knobs = {"challenge": "wrong"} if fails else {}
    reply = endpoint.send(request(transaction_id="Ab c=", transaction_id_tag=tag, **knobs))
    value = reply.value("transaction_id")
    assert value is not None
    assert value.raw == asn1.text("Ab c=", tag)
    assert reply.status == ("2" if fails else "0")


@pytest.mark.parametrize("value", ["a_b", "\x00", "a" * 255, " "], ids=ascii)
@pytest.mark.rule("A06")
def test_a06_characters_outside_the_type_are_echoed(endpoint: Endpoint, value: str) -> None:
    """base64url in a PrintableString, for one: the octets go back as they came."""
    answered = endpoint.send(request(transaction_id=value)).value("transaction_id")
    assert answered is not None
    assert answered.raw == asn1.text(value)


@pytest.mark.parametrize("value", [
    asn1.tlv(asn1.PRINTABLE), asn1.text("x" * 256), asn1.octets(b"0123"), asn1.integer(5),
    asn1.tlv(asn1.UTF8, b"\xff"), asn1.tlv(asn1.BMP, b"\x00")],
    ids=["empty", "256", "octets", "integer", "UTF-8", "UTF-16"])
@pytest.mark.rule("A06")
def test_a06_no_string_of_1_to_255_characters(endpoint: Endpoint, value: bytes) -> None:
    endpoint.refuses(request(transaction_id=value))


@pytest.mark.rule("A06")
def test_a06_client_rejects_a_changed_case() -> None:
    def answer(message: forge.Message, opened: Any) -> forge.Forge:
        assert message.transaction_id
        changed = message.transaction_id.swapcase()
        assert changed != message.transaction_id
        return issue_at_once(message, opened).but(transaction_id=changed)

    key = keys.rsa_key("client")
    csr = pyscep.pkcs10.create(key, "CN=device,O=Lab")
    with pytest.raises(ProtocolError):
        drive(client().enroll(key, csr, transaction_id="abCD"), FakeServer(answer))


@pytest.mark.parametrize("status", ["0", "2", "3"])
@pytest.mark.rule("A07")
def test_a07_client_rejects_another_transaction_id(status: str) -> None:
    """Before the status is looked at: a FAILURE of another transaction refuses nothing."""
    with pytest.raises(ProtocolError):
        enroll(answering(status=status, transaction_id="another"))


# --- nonces ---------------------------------------------------------------------------


@pytest.mark.rule("A08")
def test_a08_sender_nonce_has_16_octets(client_messages: dict[str, forge.Message]) -> None:
    for message in client_messages.values():
        value = message.value("sender_nonce")
        assert value is not None
        assert (value.tag, len(value.content)) == (asn1.OCTET_STRING, 16)


@pytest.mark.parametrize("value", [asn1.text("0123456789abcdef"), asn1.octets(bytes(65)),
                                   asn1.null()], ids=["string", "65", "null"])
@pytest.mark.rule("A08")
def test_a08_sender_nonce_of_another_type_or_size(endpoint: Endpoint, value: bytes) -> None:
    endpoint.refuses(request(replace_values=(("sender_nonce", (value,)),)))


@pytest.mark.rule("A09")
def test_a09_sender_nonce_is_fresh_in_each_message() -> None:
    server = FakeServer(answering(status="3"))
    key = keys.rsa_key("client")
    pending = enroll(server)
    for _ in range(3):
        pending = drive(client().poll(pending, key), server)
    nonces = {message.sender_nonce for message in server.messages}
    assert len(nonces) == len(server.messages) == 4
    assert len({message.transaction_id for message in server.messages}) == 1


@pytest.mark.rule("A09")
def test_a09_nonces_come_from_the_random_source_that_was_given() -> None:
    """A constant source is seen in the message: nothing else makes nonces."""
    server = FakeServer()
    enroll(server, token_bytes=lambda size: b"\x5a" * size)
    assert server.messages[0].sender_nonce == b"\x5a" * 16


@pytest.mark.parametrize("nonce", [None, b"", bytes(8), bytes(range(16)), bytes(64)],
                         ids=["absent", "0", "8", "16", "64"])
@pytest.mark.rule("A10")
def test_a10_sender_nonce_of_any_length_or_none(
    endpoint: Endpoint, nonce: bytes | None
) -> None:
    """In the lenient form: devices with nonces of 8 octets, or without one, enroll."""
    assert endpoint.send(request(sender_nonce=nonce)).status == "0"


@pytest.mark.parametrize("size", [0, 1, 8, 15, 16, 17, 64])
@pytest.mark.parametrize("challenge", [CHALLENGE, "wrong"])
@pytest.mark.rule("A11")
def test_a11_recipient_nonce_is_the_requests_sender_nonce(
    endpoint: Endpoint, size: int, challenge: str
) -> None:
    nonce = bytes(range(200, 200 + size)) if size <= 55 else bytes(range(size))
    reply = endpoint.send(request(sender_nonce=nonce, challenge=challenge))
    value = reply.value("recipient_nonce")
    assert value is not None
    assert value.raw == asn1.octets(nonce)


@pytest.mark.parametrize("status", ["0", "2", "3"])
@pytest.mark.parametrize("change", [
    lambda nonce: bytes([nonce[0] ^ 1]) + nonce[1:], lambda nonce: nonce[:-1],
    lambda nonce: nonce + b"\x00", lambda nonce: b""],
    ids=["bit", "shorter", "longer", "empty"])
@pytest.mark.rule("A11")
def test_a11_client_rejects_another_recipient_nonce(status: str, change: Any) -> None:
    def answer(message: forge.Message, opened: Any) -> forge.Forge:
        return answering(status=status, recipient_nonce=change(message.sender_nonce))(
            message, opened)

    with pytest.raises(ProtocolError):
        enroll(answer)


@pytest.mark.parametrize("status", ["0", "2", "3"])
@pytest.mark.rule("A12")
def test_a12_client_rejects_a_reply_without_recipient_nonce(status: str) -> None:
    with pytest.raises(ProtocolError):
        enroll(answering(status=status, recipient_nonce=None))


@pytest.mark.rule("A12")
def test_a12_client_accepts_the_recipient_nonce() -> None:
    assert enroll(issue_at_once).certificates


@pytest.mark.rule("A13")
def test_a13_cert_rep_has_a_fresh_sender_nonce() -> None:
    endpoint = Endpoint(authority=Authority())
    nonces = set()
    for pending, challenge in ((False, CHALLENGE), (False, "wrong"), (True, CHALLENGE)):
        endpoint.authority.pending = pending
        sent = request(challenge=challenge, transaction_id=f"{pending} {challenge}")
        reply = endpoint.send(sent)
        assert reply.sender_nonce is not None
        assert len(reply.sender_nonce) == 16
        assert reply.sender_nonce != sent.sender_nonce
        nonces.add(reply.sender_nonce)
    assert len(nonces) == 3


@pytest.mark.parametrize("nonce", [None, b"", bytes(16)], ids=["absent", "empty", "16"])
@pytest.mark.rule("A13")
def test_a13_client_does_not_need_the_servers_sender_nonce(nonce: bytes | None) -> None:
    assert enroll(answering(sender_nonce=nonce)).certificates


@pytest.mark.rule("A14")
def test_a14_nonces_are_not_chained_across_polls(endpoint: Endpoint) -> None:
    endpoint.authority.pending = True
    sent = request(transaction_id="A14")
    assert endpoint.send(sent).status == "3"
    endpoint.authority.pending = False
    names = forge.issuer_and_subject(keys.ca().subject, keys.client().subject)
    poll = forge.pkcs_req(keys.ca(), message_type="20", request=names, transaction_id="A14")
    assert endpoint.send(poll).status == "0"


@pytest.mark.rule("A14")
def test_a14_client_polls_whatever_nonce_the_server_sent() -> None:
    server = FakeServer(answering(status="3", sender_nonce=bytes(16)))
    pending = enroll(server)
    server.answer = lambda message, opened: forge.cert_rep(
        message, certificates=(keys.issue(keys.ca(), server.opened[0].plaintext),))
    assert drive(client().poll(pending, keys.rsa_key("client")), server).certificates


@pytest.mark.rule("A15")
def test_a15_cert_poll_has_no_recipient_nonce(client_messages: dict[str, forge.Message]) -> None:
    assert client_messages["20"].recipient_nonce is None


@pytest.mark.rule("A15")
def test_a15_cert_poll_with_recipient_nonce_is_processed(endpoint: Endpoint) -> None:
    endpoint.authority.pending = True
    endpoint.send(request(transaction_id="A15"))
    endpoint.authority.pending = False
    names = forge.issuer_and_subject(keys.ca().subject, keys.client().subject)
    poll = forge.pkcs_req(keys.ca(), message_type="20", request=names, transaction_id="A15",
                          recipient_nonce=bytes(16))
    assert endpoint.send(poll).status == "0"


# --- pkiStatus and failInfo -----------------------------------------------------------


@pytest.mark.rule("A16")
def test_a16_every_cert_rep_has_a_pki_status(endpoint: Endpoint) -> None:
    for status, pending, challenge in (("0", False, CHALLENGE), ("2", False, "wrong"),
                                       ("3", True, CHALLENGE)):
        endpoint.authority.pending = pending
        reply = endpoint.send(request(challenge=challenge, transaction_id=f"A16 {status}"))
        value = reply.value("pki_status")
        assert value is not None
        assert value.raw == b"\x13\x01" + status.encode()


@pytest.mark.parametrize("value", [
    None, "1", "4", "-1", "00", "0 ", "", asn1.integer(0), asn1.octets(b"0")], ids=ascii)
@pytest.mark.rule("A16")
def test_a16_client_rejects_another_pki_status(value: str | bytes | None) -> None:
    with pytest.raises(ProtocolError):
        enroll(lambda message, opened: issue_at_once(message, opened).but(pki_status=value))


@pytest.mark.rule("A17")
def test_a17_failure_has_fail_info(endpoint: Endpoint) -> None:
    value = endpoint.send(request(challenge="wrong")).value("fail_info")
    assert value is not None
    assert value.raw == b"\x13\x012"


@pytest.mark.rule("A17")
def test_a17_failure_without_fail_info_is_a_refusal() -> None:
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info=None))
    assert caught.value.fail_info is None


@pytest.mark.parametrize("fail_info", list(pyscep.FailInfo))
@pytest.mark.rule("A18")
def test_a18_fail_info_values_have_names(fail_info: pyscep.FailInfo) -> None:
    with pytest.raises(EnrollmentRefused, match=fail_info.rfc_name) as caught:
        enroll(answering(status="2", fail_info=str(int(fail_info))))
    assert caught.value.fail_info is fail_info
    endpoint = Endpoint(authority=Refusing(pyscep.Failure(fail_info=fail_info)))
    assert endpoint.send(request()).fail_info == str(int(fail_info))


@pytest.mark.parametrize("number", [5, 7, 99])
@pytest.mark.rule("A18")
def test_a18_unknown_fail_info_is_still_a_failure(number: int) -> None:
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info=str(number)))
    assert caught.value.fail_info == number


class Refusing:
    """An authority with one answer."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.seen: list[Any] = []

    def __call__(self, asked: Any) -> Any:
        self.seen.append(asked)
        return self.outcome


@pytest.mark.rule("A19")
def test_a19_fail_info_text_survives() -> None:
    text = "Schl\u00fcssel abgelaufen \u2014 \u2713"
    endpoint = Endpoint(authority=Refusing(pyscep.Failure(text=text)))
    value = endpoint.send(request()).value("fail_info_text")
    assert value is not None
    assert value.raw == asn1.text(text, asn1.UTF8)
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info_text=text))
    assert caught.value.text == text


@pytest.mark.rule("A19")
def test_a19_fail_info_text_as_printable_string() -> None:
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", fail_info_text=asn1.text("denied")))
    assert caught.value.text == "denied"


@pytest.mark.rule("A19")
def test_a19_fail_info_text_under_another_oid_is_ignored() -> None:
    stray = forge.attribute("1.3.6.1.5.5.7.24", asn1.text("denied", asn1.UTF8))
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(answering(status="2", extra=(stray,)))
    assert caught.value.text is None


@pytest.mark.rule("A19")
def test_a19_fail_info_text_is_optional(endpoint: Endpoint) -> None:
    assert endpoint.send(request(challenge="wrong")).value("fail_info_text") is None


@pytest.mark.rule("A20")
def test_a20_fail_info_text_only_with_failure() -> None:
    with pytest.raises(TypeError):
        pyscep.Success(text="no")
    with pytest.raises(TypeError):
        pyscep.Pending(text="no")


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.rule("A21")
def test_a21_no_fail_info_on_success_and_pending(endpoint: Endpoint, pending: bool) -> None:
    endpoint.authority.pending = pending
    reply = endpoint.send(request())
    assert reply.status == ("3" if pending else "0")
    assert reply.fail_info is None
    assert reply.value("fail_info_text") is None


@pytest.mark.rule("A21")
def test_a21_client_ignores_fail_info_on_success_and_pending() -> None:
    assert enroll(answering(fail_info="2", fail_info_text="no")).certificates
    pending = enroll(answering(status="3", fail_info="2"))
    assert isinstance(pending, pyscep.PendingEnrollment)


# --- structure ------------------------------------------------------------------------

SCEP_NAMES = ["message_type", "transaction_id", "sender_nonce"]
VALUES = {"message_type": asn1.text("19"), "transaction_id": asn1.text("0123"),
          "sender_nonce": asn1.octets(bytes(16)), "content_type": asn1.oid(forge.DATA)}


@pytest.mark.parametrize("name", [*SCEP_NAMES, "content_type"])
@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.rule("A22")
def test_a22_exactly_one_value_in_an_attribute(
    endpoint: Endpoint, name: str, count: int
) -> None:
    values = (VALUES[name],) * count
    endpoint.refuses(request(replace_values=((name, values),)))


@pytest.mark.parametrize("name", [*SCEP_NAMES, "content_type"])
@pytest.mark.rule("A23")
def test_a23_no_attribute_twice(endpoint: Endpoint, name: str) -> None:
    endpoint.refuses(request(extra=(forge.attribute(name, VALUES[name]),)))


@pytest.mark.parametrize("name", ["pki_status", "recipient_nonce"])
@pytest.mark.rule("A23")
def test_a23_client_rejects_an_attribute_twice(name: str) -> None:
    twice = {"pki_status": asn1.text("2"), "recipient_nonce": asn1.octets(bytes(16))}[name]
    with pytest.raises(ProtocolError):
        enroll(answering(extra=(forge.attribute(name, twice),)))


@pytest.mark.parametrize("count", [59, 60, 200])
@pytest.mark.rule("A24")
def test_a24_number_of_attributes_is_bounded(endpoint: Endpoint, count: int) -> None:
    """64 in all; beside the five that a request has."""
    many = tuple(forge.attribute(f"1.2.3.{arc}", asn1.null()) for arc in range(count))
    if count <= 59:
        endpoint.enrolls(request(extra=many))
    else:
        endpoint.refuses(request(extra=many))


UNKNOWN = (forge.attribute("microsoft_error", asn1.text("-2146875377")),
           forge.attribute("1.2.3.4.5", asn1.seq(asn1.integer(2), asn1.null())))


@pytest.mark.rule("A24")
def test_a24_unknown_attributes_are_ignored(endpoint: Endpoint) -> None:
    endpoint.enrolls(request(extra=UNKNOWN))
    assert enroll(answering(extra=UNKNOWN)).certificates
    with pytest.raises(EnrollmentRefused):
        enroll(answering(status="2", extra=UNKNOWN))
    assert isinstance(enroll(answering(status="3", extra=UNKNOWN)), pyscep.PendingEnrollment)


@pytest.mark.rule("A25")
def test_a25_no_reply_attributes_in_requests(client_messages: dict[str, forge.Message]) -> None:
    for message in client_messages.values():
        for name in ("pki_status", "fail_info", "fail_info_text", "recipient_nonce"):
            assert message.value(name) is None


@pytest.mark.rule("A25")
def test_a25_reply_attributes_in_a_request_are_ignored(endpoint: Endpoint) -> None:
    endpoint.enrolls(request(pki_status="2", fail_info="0", recipient_nonce=bytes(16)))
