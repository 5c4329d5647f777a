"""One answer for each message: who asks, what is entered, what goes back.

Refusals become FAILURE with the reason for the log. Errors of the store are raised, and the
server makes them HTTP 503.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from pyscep.ca import audit, failpoints, ledger
from pyscep.ca.authorizer import Authorizer
from pyscep.ca.challenge import ChallengeRequest
from pyscep.ca.generations import Succession
from pyscep.ca.records import Attempt, CertificateRecord, key_hash
from pyscep.ca.refusal import Refusal
from pyscep.ca.registrar import Registrar
from pyscep.ca.release import RELEASE_WITHIN, UNRELEASED
from pyscep.ca.revocation import RevocationList
from pyscep.ca.store import Store
from pyscep.ca.ticket import Ticket
from pyscep.enums import FailInfo
from pyscep.messages import (
    CertPoll,
    Failure,
    GetCert,
    GetCRL,
    Outcome,
    Pending,
    PKCSReq,
    RenewalReq,
    Success,
)
from pyscep.server import PkiRequest


class Responder:
    """Answers the messages of one endpoint.

    Args:
        store, succession, endpoint, authorizer, registrar: of the CA.
        revocation: of each of its issuers.
        ever_waits: whether any request can come to wait for approval.
        public_certificates: GetCert hands out everybody's certificates to known clients.
        now: the clock.
    """

    def __init__(
        self,
        *,
        store: Store,
        succession: Succession,
        endpoint: str,
        authorizer: Authorizer,
        registrar: Registrar,
        revocation: Mapping[str, RevocationList],
        ever_waits: bool,
        public_certificates: bool,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._succession = succession
        self._endpoint = endpoint
        self._authorizer = authorizer
        self._registrar = registrar
        self._revocation = revocation
        self._waits = ever_waits
        self._public = public_certificates
        self._now = now

    def __call__(self, request: PkiRequest) -> Outcome:
        """The answer to a request."""
        now = self._now()
        received: object = request.message
        try:
            match received:
                case PKCSReq() | RenewalReq() as message:
                    return self._enroll(request, message, now)
                case CertPoll():
                    return self._poll(request, now)
                case GetCert() as message:
                    return self._get_cert(request, message)
                case GetCRL() as message:
                    return self._get_crl(request, message, now)
                case _:
                    return Failure(reason=f"unknown message {type(received).__name__}")
        except Refusal as refusal:
            return refusal.to_failure()

    def _enroll(self, request: PkiRequest, message: PKCSReq | RenewalReq, now: datetime) -> Outcome:
        ticket = Ticket.of(request, message, self._succession.asked(request.recipient))
        try:
            return self._answer_enrollment(request, message, ticket, now)
        except Refusal as refusal:
            self._registrar.enter_refusal(ticket, refusal.reason, now)
            raise

    def _answer_enrollment(
        self,
        request: PkiRequest,
        message: PKCSReq | RenewalReq,
        ticket: Ticket,
        now: datetime,
    ) -> Outcome:
        if self._waits and (answer := self._repeated(ticket, now)) is not None:
            return answer
        asked = ChallengeRequest.of(request, message, self._endpoint, now, ticket.asked.issuer.id)
        if isinstance(message, RenewalReq):
            authorized = self._authorizer.renewal(request, message, now)
        else:
            authorized = self._authorizer.enrollment(request, message, now, asked)
        try:
            entered = self._registrar.enter(authorized, ticket, now)
        except Refusal as refusal:
            self._authorizer.report(
                authorized.credential,
                "refused",
                ticket.transaction_id,
                reason=refusal.reason,
                request=asked,
            )
            raise
        if isinstance(entered, Attempt):
            return Pending()
        return self._deliver(entered, ticket.transaction_id, now, asked)

    def _repeated(self, ticket: Ticket, now: datetime) -> Outcome | None:
        """The answer to a PKCSReq that polls: same transaction, same keys.

        Its challenge may have expired while somebody made up his mind.
        """
        with self._store.read() as connection:
            attempt = ledger.polled_attempt(
                connection,
                endpoint=self._endpoint,
                transaction_id=ticket.transaction_id,
                signer_key=ticket.signer_key,
                csr_key=ticket.csr_key,
            )
        if attempt is None or not attempt.waited:
            return None
        if attempt.state != "pending" and attempt.window_ends <= now:
            return None
        return self._answer_attempt(attempt, now)

    def _poll(self, request: PkiRequest, now: datetime) -> Outcome:
        """CertPoll: by transactionID and the key that signed (RFC 8894 section 4.4)."""
        with self._store.read() as connection:
            attempt = ledger.polled_attempt(
                connection,
                endpoint=self._endpoint,
                transaction_id=request.transaction.transaction_id,
                signer_key=key_hash(request.signer.spki),
            )
        if attempt is None:
            raise Refusal("CertPoll: this key has no request under this transactionID")
        return self._answer_attempt(attempt, now)

    def _answer_attempt(self, attempt: Attempt, now: datetime) -> Outcome:
        if attempt.state == "pending":
            return Pending()
        if attempt.certificate_id is None:
            raise Refusal(f"denied: {attempt.reason}")
        with self._store.read() as connection:
            record = ledger.by_id(connection, attempt.certificate_id)
        if record is None:
            raise LookupError(f"certificate {attempt.certificate_id} is not in the store")
        return self._deliver(record, attempt.transaction_id, now)

    def _deliver(
        self,
        record: CertificateRecord,
        transaction_id: str,
        now: datetime,
        asked: ChallengeRequest | None = None,
    ) -> Outcome:
        """Hand out a certificate, after whatever is still missing."""
        record = self._registrar.finish(record, now)
        if record.state == "revoked":
            raise Refusal("the certificate for this request has been revoked")
        if not record.notified:
            if asked is not None and now - record.created_at > RELEASE_WITHIN:
                revocation = self._revocation[record.issuer_id]
                revocation.revoke(record.serial_number, UNRELEASED, now, audit.ITSELF)
                raise Refusal("the certificate could not be released in time; it is revoked now")
            failpoints.reach("notify.before")
            self._authorizer.report(
                record.credential,
                "issued",
                transaction_id,
                certificate=record.certificate,
                request=asked,
            )
            failpoints.reach("notify.after")
            self._store.write(
                lambda connection: ledger.set_notified(connection, record.id), "notified"
            )
        failpoints.reach("answer.before")
        return Success(certificates=(record.certificate,))

    def _get_cert(self, request: PkiRequest, message: GetCert) -> Outcome:
        signer_key = self._known_signer(request)
        unknown = Refusal("GetCert: no such certificate for this client", FailInfo.BAD_CERT_ID)
        with self._store.read() as connection:
            record = self._find(connection, message)
            if record is None or record.der is None or not record.notified:
                raise unknown
            if not (
                self._public
                or record.csr_key == signer_key
                or ledger.signed_request_for(connection, record.id, signer_key)
                or ledger.same_holder(connection, record, signer_key, self._succession.issuers)
            ):
                raise unknown
        return Success(certificates=(record.certificate,))

    def _get_crl(self, request: PkiRequest, message: GetCRL, now: datetime) -> Outcome:
        self._known_signer(request)
        issuers = [one.id for one in self._succession.named(message.target.issuer)]
        if not issuers:
            raise Refusal("GetCRL: not the name of this CA", FailInfo.BAD_CERT_ID)
        # CAs of one name: that of the certificate, or else the one that was asked.
        asked = self._succession.asked(request.recipient).issuer.id
        chosen = asked if asked in issuers else issuers[0]
        if len(issuers) > 1:
            with self._store.read() as connection:
                record = self._find(connection, message)
            chosen = chosen if record is None else record.issuer_id
        return Success(crls=(self._revocation[chosen].current(now),))

    def _find(self, connection: Connection, message: GetCert | GetCRL) -> CertificateRecord | None:
        for issuer in self._succession.named(message.target.issuer):
            record = ledger.by_serial(connection, issuer.id, message.target.serial_number)
            if record is not None:
                return record
        return None

    def _known_signer(self, request: PkiRequest) -> str:
        """The hash of a key that has a certificate here, or a request that wasn't refused."""
        signer_key = key_hash(request.signer.spki)
        with self._store.read() as connection:
            if not ledger.knows_key(connection, signer_key):
                raise Refusal("the signer's key is unknown here")
        return signer_key
