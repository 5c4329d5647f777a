"""transactionID, nonces, and what a client keeps while a request is pending."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from pyscep.cms.algorithms import CIPHERS, DIGESTS
from pyscep.codec import der
from pyscep.enums import MessageType
from pyscep.errors import DecodeError

NONCE_BYTES: Final = 16
MAX_NONCE_BYTES: Final = 64
MAX_TRANSACTION_ID: Final = 255
TokenBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What ties a reply to its request (RFC 8894 section 3.2.1).

    The ID only correlates: several devices use ``0``, and all known clients use one ID again
    for their renewals.
    """

    transaction_id: str
    transaction_id_tag: int = der.PRINTABLE_STRING
    """The ASN.1 string type it came in, so that it goes back the same."""
    sender_nonce: bytes = b""
    """Of the request, in the length that it came in; empty if there was none."""


def new_transaction_id(token_bytes: TokenBytes) -> str:
    """32 upper-case hex digits: every server takes these."""
    return token_bytes(16).hex().upper()


def new_transaction(token_bytes: TokenBytes, transaction_id: str | None = None) -> Transaction:
    """A transaction for a request of ours, with a fresh nonce.

    Raises:
        ValueError: a given ID that is empty, too long, or not a PrintableString.
    """
    if transaction_id is None:
        transaction_id = new_transaction_id(token_bytes)
    elif not 0 < len(transaction_id) <= MAX_TRANSACTION_ID:
        raise ValueError(f"a transactionID has 1 to {MAX_TRANSACTION_ID} characters")
    elif not der.is_printable(transaction_id):
        raise ValueError("a transactionID is a PrintableString: letters, digits and '()+,-./:=?")
    return Transaction(transaction_id=transaction_id, sender_nonce=token_bytes(NONCE_BYTES))


def same_transaction(request: Transaction, transaction_id: str, recipient_nonce: bytes) -> bool:
    """Whether a reply belongs to a request: same ID, and our nonce came back."""
    same_id = hmac.compare_digest(transaction_id.encode(), request.transaction_id.encode())
    return same_id & hmac.compare_digest(recipient_nonce, request.sender_nonce)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingEnrollment:
    """A request that waits for the CA's decision; keep it with the key and poll later.

    It holds no secret: neither the key nor the challenge.
    """

    url: str
    transaction_id: str
    message_type: MessageType
    spki: bytes
    """SubjectPublicKeyInfo that the certificate is for, DER."""
    subject: bytes
    """Subject of the CSR, DER."""
    signer: bytes
    """Certificate that signed the request and that the reply is encrypted to, DER."""
    recipient: bytes
    """Certificate of the server that requests are encrypted to, DER."""
    ca_certificates: tuple[bytes, ...]
    """Certificates of the server that are trusted: CA, then others, DER."""
    digest: str
    cipher: str
    post: bool
    """Requests go by POST."""
    requested_at: datetime
    polls: int = 0
    """How often it has been polled."""

    def polled(self) -> PendingEnrollment:
        """The same, polled once more."""
        return replace(self, polls=self.polls + 1)

    def to_json(self) -> str:
        """One JSON object; ``from_json`` reads it back."""
        document = asdict(self)
        for key in ("spki", "subject", "signer", "recipient"):
            document[key] = _encode(document[key])
        document["ca_certificates"] = [_encode(one) for one in self.ca_certificates]
        document["message_type"] = self.message_type.name
        document["requested_at"] = self.requested_at.isoformat()
        return json.dumps({"version": 1, **document}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> PendingEnrollment:
        """Read what ``to_json`` wrote.

        Raises:
            DecodeError: it is something else.
        """
        try:
            document = json.loads(text)
            if document.pop("version") != 1:
                raise ValueError("another version")
            for key in ("spki", "subject", "signer", "recipient"):
                document[key] = _decode(document[key])
            document["ca_certificates"] = tuple(map(_decode, document["ca_certificates"]))
            document["message_type"] = MessageType[document["message_type"]]
            document["requested_at"] = datetime.fromisoformat(document["requested_at"])
            _check_fields(document)
            return cls(**document)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DecodeError(f"not the state of a pending enrollment: {error}") from error


def _check_fields(document: dict[str, Any]) -> None:
    """Refuse values of another type than a poll works with; JSON can hold any."""
    kinds = {"url": str, "transaction_id": str, "post": bool, "polls": int}
    for name, kind in kinds.items():
        if type(document[name]) is not kind:
            raise TypeError(f"{name} is not of the type {kind.__name__}")
    if not document["ca_certificates"]:
        raise ValueError("no CA certificate")
    if document["digest"] not in DIGESTS or document["cipher"] not in CIPHERS:
        raise ValueError("unknown algorithms")


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
