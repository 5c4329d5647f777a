"""The audit table: who asked for what, when, and what was decided why.

A row is written in the transaction of the decision itself, so there is none without the other.
The database refuses to change or delete rows, see ``schema.audit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, bindparam, func, insert, select

from pyscep.ca.prepared import Prepared
from pyscep.ca.schema import audit

REFUSALS_PER_HOUR: Final = 1000
"""How many refusals are entered in an hour: anybody can cause them, and no row is ever deleted.
Events and logs have them all."""
OPERATOR: Final = "operator"
ITSELF: Final = "pyscep"
_TAKEN: Final = "pyscep_decisions"
_SHOWN: Final = 256
_ACTIONS: Final = {19: "enroll", 17: "renew"}

Verdict = Literal["granted", "pending", "refused", "approved", "denied", "revoked"]

_INSERT: Final = Prepared(insert(audit))
_LAST_REFUSALS: Final = (
    select(func.count())
    .select_from(audit)
    .where(audit.c.decision == "refused", audit.c.at > bindparam("since"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided. Texts in it may come from the network: escape them in logs."""

    at: datetime
    who: str
    """Address of the peer, ``operator``, or ``pyscep`` where nobody asked."""
    action: str
    """``enroll``, ``renew``, ``approve``, ``deny`` or ``revoke``."""
    decision: Verdict
    reason: str | None = None
    endpoint: str | None = None
    credential: str | None = None
    transaction_id: str | None = None
    signer_key: str | None = None
    """SHA-256 of the SubjectPublicKeyInfo that signed the request, hexadecimal."""
    serial: str | None = None
    """Of the certificate, hexadecimal."""
    subject: str | None = None


def enter(connection: Connection, **values: Any) -> None:
    """Enter a decision in the transaction of this connection.

    Args:
        connection: of ``Store.write``.
        values: of a Decision.
    """
    decision = Decision(**values)
    row = {name: getattr(decision, name) for name in Decision.__slots__}
    _INSERT.insert(connection, row)
    connection.info.setdefault(_TAKEN, []).append(decision)


def enter_attempt(connection: Connection, values: dict[str, Any], serial: str | None) -> None:
    """Enter what became of a request, from the values of its row in ``attempts``."""
    decision: Verdict = "granted" if values["state"] == "issued" else values["state"]
    reason = values.get("reason")
    if decision == "refused":
        since = values["created_at"] - timedelta(hours=1)
        count = connection.execute(_LAST_REFUSALS, {"since": since}).scalar_one()
        if count >= REFUSALS_PER_HOUR:
            return
        if count == REFUSALS_PER_HOUR - 1:
            reason = f"{reason} (the last refusal that this hour has room for)"
    enter(
        connection,
        at=values["created_at"],
        who=values["source"] or "unknown",
        action=_ACTIONS.get(values["message_type"], "enroll"),
        decision=decision,
        reason=reason,
        endpoint=values["endpoint"],
        credential=values["credential"] or None,
        transaction_id=values["transaction_id"][:_SHOWN],
        signer_key=values["signer_key"],
        serial=serial,
        subject=values["subject"],
    )


def forget(connection: Connection) -> Sequence[Decision]:
    """What was entered through this connection since this was last called."""
    taken: Sequence[Decision] = connection.info.pop(_TAKEN, ())
    return taken


def entries(connection: Connection, limit: int = 1000) -> tuple[Decision, ...]:
    """The newest entries, newest first."""
    columns = [audit.c[name] for name in Decision.__slots__]
    rows = connection.execute(select(*columns).order_by(audit.c.id.desc()).limit(limit))
    return tuple(Decision(**row._mapping) for row in rows)
