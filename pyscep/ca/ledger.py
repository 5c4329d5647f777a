"""Questions to and entries in the tables of attempts and certificates.

Functions of a connection, so that the authority decides what belongs to one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from pyscep.ca import audit, schema
from pyscep.ca.prepared import Prepared, Values
from pyscep.ca.records import Attempt, AttemptState, CertificateRecord

_attempts = schema.attempts
_certificates = schema.certificates

KEPT_REFUSALS: Final = 10_000
"""How many refused attempts are kept: anybody can cause them."""
MAX_PENDING: Final = 10_000
PENDING_LIFETIME: Final = timedelta(days=7)

# What an enrollment runs; everything else is built where it is needed.
_BY_ISSUE_KEY: Final = Prepared(
    select(_certificates).where(_certificates.c.issue_key == bindparam("key"))
)
_BY_SERIAL: Final = Prepared(
    select(_certificates).where(
        _certificates.c.issuer_id == bindparam("issuer"),
        _certificates.c.serial == bindparam("serial"),
    )
)
_BY_ID: Final = Prepared(
    select(_certificates).where(_certificates.c.id == bindparam("certificate_id"))
)
_CLOSE_WINDOW: Final = Prepared(
    update(_certificates)
    .where(_certificates.c.id == bindparam("certificate_id"))
    .values(issue_key=None)
)
_WAITING: Final = Prepared(
    select(_attempts)
    .where(
        or_(
            and_(
                _attempts.c.endpoint == bindparam("endpoint"),
                _attempts.c.transaction_id == bindparam("transaction"),
            ),
            _attempts.c.issue_key == bindparam("key"),
        ),
        or_(_attempts.c.state == "pending", _attempts.c.state == "denied"),
    )
    .order_by(_attempts.c.id)
)
_SIGNED: Final = Prepared(
    update(_certificates)
    .where(_certificates.c.id == bindparam("certificate_id"), _certificates.c.state == "signing")
    .values(certificate=bindparam("der"), state="issued", issued_at=bindparam("now"))
)
_INSERT_ATTEMPT: Final = Prepared(insert(_attempts))
_INSERT_CERTIFICATE: Final = Prepared(insert(_certificates))


# --- attempts --------------------------------------------------------------------------


def add_attempt(connection: Connection, serial: int | None = None, **values: Any) -> int:
    """Enter an attempt, and what was decided on it, and return its id.

    Args:
        connection: of the transaction.
        serial: of the certificate that it gets.
        values: of the row.
    """
    audit.enter_attempt(connection, values, None if serial is None else f"{serial:x}")
    return _INSERT_ATTEMPT.insert(connection, values)


def add_refusal(connection: Connection, **values: Any) -> None:
    """Enter a refused attempt; the oldest refusals make room."""
    number = add_attempt(connection, **values)
    if number % 256 == 0:
        connection.execute(
            delete(_attempts).where(
                _attempts.c.state == "refused", _attempts.c.id <= number - KEPT_REFUSALS
            )
        )


def waiting_attempts(
    connection: Connection, *, endpoint: str, transaction_id: str, issue_key: str
) -> tuple[Attempt, ...]:
    """Pending and denied attempts of the transaction and of the same request, oldest first."""
    values = {"endpoint": endpoint, "transaction": transaction_id, "key": issue_key}
    rows = _WAITING.rows(connection, values)
    return tuple(Attempt.from_row(row) for row in rows)


def polled_attempt(
    connection: Connection,
    *,
    endpoint: str,
    transaction_id: str,
    signer_key: str,
    csr_key: str | None = None,
) -> Attempt | None:
    """The latest attempt of a transaction that this key signed, refusals left aside."""
    query = select(_attempts).where(
        _attempts.c.endpoint == endpoint,
        _attempts.c.transaction_id == transaction_id,
        _attempts.c.signer_key == signer_key,
        _attempts.c.state != "refused",
    )
    if csr_key is not None:
        query = query.where(_attempts.c.csr_key == csr_key)
    row = connection.execute(query.order_by(_attempts.c.id.desc()).limit(1)).first()
    return Attempt.from_row(row._asdict()) if row else None


def pending_attempts(connection: Connection, endpoint: str) -> tuple[Attempt, ...]:
    """All that wait, oldest first."""
    query = (
        select(_attempts)
        .where(_attempts.c.state == "pending", _attempts.c.endpoint == endpoint)
        .order_by(_attempts.c.id)
    )
    return tuple(Attempt.from_row(row._asdict()) for row in connection.execute(query))


def count_pending(connection: Connection) -> int:
    query = select(func.count()).select_from(_attempts).where(_attempts.c.state == "pending")
    return int(connection.execute(query).scalar_one())


def get_pending(connection: Connection, endpoint: str, attempt_id: int) -> Attempt | None:
    """A pending attempt by its id."""
    query = select(_attempts).where(
        _attempts.c.id == attempt_id,
        _attempts.c.endpoint == endpoint,
        _attempts.c.state == "pending",
    )
    row = connection.execute(query).first()
    return Attempt.from_row(row._asdict()) if row else None


def decide(
    connection: Connection,
    issue_key: str,
    *,
    state: AttemptState,
    now: datetime,
    window_ends: datetime,
    reason: str | None = None,
    record: CertificateRecord | None = None,
) -> None:
    """Turn all pending attempts of one request into issued or denied ones."""
    waiting = and_(_attempts.c.issue_key == issue_key, _attempts.c.state == "pending")
    first = connection.execute(
        select(
            _attempts.c.endpoint,
            _attempts.c.credential,
            _attempts.c.transaction_id,
            _attempts.c.signer_key,
            _attempts.c.subject,
        )
        .where(waiting)
        .order_by(_attempts.c.id)
        .limit(1)
    ).one()
    connection.execute(
        update(_attempts)
        .where(waiting)
        .values(
            state=state,
            reason=reason,
            decided_at=now,
            window_ends=window_ends,
            certificate_id=record and record.id,
            pending_key=None,
        )
    )
    audit.enter(
        connection,
        at=now,
        who=audit.OPERATOR,
        action="approve" if record else "deny",
        decision="approved" if record else "denied",
        reason=reason,
        serial=f"{record.serial_number:x}" if record else None,
        **first._mapping,
    )


def expire_pending(connection: Connection, now: datetime) -> None:
    """Deny what nobody decided on in PENDING_LIFETIME."""
    connection.execute(
        update(_attempts)
        .where(_attempts.c.state == "pending", _attempts.c.created_at < now - PENDING_LIFETIME)
        .values(
            state="denied",
            reason="nobody decided in time",
            decided_at=now,
            window_ends=now,
            pending_key=None,
        )
    )


def knows_key(connection: Connection, key: str) -> bool:
    """Whether a key has a certificate of ours, or has signed a request that wasn't refused."""
    certified = select(_certificates.c.id).where(_certificates.c.csr_key == key)
    if connection.execute(certified.limit(1)).first() is not None:
        return True
    signed = select(_attempts.c.id).where(
        _attempts.c.signer_key == key, _attempts.c.state.in_(("pending", "issued"))
    )
    return connection.execute(signed.limit(1)).first() is not None


