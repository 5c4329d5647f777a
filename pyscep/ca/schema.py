"""The tables of the store, in SQL that SQLite and PostgreSQL both have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
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
)

SCHEMA_VERSION: Final = 1


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
    Column("credential", Text, nullable=False),
    Column("subject", Text, nullable=False),
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
    Column("transaction_id", Text, nullable=False),
    Column("message_type", Integer, nullable=False),
    Column("profile", String(255), nullable=False),
    Column("credential", Text, nullable=False),
    Column("issue_key", _HASH, nullable=False),
    # Hash of transaction and keys while the attempt is pending, else NULL.
    Column("pending_key", _HASH, unique=True),
    Column("certificate_id", ForeignKey("certificates.id")),
    Column("csr_key", _HASH, nullable=False),
    Column("signer_key", _HASH, nullable=False),
    # The certificate of ours that signed a renewal.
    Column("signer_id", ForeignKey("certificates.id")),
    Column("source", Text),
    # What approval needs, where the attempt has to wait for it. The CSR itself is not
    # stored: it has the challenge in the clear.
    Column("spki", LargeBinary),
    Column("requested_subject", LargeBinary),
    Column("subject_der", LargeBinary),
    Column("sans_der", LargeBinary),
    Column("subject", Text, nullable=False),
    Column("sans", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Column("window_ends", UtcDateTime, nullable=False),
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
