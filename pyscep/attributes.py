"""The signed attributes of SCEP: what stands between signature and envelope.

RFC 8894 section 3.2.1. Readers take the attributes of one SignerInfo by encoded OID; they
don't know whether those are verified.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, assert_never

from pyscep.codec import der
from pyscep.codec.templates import attribute_of
from pyscep.enums import FailInfo, MessageType, PkiStatus
from pyscep.errors import DecodeError
from pyscep.messages import Failure, Outcome, Pending, Success
from pyscep.transaction import MAX_NONCE_BYTES, MAX_TRANSACTION_ID, Transaction

MESSAGE_TYPE: Final = der.oid("2.16.840.1.113733.1.9.2")
PKI_STATUS: Final = der.oid("2.16.840.1.113733.1.9.3")
FAIL_INFO: Final = der.oid("2.16.840.1.113733.1.9.4")
SENDER_NONCE: Final = der.oid("2.16.840.1.113733.1.9.5")
RECIPIENT_NONCE: Final = der.oid("2.16.840.1.113733.1.9.6")
TRANSACTION_ID: Final = der.oid("2.16.840.1.113733.1.9.7")
FAIL_INFO_TEXT: Final = der.oid("1.3.6.1.5.5.7.24.1")

MAX_FAIL_INFO_TEXT: Final = 1024
_NUMBER: Final = re.compile(rb"0|[1-9][0-9]{0,4}", re.ASCII)


def common_attributes(
    message_type: MessageType, transaction: Transaction, sender_nonce: bytes
) -> list[bytes]:
    """What every message has."""
    text = transaction.transaction_id.encode(der.STRING_CODECS[transaction.transaction_id_tag])
    return [
        _MESSAGE_TYPE_ATTRIBUTES[message_type],
        attribute_of(TRANSACTION_ID, transaction.transaction_id_tag, text),
        attribute_of(SENDER_NONCE, der.OCTET_STRING, sender_nonce),
    ]


def number_attribute(oid: bytes, number: int) -> bytes:
    return attribute_of(oid, der.PRINTABLE_STRING, b"%d" % number)


_MESSAGE_TYPE_ATTRIBUTES: Final = {
    kind: number_attribute(MESSAGE_TYPE, kind) for kind in MessageType
}
STATUS_ATTRIBUTES: Final = {status: number_attribute(PKI_STATUS, status) for status in PkiStatus}


def cert_rep_attributes(
    outcome: Outcome, transaction: Transaction, sender_nonce: bytes
) -> list[bytes]:
    """What a CertRep has."""
    attributes = common_attributes(MessageType.CERT_REP, transaction, sender_nonce)
    attributes += (attribute_of(RECIPIENT_NONCE, der.OCTET_STRING, transaction.sender_nonce),)
    match outcome:
        case Success():
            attributes += (STATUS_ATTRIBUTES[PkiStatus.SUCCESS],)
        case Pending():
            attributes += (STATUS_ATTRIBUTES[PkiStatus.PENDING],)
        case Failure(fail_info=fail_info, text=text):
            code = FailInfo.BAD_REQUEST if fail_info is None else fail_info
            attributes += (
                STATUS_ATTRIBUTES[PkiStatus.FAILURE],
                number_attribute(FAIL_INFO, code),
            )
            if text:
                attributes += (attribute_of(FAIL_INFO_TEXT, der.UTF8_STRING, text.encode()),)
        case _:
            assert_never(outcome)
    return attributes


_MESSAGE_TYPES: Final = {b"%d" % kind: kind for kind in MessageType}


def message_type_of(attributes: Mapping[bytes, der.Node]) -> MessageType:
    if MESSAGE_TYPE not in attributes:
        raise DecodeError("messageType is missing")
    value = attributes[MESSAGE_TYPE]
    octets = value.value
    if octets in _MESSAGE_TYPES and value.tag in der.STRING_NAMES:
        return _MESSAGE_TYPES[octets]
    if value.tag == der.INTEGER and len(octets) == 1:
        # Seen from one client; the RFC wants text.
        number = value.integer("messageType")
    else:
        number = number_of(attributes, MESSAGE_TYPE, "messageType")
    try:
        return MessageType(number)
    except ValueError:
        raise DecodeError(f"unknown messageType {number}") from None


def number_of(attributes: Mapping[bytes, der.Node], oid: bytes, what: str) -> int:
    """A number written as text, in exactly one way."""
    value = attributes.get(oid)
    if value is None:
        raise DecodeError(f"{what} is missing")
    if value.tag not in der.STRING_NAMES or _NUMBER.fullmatch(value.value) is None:
        raise DecodeError(f"{what} is not a number in text", offset=value.start)
    return int(value.value)


def transaction_of(attributes: Mapping[bytes, der.Node]) -> Transaction:
    if TRANSACTION_ID not in attributes:
        raise DecodeError("transactionID is missing")
    value = attributes[TRANSACTION_ID]
    text = value.text("transactionID")
    if not 0 < len(text) <= MAX_TRANSACTION_ID:
        raise DecodeError("transactionID is empty or too long", offset=value.start)
    return Transaction(
        transaction_id=text,
        transaction_id_tag=value.tag,
        sender_nonce=nonce_of(attributes, SENDER_NONCE, "senderNonce"),
    )


def nonce_of(attributes: Mapping[bytes, der.Node], oid: bytes, what: str) -> bytes:
    """A nonce of any length that is seen, empty if there is none."""
    if oid not in attributes:
        return b""
    value = attributes[oid]
    nonce = value.octets(what)
    if len(nonce) > MAX_NONCE_BYTES:
        raise DecodeError(f"{what} is too long", offset=value.start)
    return nonce


def failure_of(attributes: Mapping[bytes, der.Node]) -> Failure:
    code: FailInfo | int | None = None
    if FAIL_INFO in attributes:
        code = number_of(attributes, FAIL_INFO, "failInfo")
        if code in tuple(FailInfo):  # Python 3.11 refuses to look for an int in an Enum
            code = FailInfo(code)
    text = None
    if FAIL_INFO_TEXT in attributes:
        text = attributes[FAIL_INFO_TEXT].text("failInfoText")[:MAX_FAIL_INFO_TEXT]
    return Failure(fail_info=code, text=text)
