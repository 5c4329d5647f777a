"""The one-time challenges of a CA, for the people who run it: what is left, what was used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pyscep.ca import CertificateAuthority
from pyscep.ca.challenge import MAX_FAILURES
from pyscep.ca.schema import challenges

State = Literal["open", "spent", "expired", "burnt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRecord:
    """One challenge. The secret part is known to nobody: the CA keeps a check value only."""

    id: str
    """The part before the hyphen."""
    state: State
    """``burnt``: too many wrong secrets came with this id."""
    created_at: datetime
    expires_at: datetime
    subject: str | None
    """The only subject it is for, RFC 4514; None: any."""
    profile: str | None
    """The profile it is for; None: the CA's first."""


def list_challenges(
    ca: CertificateAuthority, *, now: datetime | None = None
) -> tuple[ChallengeRecord, ...]:
    """The one-time challenges in a CA's store, the one that expires first at the top.

    Args:
        ca: whose store is read.
        now: for telling which have expired; the present time by default.
    """
    moment = now or datetime.now(UTC)
    with ca.store.read() as connection:
        rows = connection.execute(challenges.select().order_by(challenges.c.expires_at)).all()
    return tuple(
        ChallengeRecord(
            id=row.id,
            state=_state(row.spent_at, row.failures, row.expires_at, moment),
            created_at=row.created_at,
            expires_at=row.expires_at,
            subject=row.bound["subject"],
            profile=row.bound["profile"],
        )
        for row in rows
    )


def _state(spent_at: datetime | None, failures: int, expires_at: datetime, now: datetime) -> State:
    if spent_at is not None:
        return "spent"
    if failures >= MAX_FAILURES:
        return "burnt"
    return "expired" if expires_at <= now else "open"
