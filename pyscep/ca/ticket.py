"""A request as far as it is kept, and which of those that wait it repeats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pyscep.ca import names
from pyscep.ca.generations import Generation
from pyscep.ca.records import Attempt, key_hash
from pyscep.ca.refusal import Refusal
from pyscep.messages import PKCSReq, RenewalReq
from pyscep.pkcs10 import CertificateRequest
from pyscep.pki_request import PkiRequest

ADDRESSES: Final = 5
"""From how many pairs of transaction and signer one pending request can be polled."""
SHOWN: Final = 256
"""Characters of a foreign text that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Who asks for what, as far as it is kept."""

    transaction_id: str
    message_type: int
    csr: CertificateRequest
    csr_key: str
    signer_key: str
    source: str | None
    asked: Generation
    """The CA that the request was encrypted to."""

    @classmethod
    def of(cls, request: PkiRequest, message: PKCSReq | RenewalReq, asked: Generation) -> Ticket:
        return cls(
            transaction_id=request.transaction.transaction_id,
            message_type=message.message_type,
            csr=message.csr,
            csr_key=key_hash(message.csr.spki),
            signer_key=key_hash(request.signer.spki),
            source=request.source,
            asked=asked,
        )

    @property
    def shown_subject(self) -> str:
        """The subject for people, from a request that may be refused for it."""
        try:
            return names.subject_of(self.csr).rfc4514_string()[:SHOWN]
        except Refusal:
            return ""


def pending_among(
    waiting: tuple[Attempt, ...], ticket: Ticket, key: str, now: datetime
) -> tuple[Attempt, ...]:
    """The pending attempts that this request repeats.

    Raises:
        Refusal: it was denied lately, or its transaction is another key's.
    """
    for attempt in waiting:
        if attempt.state == "denied":
            if attempt.issue_key == key and attempt.window_ends > now:
                raise Refusal(f"denied: {attempt.reason}")
        elif attempt.csr_key != ticket.csr_key:
            raise Refusal("another key's request is pending under this transactionID")
    return tuple(attempt for attempt in waiting if attempt.state == "pending")


def polled(pending: tuple[Attempt, ...], ticket: Ticket, key: str) -> Attempt | None:
    """The pending attempt that this request polls; None if it becomes one more address.

    Same transaction and key to be certified is a poll, whatever the credential. The same
    request from elsewhere gets an attempt of its own, to be polled there, up to a limit.
    """
    same = [attempt for attempt in pending if attempt.issue_key == key]
    if not same:
        return pending[0]
    address = (ticket.transaction_id, ticket.signer_key)
    for attempt in same:
        if (attempt.transaction_id, attempt.signer_key) == address:
            return attempt
    return same[0] if len(same) >= ADDRESSES else None
