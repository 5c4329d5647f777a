"""The tables of the store, in SQL that SQLite and PostgreSQL both have."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
)

SCHEMA_VERSION: Final = 2


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite has no time zones, so it stores and sorts UTC text."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class WireText(TypeDecorator[str]):
    r"""Text of which a part may come from the network.

    PostgreSQL's text can't have NUL, which a transactionID can. So there NUL is ``\0`` and a
    backslash is two.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "postgresql":
            return value
        return value.replace("\\", "\\\\").replace("\0", "\\0")

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or dialect.name != "postgresql" or "\\" not in value:
            return value
        return _ESCAPED.sub(lambda found: "\0" if found[0] == "\\0" else "\\", value)


_ESCAPED: Final = re.compile(r"\\[\\0]")

metadata: Final = MetaData()
# SQLite numbers rows by itself only where the key is a plain INTEGER.
_Id: Final = BigInteger().with_variant(Integer, "sqlite")
_HASH: Final = String(64)

secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

certificates: Final = Table(
    "certificates",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("issuer_id", _HASH, nullable=False),
    Column("serial", String(40), nullable=False),
    # While the window for the same request is open; NULL afterwards.
    Column("issue_key", _HASH, unique=True),
    Column("window_ends", UtcDateTime, nullable=False),
    Column("csr_key", _HASH, nullable=False),
    Column("profile", String(255), nullable=False),
    Column("credential", WireText, nullable=False),
    Column("subject", WireText, nullable=False),
    Column("subject_der", LargeBinary, nullable=False),
    Column("requested_subject", LargeBinary, nullable=False),
    Column("tbs", LargeBinary, nullable=False),
    Column("certificate", LargeBinary),
    Column("not_after", UtcDateTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("notified", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("issued_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("revocation_reason", String(32)),
    UniqueConstraint("issuer_id", "serial", name="certificates_serial"),
    Index("certificates_by_csr_key", "csr_key"),
    Index("certificates_by_state", "issuer_id", "state"),
    sqlite_autoincrement=True,
)

attempts: Final = Table(
    "attempts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("endpoint", String(255), nullable=False),
    Column("transaction_id", WireText, nullable=False),
    Column("message_type", Integer, nullable=False),
    Column("profile", String(255), nullable=False),
    Column("credential", WireText, nullable=False),
    Column("issue_key", _HASH, nullable=False),
    # Hash of transaction and keys while the attempt is pending, else NULL.
    Column("pending_key", _HASH, unique=True),
    Column("certificate_id", ForeignKey("certificates.id")),
    Column("csr_key", _HASH, nullable=False),
    Column("signer_key", _HASH, nullable=False),
    # The certificate of ours that signed a renewal.
    Column("signer_id", ForeignKey("certificates.id")),
    Column("source", WireText),
    # What approval needs, where the attempt has to wait for it. The CSR itself is not
    # stored: it has the challenge in the clear.
    Column("spki", LargeBinary),
    Column("requested_subject", LargeBinary),
    Column("subject_der", LargeBinary),
    Column("sans_der", LargeBinary),
    Column("subject", WireText, nullable=False),
    Column("sans", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", WireText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Column("window_ends", UtcDateTime, nullable=False),
    # The CA that the request was encrypted to, and what it asks for besides names.
    Column("issuer_id", _HASH),
    Column("wishes", JSON(none_as_null=True)),
    Index("attempts_by_transaction", "endpoint", "transaction_id"),
    Index("attempts_by_issue_key", "issue_key"),
    Index("attempts_by_signer", "signer_key"),
    Index("attempts_by_certificate", "certificate_id"),
    Index("attempts_by_state", "state", "id"),
    sqlite_autoincrement=True,
)

challenges: Final = Table(
    "challenges",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("mac", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("bound", JSON, nullable=False),
    Column("failures", Integer, nullable=False),
    # The issue key that spent it.
    Column("reserved_by", _HASH),
    Column("spent_at", UtcDateTime),
)

crls: Final = Table(
    "crls",
    metadata,
    Column("issuer_id", _HASH, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("crl", LargeBinary, nullable=False),
    Column("this_update", UtcDateTime, nullable=False),
    Column("next_update", UtcDateTime, nullable=False),
)

# Decisions, in the order in which they were taken. Rows are added and never touched again:
# the triggers below see to it.
audit: Final = Table(
    "audit",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("who", WireText, nullable=False),
    Column("action", String(16), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("reason", WireText),
    Column("endpoint", String(255)),
    Column("credential", WireText),
    Column("transaction_id", WireText),
    Column("signer_key", _HASH),
    Column("serial", String(40)),
    Column("subject", WireText),
    Index("audit_by_decision", "decision", "at"),
    sqlite_autoincrement=True,
)

_APPEND_ONLY: Final = "the audit table is append-only"
_REFUSE_ON_SQLITE: Final = """
CREATE TRIGGER audit_refuses_{name} BEFORE {event} ON audit {when}
BEGIN SELECT RAISE(ABORT, '{message}'); END
"""
_REFUSE_ON_POSTGRESQL: Final = f"""
CREATE OR REPLACE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$;
CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()
"""


def _protect(target: Table, connection: Connection, **_: Any) -> None:
    """Make the triggers in the transaction that makes the table."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_REFUSE_ON_POSTGRESQL)
        return
    # INSERT OR REPLACE deletes without asking a trigger for DELETE.
    replaces = "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)"
    for name, when in (("UPDATE", ""), ("DELETE", ""), ("INSERT", replaces)):
        text = _REFUSE_ON_SQLITE.format(
            name=name.lower(), event=name, when=when, message=_APPEND_ONLY
        )
        connection.exec_driver_sql(text)


event.listen(audit, "after_create", _protect)
