"""Many writes in one transaction of SQLite: whoever comes while one is committed shares the next.

A commit waits for the disk, so writes that wait for each other's commits would get through one
by one. Here the first to come leads: it takes all that wait, runs each in a savepoint inside
one transaction, and commits. Nobody hears of his write before the commit is done. A write that
fails undoes itself alone; a commit that fails, fails all.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from pyscep.ca import audit, failpoints
from pyscep.ca.prepared import as_core_error, driver_of

T = TypeVar("T")

MAX_GROUP: Final = 64
"""How many writes share a transaction."""
_TRY_AGAIN: Final = (0.0005, 0.002)
"""Seconds from one try to write to the next, while another process writes: first and most."""
BEGINS_ITSELF: Final = "pyscep_begins_itself"
"""Execution option of a connection whose transactions are begun here, not by SQLAlchemy."""


@dataclass(slots=True, kw_only=True)
class _Unit:
    """One write, and what came of it."""

    work: Callable[[Connection], Any]
    name: str
    wake: Any = field(default_factory=Lock)
    leads: bool = False
    result: Any = None
    error: BaseException | None = None
    decisions: Sequence[audit.Decision] = ()


class GroupCommit:
    """The one writer of a process on a SQLite database. Usable from several threads.

    Args:
        engine: of the database; its "begin" must leave connections with the option
            BEGINS_ITSELF alone.
        patience: seconds to wait for another process that writes.
    """

    def __init__(self, engine: Engine, patience: float) -> None:
        self._engine = engine
        self._patience = patience
        self._mutex = Lock()
        self._waiting: deque[_Unit] = deque()
        self._led = False
        self._connection: Connection | None = None

    def run(self, work: Callable[[Connection], T], name: str) -> tuple[T, Sequence[audit.Decision]]:
        """Run ``work`` in a transaction; it has been committed when this returns.

        Args:
            work: reads and writes through the connection. It may run in another thread, and
                more than once.
            name: of its failpoints.

        Returns:
            What ``work`` returned, and the decisions that it entered.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: of the write or the commit; nothing was written.
        """
        unit = _Unit(work=work, name=name)
        with self._mutex:
            self._waiting.append(unit)
            unit.leads = not self._led
            self._led = True
            if not unit.leads:
                unit.wake.acquire()
        if not unit.leads:
            unit.wake.acquire()  # until it is done, or has to lead
        if unit.leads:
            self._lead()
        if unit.error is not None:
            raise unit.error
        return unit.result, unit.decisions

    def close(self) -> None:
        """Close the connection, unless it is in use; the next write opens another one."""
        with self._mutex:
            if not self._led:
                self._disconnect()

    def _lead(self) -> None:
        """Commit all that waits now, and let the first of those who came meanwhile lead."""
        with self._mutex:
            group = [self._waiting.popleft() for _ in range(min(MAX_GROUP, len(self._waiting)))]
        try:
            self._settle(group)
        finally:
            with self._mutex:
                self._led = bool(self._waiting)
                if self._led:
                    following = self._waiting[0]
                    following.leads = True
                    following.wake.release()
            for unit in group:
                if not unit.leads:
                    unit.wake.release()

    def _settle(self, group: list[_Unit]) -> None:
        """Commit a group. Where one write undid the whole transaction, each is on its own."""
        try:
            whole = self._commit(group)
        except BaseException as error:
            for unit in group:
                unit.error = _own(error)
            return
        if not whole:
            for unit in group:
                unit.error = None
                self._settle([unit])

    def _commit(self, group: list[_Unit]) -> bool:
        """Run a group in one transaction.

        Returns:
            False if a write of several made SQLite give up the transaction (a full disk
            does): nothing was written, and nobody has been told anything.
        """
        connection = self._connect()
        driver = driver_of(connection)
        try:
            for unit in group:
                failpoints.reach(f"{unit.name}.begin")
            self._begin(driver)
            for unit in group:
                _run(unit, connection, driver if len(group) > 1 else None)
                if not driver.in_transaction:
                    return len(group) == 1
            written = [unit for unit in group if unit.error is None]
            if not written:
                return True
            for unit in written:
                failpoints.reach(f"{unit.name}.commit")
            driver.execute("COMMIT")
            for unit in written:
                failpoints.reach(f"{unit.name}.done")
            return True
        finally:
            self._clean_up(connection, driver)

    def _begin(self, driver: sqlite3.Connection) -> None:
        """Become the one that writes.

        SQLite itself waits longer from try to try, up to 100 ms: of two busy processes one
        would hardly get in.
        """
        deadline = time.monotonic() + self._patience
        pause = _TRY_AGAIN[0]
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _TRY_AGAIN[1])
            else:
                return

    def _clean_up(self, connection: Connection, driver: sqlite3.Connection) -> None:
        """Roll back what was not committed; SQLAlchemy learns that its transaction is over."""
        try:
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            if connection.in_transaction():
                connection.rollback()
        except BaseException:
            self._disconnect()
            raise

    def _connect(self) -> Connection:
        if self._connection is None or self._connection.closed or self._connection.invalidated:
            self._connection = self._engine.connect().execution_options(**{BEGINS_ITSELF: True})
            driver_of(self._connection).execute("PRAGMA busy_timeout = 0")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()


def _run(unit: _Unit, connection: Connection, driver: sqlite3.Connection | None) -> None:
    """Run one write, in a savepoint if it shares its transaction: then ``driver`` is given."""
    audit.forget(connection)
    try:
        if driver is not None:
            driver.execute("SAVEPOINT unit")
        unit.result = unit.work(connection)
        unit.decisions = audit.forget(connection)
        if driver is not None:
            driver.execute("RELEASE unit")
    except BaseException as error:
        unit.error = _own(error)
        if driver is not None and driver.in_transaction:
            driver.execute("ROLLBACK TO unit")
            driver.execute("RELEASE unit")


def _own(error: BaseException) -> BaseException:
    """An error for one thread to raise."""
    return as_core_error(error, "") if isinstance(error, sqlite3.Error) else error
