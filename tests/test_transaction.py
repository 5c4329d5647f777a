"""transaction: IDs, nonces, and the state of a pending enrollment."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import pyscep
from pyscep.errors import DecodeError
from pyscep.transaction import new_transaction, new_transaction_id, same_transaction

PENDING = pyscep.PendingEnrollment(
    url="http://ca.example/scep", transaction_id="0A", message_type=pyscep.MessageType.PKCS_REQ,
    spki=b"\x01", subject=b"\x02", signer=b"\x03", recipient=b"\x04", ca_certificates=(b"\x05",),
    digest="sha256", cipher="aes128-cbc", post=True,
    requested_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def counting(size: int) -> bytes:
    return bytes(range(size))


def test_new_ids_and_nonces() -> None:
    assert new_transaction_id(counting) == "000102030405060708090A0B0C0D0E0F"
    made = new_transaction(counting)
    assert made.transaction_id == "000102030405060708090A0B0C0D0E0F"
    assert made.sender_nonce == bytes(range(16))
    assert made.transaction_id_tag == 0x13
    assert new_transaction(counting, "mine").transaction_id == "mine"


@pytest.mark.parametrize("text", ["0", "x" * 255, "a b'()+,-./:=?Z9"])
def test_ids_that_are_taken(text: str) -> None:
    assert new_transaction(counting, text).transaction_id == text


@pytest.mark.parametrize("text", ["", "x" * 256, "a_b", "ä", "a\n"])
def test_ids_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="transactionID"):
        new_transaction(counting, text)


@pytest.mark.parametrize(("text", "nonce", "same"), [
    ("ä1", b"nonce", True), ("ä2", b"nonce", False), ("ä1", b"Nonce", False),
    ("ä1", b"", False), ("", b"nonce", False), ("ä1 ", b"nonce", False)])
def test_which_reply_belongs_to_a_request(text: str, nonce: bytes, same: bool) -> None:
    request = pyscep.Transaction(transaction_id="ä1", sender_nonce=b"nonce")
    assert same_transaction(request, text, nonce) is same


def test_pending_survives_json() -> None:
    text = PENDING.to_json()
    assert pyscep.PendingEnrollment.from_json(text) == PENDING
    assert json.loads(text)["message_type"] == "PKCS_REQ"
    polled = PENDING.polled().polled()
    assert polled.polls == 2
    assert pyscep.PendingEnrollment.from_json(polled.to_json()) == polled


@pytest.mark.parametrize("change", [
    {"version": 2}, {"version": None}, {"url": 5}, {"transaction_id": None}, {"spki": 5},
    {"spki": "ä"}, {"spki": "A"}, {"subject": None}, {"signer": []}, {"recipient": {}},
    {"ca_certificates": []}, {"ca_certificates": None}, {"ca_certificates": [5]},
    {"ca_certificates": "x"}, {"digest": "sha3"}, {"digest": []}, {"cipher": "rc4"},
    {"cipher": None}, {"post": "yes"}, {"post": 1}, {"polls": "1"}, {"polls": 1.5},
    {"polls": True}, {"requested_at": 5}, {"requested_at": "soon"}, {"message_type": "X"},
    {"message_type": 19}, {"more": 1},
], ids=str)
def test_another_state(change: dict[str, Any]) -> None:
    document = json.loads(PENDING.to_json()) | change
    with pytest.raises(DecodeError, match="not the state of a pending enrollment"):
        pyscep.PendingEnrollment.from_json(json.dumps(document))


@pytest.mark.parametrize("missing", json.loads(PENDING.to_json()))
def test_a_state_with_a_field_missing(missing: str) -> None:
    document = json.loads(PENDING.to_json())
    del document[missing]
    with pytest.raises(DecodeError):
        pyscep.PendingEnrollment.from_json(json.dumps(document))


@pytest.mark.parametrize("text", [
    "", "x", "null", "5", '"x"', "[]", "{}", "[" * 100_000, '{"version": 1' + "0" * 5000 + "}"],
    ids=lambda text: text[:9])
def test_what_is_no_state(text: str) -> None:
    with pytest.raises(DecodeError):
        pyscep.PendingEnrollment.from_json(text)
