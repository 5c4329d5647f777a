"""The durable store: transactions over SQLite or PostgreSQL, through SQLAlchemy Core.

A row is there when ``write`` has returned, power loss included: the CA writes before it
signs and commits before it answers. Writes that come together share a transaction on SQLite,
see ``group_commit``; PostgreSQL does by itself what that is for.
"""

from __future__ import annotations

import os
import secrets as random
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import PoolProxiedConnection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry

from pyscep.ca import audit, failpoints, schema
from pyscep.ca.group_commit import BEGINS_ITSELF, GroupCommit
from pyscep.ca.prepared import Prepared, Row, Values
from pyscep.ca.upgrade import upgrade

T = TypeVar("T")

CONFLICTS: Final = 5
"""How often a write that lost against another one is tried."""
_CONFLICTS: Final = ("40001", "40P01", "42P07", "42701")
"""SQLSTATE: not serializable, deadlock, and a table or column that somebody else just made."""
_WAITS: Final = {"connect_timeout": "5", "tcp_user_timeout": "10000"}
"""For PostgreSQL: seconds until a server that does not answer is away, milliseconds until a
connection is. libpq itself would wait for minutes."""


class StoreGone(Exception):
    """The database's file is not where it was: what is written now would be lost."""


class Store:
    """Where a CA keeps what it must not forget. Usable from several threads and processes.

    Args:
        url: a database URL such as ``sqlite:///scep.db`` or ``postgresql://host/name``;
            SQLite needs a file on a local file system, which is created with mode 0600.
        busy_timeout: how long a SQLite writer waits for another process, in seconds.
        on_decision: told of each decision after it has been committed; must not raise.

    Raises:
        ValueError: an in-memory database, one that is neither SQLite nor PostgreSQL, a driver
            that is not installed, or tables of another version.
        sqlalchemy.exc.SQLAlchemyError: the database can't be opened.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        busy_timeout: float = 5.0,
        on_decision: Callable[[audit.Decision], None] | None = None,
    ) -> None:
        parsed = make_url(url)
        self.on_decision = on_decision
        self._file: _File | None = None
        if parsed.get_backend_name() == "sqlite":
            self._file = _prepare_file(parsed)
        self.engine: Engine = _engine(parsed, busy_timeout)
        self._group: GroupCommit | None = None
        if parsed.get_backend_name() == "sqlite":
            self._group = GroupCommit(self.engine, busy_timeout)
        self._readers: deque[PoolProxiedConnection] = deque()
        try:
            self.write(_create_tables)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one consistent state."""
        with self.engine.connect() as connection:
            yield connection

    def first(self, statement: Prepared, values: Values) -> Row | None:
        """What one SELECT finds, as ``read`` and ``Prepared.first`` would tell, at less cost."""
        if self._group is None:
            with self.read() as connection:
                return statement.first(connection, values)
        try:
            reader = self._readers.pop()
        except IndexError:
            reader = self.engine.raw_connection()
        driver = reader.driver_connection
        assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - for type checkers
        try:
            found = statement.first_alone(driver, self.engine.dialect, values)
        except BaseException:
            reader.close()
            raise
        self._readers.append(reader)
        return found

    def write(self, work: Callable[[Connection], T], name: str = "") -> T:
        """Run ``work`` in one transaction; it has been committed when this returns.

        Args:
            work: reads and writes through the connection.
            name: of its failpoints, see ``failpoints.WRITES``.

        Where a UNIQUE constraint or a serialization failure says that somebody else was
        faster, it runs again and then sees what the other one did. So ``work`` must not
        have effects outside the database.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database failed; nothing was written, or, if
                the connection broke during the commit, it is unknown whether it was.
            StoreGone: the database's file was moved or removed.
        """
        for _ in range(CONFLICTS - 1):
            try:
                return self._write_once(work, name)
            except DBAPIError as error:
                if not _is_conflict(error):
                    raise
        return self._write_once(work, name)

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
        if self._group is not None:
            self._group.close()
        while self._readers:
            self._readers.pop().close()
        self.engine.dispose()

    def _write_once(self, work: Callable[[Connection], T], name: str) -> T:
        if self._file is not None:
            self._file.check()
        run = self._write_alone if self._group is None else self._group.run
        result, decisions = run(work, name)
        if self.on_decision is not None:
            for decision in decisions:
                self.on_decision(decision)
        return result

    def _write_alone(
        self, work: Callable[[Connection], T], name: str
    ) -> tuple[T, Sequence[audit.Decision]]:
        with self.engine.connect() as connection:
            failpoints.reach(f"{name}.begin")
            with connection.begin():
                audit.forget(connection)
                result = work(connection)
                failpoints.reach(f"{name}.commit")
            failpoints.reach(f"{name}.done")
            return result, audit.forget(connection)


def _is_conflict(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(error, IntegrityError) or state in _CONFLICTS


class _File:
    """The file behind a SQLite database, to notice that it is another one or none by now.

    SQLite itself goes on writing to a file that was removed, and everything would look fine.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = self._look()

    def check(self) -> None:
        """See that it is still there.

        Raises:
            StoreGone: it is not.
        """
        if self._look() != self._identity:
            raise StoreGone("the database's file was removed or replaced while it was in use")

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _create_tables(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    query = select(schema.secrets.c.value).where(schema.secrets.c.name == "schema_version")
    found = connection.execute(query).scalar()
    version = str(schema.SCHEMA_VERSION).encode()
    if found is None:
        connection.execute(insert(schema.secrets).values(name="schema_version", value=version))
    elif bytes(found) != version:
        if bytes(found).isdigit() and upgrade(connection, int(found)):
            return
        raise ValueError(
            f"the store has tables of version {ascii(bytes(found).decode())}, this program "
            f"needs {schema.SCHEMA_VERSION}"
        )


def _prepare_file(url: URL) -> _File | None:
    """Create the file first, so that it and its journals are for the owner only."""
    path = url.database
    if not path or path == ":memory:" or url.query.get("mode") == "memory":
        raise ValueError("a CA forgets nothing: give a database file, not one in memory")
    if path.startswith("file:"):
        return None
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    return _File(os.path.abspath(path))


def _engine(url: URL, busy_timeout: float) -> Engine:
    # Values of rows, such as names of devices, don't belong into the text of an error.
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, max_overflow=20, hide_parameters=True)
        _tune_sqlite(engine, busy_timeout)
        return engine
    if url.get_backend_name() != "postgresql":
        raise ValueError(f"{ascii(url.drivername)}: the store is on SQLite or PostgreSQL")
    # A write that meets another one of the same row fails and runs again: see `write`.
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg").update_query_dict(_WAITS | dict(url.query)),
            max_overflow=20,
            hide_parameters=True,
            isolation_level="REPEATABLE READ",
        )
    except ModuleNotFoundError as error:
        raise ValueError("PostgreSQL needs the driver psycopg 3, which is not installed") from error


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
        # An enrollment changes about 25 pages, most of them again and again: the more of them
        # wait in the log, the fewer are written twice. 16 MiB, by 4 KiB each.
        cursor.execute("PRAGMA wal_autocheckpoint = 4096")
        # What undoes a savepoint is no file.
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get(BEGINS_ITSELF):
            connection.exec_driver_sql("BEGIN")
