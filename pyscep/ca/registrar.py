"""Enters what has been authorized, signs it, and hands it out: in this order.

SECURITY: a row with serial number and TBSCertificate is committed before anything is signed,
and the certificate is committed before anybody gets it. Whatever a crash leaves behind can
be finished from the row: the same request finds it and finishes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection

from pyscep.ca import failpoints, ledger
from pyscep.ca.authorizer import Authorized
from pyscep.ca.generations import Generation, Succession
from pyscep.ca.records import (
    Attempt,
    CertificateRecord,
    issue_key,
    pending_key,
)
from pyscep.ca.refusal import Refusal
from pyscep.ca.store import Store
from pyscep.ca.ticket import SHOWN, Ticket, pending_among, polled

SERIAL_BYTES: Final = 20


class Registrar:
    """The entries and signatures of one endpoint.

    Args:
        store, succession: of the CA.
        endpoint: keeps apart what several endpoints have in one store.
        token_bytes: where serial numbers come from.
    """

    def __init__(
        self,
        *,
        store: Store,
        succession: Succession,
        endpoint: str,
        token_bytes: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._succession = succession
        self._endpoint = endpoint
        self._token_bytes = token_bytes

    def enter(
        self, authorized: Authorized, ticket: Ticket, now: datetime
    ) -> CertificateRecord | Attempt:
        """The certificate for a request, perhaps not signed yet, or its pending attempt.

        The same request again gets the same row, from whichever thread or process.

        Raises:
            Refusal: the challenge is spent, the signer revoked, the request denied.
        """
        key = issue_key(
            self._endpoint, authorized.credential, ticket.csr_key, ticket.asked.issuer.id
        )

        def work(connection: Connection) -> CertificateRecord | Attempt:
            record = ledger.same_request(connection, key)
            if record is not None:
                if record.window_ends > now and record.issuer_id in self._succession.issuers:
                    return record
                ledger.close_window(connection, record.id)
            waiting = ledger.waiting_attempts(
                connection,
                endpoint=self._endpoint,
                transaction_id=ticket.transaction_id,
                issue_key=key,
            )
            pending = pending_among(waiting, ticket, key, now)
            if not pending:
                authorized.still_holds(connection, key, now)
                if not authorized.waits:
                    return self._enter_certificate(connection, authorized, ticket, key, now)
            elif (found := polled(pending, ticket, key)) is not None:
                return found
            return self._enter_pending(connection, authorized, ticket, key, now)

        return self._store.write(work, "enter")

    def enter_refusal(self, ticket: Ticket, reason: str, now: datetime) -> None:
        """Remember a refused attempt."""
        values = self._attempt_values(ticket, "", now) | {
            "profile": "",
            "credential": "",
            "state": "refused",
            "reason": reason[:SHOWN],
            "subject": ticket.shown_subject,
            "decided_at": now,
            "window_ends": now,
        }
        self._store.write(lambda connection: ledger.add_refusal(connection, **values), "refusal")

    def finish(self, record: CertificateRecord, now: datetime) -> CertificateRecord:
        """Sign what is entered, unless that has been done, and store it.

        When two do this at once, both get what the first one stored.
        """
        if record.state != "signing":
            return record
        failpoints.reach("sign.before")
        certificate = self._succession.issuers[record.issuer_id].sign(record.tbs)
        failpoints.reach("sign.after")
        encoded = certificate.public_bytes(Encoding.DER)

        def work(connection: Connection) -> CertificateRecord | None:
            if ledger.set_signed(connection, record.id, encoded, now):
                return None
            return ledger.by_id(connection, record.id)

        stored = self._store.write(work, "signed")
        return stored or replace(record, der=encoded, state="issued", issued_at=now)

    def approve(
        self,
        attempt_id: int,
        authorize: Callable[[Attempt], Authorized],
        now: datetime,
    ) -> CertificateRecord:
        """Enter the certificate for a pending attempt.

        Raises:
            LookupError: no such attempt is pending.
            Refusal: it is a renewal, and its signer has been revoked since.
        """

        def work(connection: Connection) -> CertificateRecord:
            attempt = self._pending(connection, attempt_id)
            authorized = authorize(attempt)
            authorized.still_holds(connection, attempt.issue_key, now)
            record = self._add_certificate(
                connection,
                authorized,
                self._succession.by_id(attempt.issuer_id),
                spki=attempt.spki or b"",
                csr_key=attempt.csr_key,
                requested_subject=attempt.requested_subject or b"",
                key=attempt.issue_key,
                now=now,
            )
            ledger.decide(
                connection,
                attempt.issue_key,
                state="issued",
                now=now,
                window_ends=authorized.window_ends,
                record=record,
            )
            return record

        return self._store.write(work, "approve")

    def deny(self, attempt_id: int, reason: str, now: datetime, window: timedelta) -> Attempt:
        """Refuse a pending attempt; the same request stays refused for ``window``.

        Raises:
            LookupError: no such attempt is pending.
        """

        def work(connection: Connection) -> Attempt:
            attempt = self._pending(connection, attempt_id)
            ledger.decide(
                connection,
                attempt.issue_key,
                state="denied",
                reason=reason[:SHOWN],
                now=now,
                window_ends=max(attempt.window_ends, now + window),
            )
            return attempt

        return self._store.write(work, "deny")

    def recover(self, now: datetime) -> int:
        """Sign what was entered and not signed when a process ended; how many there were."""
        with self._store.read() as connection:
            records = [
                record
                for issuer_id in self._succession.issuers
                for record in ledger.unsigned(connection, issuer_id)
            ]
        for record in records:
            self.finish(record, now)
        return len(records)

    def _pending(self, connection: Connection, attempt_id: int) -> Attempt:
        attempt = ledger.get_pending(connection, self._endpoint, attempt_id)
        if attempt is None:
            raise LookupError(f"no attempt {attempt_id} is pending")
        return attempt

    def _enter_pending(
        self,
        connection: Connection,
        authorized: Authorized,
        ticket: Ticket,
        key: str,
        now: datetime,
    ) -> Attempt:
        ledger.expire_pending(connection, now)
        if ledger.count_pending(connection) >= ledger.MAX_PENDING:
            raise Refusal("too many requests wait for approval")
        values = self._attempt_values(ticket, key, now) | {
            "profile": authorized.profile.name,
            "credential": authorized.credential,
            "signer_id": authorized.signer_id,
            "pending_key": pending_key(
                self._endpoint, ticket.transaction_id, ticket.csr_key, ticket.signer_key
            ),
            "spki": ticket.csr.spki,
            "wishes": authorized.wishes,
            "requested_subject": ticket.csr.subject,
            "subject_der": authorized.names.subject,
            "sans_der": authorized.names.sans,
            "subject": authorized.names.subject_text,
            "sans": list(authorized.names.san_texts),
            "state": "pending",
            "window_ends": authorized.window_ends,
        }
        number = ledger.add_attempt(connection, **values)
        return self._pending(connection, number)

    def _enter_certificate(
        self,
        connection: Connection,
        authorized: Authorized,
        ticket: Ticket,
        key: str,
        now: datetime,
    ) -> CertificateRecord:
        record = self._add_certificate(
            connection,
            authorized,
            ticket.asked,
            spki=ticket.csr.spki,
            csr_key=ticket.csr_key,
            requested_subject=ticket.csr.subject,
            key=key,
            now=now,
        )
        values = self._attempt_values(ticket, key, now) | {
            "profile": authorized.profile.name,
            "credential": authorized.credential,
            "certificate_id": record.id,
            "signer_id": authorized.signer_id,
            "subject": authorized.names.subject_text,
            "sans": list(authorized.names.san_texts),
            "state": "issued",
            "decided_at": now,
            "window_ends": authorized.window_ends,
        }
        ledger.add_attempt(connection, record.serial_number, **values)
        return record

    def _add_certificate(
        self,
        connection: Connection,
        authorized: Authorized,
        asked: Generation,
        *,
        spki: bytes,
        csr_key: str,
        requested_subject: bytes,
        key: str,
        now: datetime,
    ) -> CertificateRecord:
        serial = _serial_number(self._token_bytes)
        issuer = self._succession.issues_for(asked)
        tbs, not_after = issuer.to_be_signed(
            serial_number=serial,
            names=authorized.names,
            key=authorized.key,
            spki=spki,
            profile=authorized.profile,
            now=self._succession.from_when(asked, now),
        )
        values: dict[str, Any] = {
            "issuer_id": issuer.id,
            "issue_key": key,
            "window_ends": authorized.window_ends,
            "csr_key": csr_key,
            "profile": authorized.profile.name,
            "credential": authorized.credential,
            "subject": authorized.names.subject_text,
            "subject_der": authorized.names.subject,
            "requested_subject": requested_subject,
            "tbs": tbs,
            "not_after": not_after,
            "state": "signing",
            "notified": not authorized.notify,
            "created_at": now,
        }
        number = ledger.add_certificate(connection, serial=f"{serial:x}", **values)
        return CertificateRecord(
            id=number,
            serial_number=serial,
            der=None,
            issued_at=None,
            revoked_at=None,
            revocation_reason=None,
            **values,
        )

    def _attempt_values(self, ticket: Ticket, key: str, now: datetime) -> dict[str, Any]:
        """What every attempt has; the rest is added to it."""
        return {
            "endpoint": self._endpoint,
            "transaction_id": ticket.transaction_id,
            "message_type": int(ticket.message_type),
            "issue_key": key,
            "csr_key": ticket.csr_key,
            "signer_key": ticket.signer_key,
            "source": ticket.source,
            "issuer_id": ticket.asked.issuer.id,
            "sans": [],
            "created_at": now,
        }


def _serial_number(token_bytes: Callable[[int], bytes]) -> int:
    """Positive, and of exactly 20 octets in DER: 158 random bits below a fixed one.

    Bit 159 is 0 for the sign, bit 158 is 1 for the length.
    """
    drawn = int.from_bytes(token_bytes(SERIAL_BYTES), "big")
    return drawn & (1 << 158) - 1 | 1 << 158