# --- certificates ----------------------------------------------------------------------


def add_certificate(connection: Connection, **values: Any) -> int:
    """Enter a certificate that is about to be signed and return its id."""
    return _INSERT_CERTIFICATE.insert(connection, values)


def same_request(connection: Connection, issue_key: str) -> CertificateRecord | None:
    """The certificate that this request got before; its window may have ended."""
    return _one(connection, _BY_ISSUE_KEY, {"key": issue_key})


def close_window(connection: Connection, certificate_id: int) -> None:
    """Let the same request count as a new one."""
    _CLOSE_WINDOW.change(connection, {"certificate_id": certificate_id})


def by_serial(
    connection: Connection, issuer_id: str, serial_number: int
) -> CertificateRecord | None:
    if not 0 < serial_number < 1 << 160:
        return None  # not one of ours, whose serial numbers have 20 octets
    return _one(connection, _BY_SERIAL, {"issuer": issuer_id, "serial": f"{serial_number:x}"})


def by_id(connection: Connection, certificate_id: int) -> CertificateRecord | None:
    return _one(connection, _BY_ID, {"certificate_id": certificate_id})


def set_signed(connection: Connection, certificate_id: int, der: bytes, now: datetime) -> bool:
    """Store the signed certificate; False if another one finished it before."""
    values = {"certificate_id": certificate_id, "der": der, "now": now}
    return _SIGNED.change(connection, values) == 1


