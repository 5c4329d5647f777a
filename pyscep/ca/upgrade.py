"""Brings the tables of an older version up to this one's, in one transaction."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from pyscep.ca.records import issue_key
from pyscep.ca.schema import SCHEMA_VERSION, attempts, certificates, challenges, secrets


def upgrade(connection: Connection, version: int) -> bool:
    """Add what is missing.

    Returns:
        False if that version is unknown.
    """
    if version != 1:
        return False
    connection.exec_driver_sql("ALTER TABLE attempts ADD COLUMN issuer_id VARCHAR(64)")
    connection.exec_driver_sql("ALTER TABLE attempts ADD COLUMN wishes JSON")
    _name_issuers(connection)
    number = str(SCHEMA_VERSION).encode()
    connection.execute(
        update(secrets).where(secrets.c.name == "schema_version").values(value=number)
    )
    return True


def _name_issuers(connection: Connection) -> None:
    """What counts as the same request depends on the CA that was asked, since version 2.

    A device whose reply got lost during the upgrade asks again, and must find its certificate.
    """
    query = select(
        certificates.c.issue_key,
        certificates.c.issuer_id,
        attempts.c.endpoint,
        attempts.c.credential,
        attempts.c.csr_key,
    ).where(
        attempts.c.certificate_id == certificates.c.id,
        attempts.c.issue_key == certificates.c.issue_key,
        certificates.c.window_ends > func.current_timestamp(),
    )
    for row in connection.execute(query.distinct()).all():
        key = issue_key(row.endpoint, row.credential, row.csr_key, row.issuer_id)
        for column in (certificates.c.issue_key, attempts.c.issue_key, challenges.c.reserved_by):
            connection.execute(
                update(column.table).where(column == row.issue_key).values({column.name: key})
            )
