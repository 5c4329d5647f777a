"""The durable store: transactions over SQLite or PostgreSQL, through SQLAlchemy Core.

A row is there when ``write`` has returned, power loss included: the CA writes before it
signs and commits before it answers.
"""

from __future__ import annotations

import os
import secrets as random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from pyscep.ca import schema

T = TypeVar("T")

CONFLICTS: Final = 5
"""How often a write that lost against another one is tried."""
_WRITES: Final = "pyscep_writes"
_SERIALIZATION_FAILURES: Final = ("40001", "40P01")


class Store:
    """Where a CA keeps what it must not forget. Usable from several threads and processes.

    Args:
        url: a database URL such as ``sqlite:///scep.db``; SQLite needs a file on a local
            file system, which is created with mode 0600.
        busy_timeout: how long a SQLite writer waits for another process, in seconds.

    Raises:
        ValueError: an in-memory database, or tables of another version.
        sqlalchemy.exc.SQLAlchemyError: the database can't be opened.
    """

    def __init__(self, url: str | URL, *, busy_timeout: float = 5.0) -> None:
        parsed = make_url(url)
        # Writers of one process queue here instead of polling for SQLite's lock.
        self._writer: AbstractContextManager[object] = nullcontext()
        if parsed.get_backend_name() == "sqlite":
            _prepare_file(parsed)
            self._writer = Lock()
        self.engine: Engine = create_engine(parsed, max_overflow=20)
        if parsed.get_backend_name() == "sqlite":
            _tune_sqlite(self.engine, busy_timeout)
        self.write(_create_tables)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state."""
        with self.engine.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction; it has been committed when this returns.

        Where a UNIQUE constraint or a serialization failure says that somebody else was
        faster, it runs again and then sees what the other one did. So ``work`` must not
        have effects outside the database.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database failed; nothing was written, or, if
                the connection broke during the commit, it is unknown whether it was.
        """
        for _ in range(CONFLICTS - 1):
            try:
                return self._write_once(work)
            except DBAPIError as error:
                if not _is_conflict(error):
                    raise
        return self._write_once(work)

    def secret(self, name: str, size: int = 32) -> bytes:
        """A random value of ``size`` bytes, drawn once and kept."""

        def work(connection: Connection) -> bytes:
            query = select(schema.secrets.c.value).where(schema.secrets.c.name == name)
            found = connection.execute(query).scalar()
            if found is None:
                found = random.token_bytes(size)
                connection.execute(insert(schema.secrets).values(name=name, value=found))
            return bytes(found)

        return self.write(work)

    def close(self) -> None:
        """Close all connections that are not in use."""
        self.engine.dispose()

    def _write_once(self, work: Callable[[Connection], T]) -> T:
        with self._writer, self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with connection.begin():
                return work(connection)


def _is_conflict(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, IntegrityError) or state in _SERIALIZATION_FAILURES


def _create_tables(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    query = select(schema.secrets.c.value).where(schema.secrets.c.name == "schema_version")
    found = connection.execute(query).scalar()
    version = str(schema.SCHEMA_VERSION).encode()
    if found is None:
        connection.execute(insert(schema.secrets).values(name="schema_version", value=version))
    elif bytes(found) != version:
        raise ValueError(
            f"the store has tables of version {ascii(bytes(found).decode())}, this program "
            f"needs {schema.SCHEMA_VERSION}"
        )


def _prepare_file(url: URL) -> None:
    """Create the file first, so that it and its journals are for the owner only."""
    path = url.database
    if not path or path == ":memory:" or url.query.get("mode") == "memory":
        raise ValueError("a CA forgets nothing: give a database file, not one in memory")
    if not path.startswith("file:"):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _tune_sqlite(engine: Engine, busy_timeout: float) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: ConnectionPoolEntry) -> None:
        # The driver's own idea of transactions is switched off; "begin" below decides.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # NORMAL could lose the last commits at power loss.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A reader that turns writer can lose its snapshot: writers lock at the start.
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