def set_notified(connection: Connection, certificate_id: int) -> None:
    connection.execute(
        update(_certificates).where(_certificates.c.id == certificate_id).values(notified=True)
    )


def unsigned(connection: Connection, issuer_id: str) -> tuple[CertificateRecord, ...]:
    """What was written and never signed, because a process ended in between."""
    return _all(
        connection,
        select(_certificates).where(
            _certificates.c.issuer_id == issuer_id, _certificates.c.state == "signing"
        ),
    )


def newest(connection: Connection, issuer_id: str, limit: int) -> tuple[CertificateRecord, ...]:
    return _all(
        connection,
        select(_certificates)
        .where(_certificates.c.issuer_id == issuer_id)
        .order_by(_certificates.c.id.desc())
        .limit(limit),
    )


def signed_request_for(connection: Connection, certificate_id: int, signer_key: str) -> bool:
    """Whether that key signed a request that got this certificate."""
    query = select(_attempts.c.id).where(
        _attempts.c.certificate_id == certificate_id, _attempts.c.signer_key == signer_key
    )
    return connection.execute(query.limit(1)).first() is not None


def same_holder(
    connection: Connection, record: CertificateRecord, key: str, issuers: Collection[str]
) -> bool:
    """Whether that key has another certificate of them for the same subject, not revoked."""
    query = select(_certificates.c.id).where(
        _certificates.c.csr_key == key,
        _certificates.c.issuer_id.in_(issuers),
        _certificates.c.subject_der == record.subject_der,
        _certificates.c.state == "issued",
    )
    return connection.execute(query.limit(1)).first() is not None


def revoke(
    connection: Connection,
    certificate_id: int,
    *,
    reason: str,
    now: datetime,
    who: str = audit.OPERATOR,
) -> None:
    """Mark an issued certificate as revoked."""
    done = connection.execute(
        update(_certificates)
        .where(_certificates.c.id == certificate_id, _certificates.c.state == "issued")
        .values(state="revoked", revoked_at=now, revocation_reason=reason)
    )
    if done.rowcount == 1:
        record = by_id(connection, certificate_id)
        assert record is not None  # noqa: S101 - for type checkers: it was updated just now
        audit.enter(
            connection,
            at=now,
            who=who,
            action="revoke",
            decision="revoked",
            reason=reason,
            credential=record.credential,
            serial=f"{record.serial_number:x}",
            subject=record.subject,
        )


def revoked(connection: Connection, issuer_id: str, since: datetime) -> Sequence[Any]:
    """Serial, time and reason of what is revoked and did not end before ``since``."""
    query = select(
        _certificates.c.serial, _certificates.c.revoked_at, _certificates.c.revocation_reason
    ).where(
        _certificates.c.issuer_id == issuer_id,
        _certificates.c.state == "revoked",
        _certificates.c.not_after >= since,
    )
    return connection.execute(query.order_by(_certificates.c.id)).all()


def _one(connection: Connection, query: Prepared, values: Values) -> CertificateRecord | None:
    row = query.first(connection, values)
    return CertificateRecord.from_row(row) if row else None


def _all(connection: Connection, query: Any) -> tuple[CertificateRecord, ...]:
    found = connection.execute(query)
    return tuple(CertificateRecord.from_row(row._asdict()) for row in found)
