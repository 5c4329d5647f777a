"""Writes that share a transaction: what fails, fails alone, and nobody hears of it too early.

What SQLite is told is seen by its own trace, what it holds by a connection of the test's.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, event, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from pyscep.ca import Store, schema
from pyscep.ca.group_commit import MAX_GROUP, GroupCommit
from pyscep.ca.prepared import Prepared, _utc_text, as_core_error

PATIENCE = 20.0


class Lab:
    """A store, its statements as SQLite saw them, and writes that come at the same time."""

    def __init__(self, path: Path, *, pages: int | None = None) -> None:
        self.path = path / "scep.db"
        self.store = Store(f"sqlite:///{self.path}", busy_timeout=0.05)
        self.store.close()
        self.seen: list[str] = []
        self.on_statement: Callable[[str], None] = self.seen.append

        @event.listens_for(self.store.engine, "connect")
        def connect(connection: Any, _: Any) -> None:
            if pages is not None:
                connection.execute(f"PRAGMA max_page_count = {self.pages() + pages}")
            connection.set_trace_callback(lambda text: self.on_statement(text))

    @property
    def group(self) -> GroupCommit:
        group = self.store._group
        assert group is not None
        return group

    def together(self, *works: Callable[[Connection], Any]) -> list[Any]:
        """Run these in one group: they come while another write is under way.

        Returns:
            What each returned or raised.
        """
        entered, go_on = threading.Event(), threading.Event()

        def hold(connection: Connection) -> None:
            entered.set()
            go_on.wait(PATIENCE)

        found: list[Any] = [None] * len(works)

        def run(number: int) -> None:
            try:
                found[number], _ = self.group.run(works[number], "")
            except BaseException as error:
                found[number] = error

        threads = [threading.Thread(target=self.group.run, args=(hold, ""))]
        threads[0].start()
        assert entered.wait(PATIENCE)
        for number in range(len(works)):
            threads.append(threading.Thread(target=run, args=(number,)))
            threads[-1].start()
            deadline = time.monotonic() + PATIENCE
            while len(self.group._waiting) <= number and time.monotonic() < deadline:
                time.sleep(0.001)
        self.seen.clear()
        go_on.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return found

    def names(self) -> set[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM secrets")} - {
                "schema_version"
            }

    def pages(self) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute("PRAGMA page_count").fetchone()[0])


def adds(name: str, size: int = 1) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(insert(schema.secrets).values(name=name, value=bytes(size)))
        return name

    return work


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.store.close()


def test_writes_that_come_together_share_one_commit(lab: Lab) -> None:
    names = [f"n{number}" for number in range(8)]
    assert lab.together(*map(adds, names)) == names
    # One for the write that was under way, one for all others.
    assert lab.seen.count("COMMIT") == 2
    assert lab.names() == set(names)


def test_a_write_alone_needs_no_savepoint(lab: Lab) -> None:
    lab.store.write(adds("a"))
    lab.seen.clear()
    lab.store.write(adds("b"))
    assert lab.seen[0] == "BEGIN IMMEDIATE"
    assert lab.seen[-1] == "COMMIT"
    assert not [text for text in lab.seen if "SAVEPOINT" in text]


def test_a_group_has_a_limit(lab: Lab) -> None:
    names = [f"n{number}" for number in range(MAX_GROUP + 3)]
    assert lab.together(*map(adds, names)) == names
    assert lab.seen.count("COMMIT") == 3


def test_nobody_hears_of_it_before_the_commit(lab: Lab) -> None:
    """Nor that it failed: why it failed may be something that is never committed."""
    told: list[str] = []
    told_at_commit: list[list[str]] = []

    def watch(text: str) -> None:
        lab.seen.append(text)
        if text == "COMMIT":
            told_at_commit.append(list(told))

    lab.on_statement = watch

    run = lab.group.run

    def telling(work: Any, name: str) -> Any:
        try:
            result = run(work, name)
        except Exception:
            told.append("failed")
            raise
        if result[0] is not None:
            told.append(result[0])
        return result

    lab.group.run = telling  # type: ignore[method-assign] # to see when each one returns

    def fails(connection: Connection) -> None:
        raise LookupError

    found = lab.together(adds("a"), fails, adds("b"))
    assert [found[0], found[2]] == ["a", "b"]
    assert isinstance(found[1], LookupError)
    assert told_at_commit == [[], []], "of both transactions"
    assert sorted(told) == ["a", "b", "failed"]


def test_an_exception_undoes_one_write(lab: Lab) -> None:
    def fails(connection: Connection) -> None:
        adds("half")(connection)
        raise LookupError("no")

    found = lab.together(adds("a"), fails, adds("b"))
    assert [found[0], found[2]] == ["a", "b"]
    assert isinstance(found[1], LookupError)
    assert lab.names() == {"a", "b"}
    assert lab.seen.count("COMMIT") == 2


def test_a_later_write_sees_the_earlier_one(lab: Lab) -> None:
    """Two that want the same thing: one gets it, as if they had come one after the other."""
    first, second = lab.together(adds("a"), adds("a"))
    assert first == "a"
    assert isinstance(second, IntegrityError)
    assert lab.names() == {"a"}


def test_only_failures_commit_nothing(lab: Lab) -> None:
    def fails(connection: Connection) -> None:
        adds("half")(connection)
        raise LookupError

    found = lab.together(fails, fails)
    assert [type(one) for one in found] == [LookupError, LookupError]
    assert lab.seen.count("COMMIT") == 1
    assert lab.seen.count("ROLLBACK") == 1
    assert lab.names() == set()


def test_a_commit_that_fails_fails_all(lab: Lab) -> None:
    """SQLite checks a deferred constraint at the commit, and refuses that."""

    def poisons(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        connection.exec_driver_sql(
            "INSERT INTO attempts (endpoint, transaction_id, message_type, profile, credential, "
            "issue_key, certificate_id, csr_key, signer_key, subject, sans, state, created_at, "
            "window_ends) VALUES ('', '', 19, '', '', '', 4711, '', '', '', '[]', 'issued', "
            "'2026-01-01', '2026-01-01')"
        )

    found = lab.together(adds("a"), poisons, adds("b"))
    assert [type(one) for one in found] == [IntegrityError] * 3
    assert len({id(one) for one in found}) == 3, "each thread raises an error of its own"
    assert lab.names() == set()
    assert lab.store.write(adds("c")) == "c"
    assert lab.names() == {"c"}


def test_a_full_disk_fails_what_has_no_room(tmp_path: Path) -> None:
    """SQLite gives up the whole transaction; what has room is written all the same."""
    lab = Lab(tmp_path, pages=2)
    big = 50 * 4096
    found = lab.together(adds("a"), adds("big", big), adds("b"))
    assert [found[0], found[2]] == ["a", "b"]
    assert isinstance(found[1], OperationalError)
    assert "full" in str(found[1].orig)
    assert lab.names() == {"a", "b"}
    lab.store.close()
    with closing(sqlite3.connect(lab.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_locked_database_fails_all_and_is_used_again(lab: Lab) -> None:
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        errors: list[Any] = []

        def write(name: str) -> None:
            try:
                lab.store.write(adds(name))
            except OperationalError as error:
                errors.append(error)

        threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(errors) == 3
        assert all("locked" in str(error.orig) for error in errors)
        other.execute("ROLLBACK")
    assert lab.store.write(adds("d")) == "d"
    assert lab.names() == {"d"}


def test_a_busy_writer_lets_others_in_soon(lab: Lab) -> None:
    """SQLite's own wait grows to 100 ms from try to try: one of two processes would starve."""
    with closing(sqlite3.connect(lab.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        patient = GroupCommit(lab.store.engine, PATIENCE)
        tries: list[str] = []
        lab.on_statement = tries.append
        thread = threading.Thread(target=patient.run, args=(adds("a"), ""))
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while tries.count("BEGIN IMMEDIATE") < 50 and time.monotonic() < deadline:
            time.sleep(0.001)
        other.execute("ROLLBACK")
        thread.join(PATIENCE)
        assert not thread.is_alive()
        patient.close()
    assert lab.names() == {"a"}
    assert tries.count("BEGIN IMMEDIATE") >= 50


def test_a_connection_that_broke_is_replaced(lab: Lab) -> None:
    """Whatever happened to it: the next write has a new one."""

    def breaks(connection: Connection) -> None:
        adds("half")(connection)
        connection.connection.driver_connection.close()

    with pytest.raises(Exception, match=r"closed"):
        lab.store.write(breaks)
    assert lab.store.write(adds("a")) == "a"
    assert lab.names() == {"a"}


def test_reads_inside_a_write_see_it(lab: Lab) -> None:
    def work(connection: Connection) -> bytes:
        adds("a", 3)(connection)
        query = select(schema.secrets.c.value).where(schema.secrets.c.name == "a")
        return bytes(connection.execute(query).scalar_one())

    assert lab.store.write(work) == bytes(3)


def test_errors_of_the_driver_are_sqlalchemys() -> None:
    locked = as_core_error(sqlite3.OperationalError("database is locked"), "SELECT 1")
    assert type(locked) is OperationalError
    assert "database is locked" in str(locked)
    assert type(as_core_error(sqlite3.Error("what nobody knows"), "SELECT 1")) is DBAPIError


def test_a_question_that_fails_gives_its_connection_up(tmp_path: Path) -> None:
    names = schema.secrets.c
    question = Prepared(select(names.value).where(names.name == bindparam("it")))
    with closing(Store(f"sqlite:///{tmp_path / 'a.db'}")) as store:

        def rename(old: str, new: str) -> None:
            text = f"ALTER TABLE {old} RENAME TO {new}"
            store.write(lambda connection: connection.exec_driver_sql(text))

        assert store.first(question, {"it": "nothing"}) is None
        rename("secrets", "others")
        for _ in range(3):
            with pytest.raises(OperationalError, match="no such table"):
                store.first(question, {"it": "nothing"})
        rename("others", "secrets")
        assert store.first(question, {"it": "schema_version"}) == {"value": b"2"}


def test_a_time_that_is_none() -> None:
    assert _utc_text(None) is None


def test_closing_while_somebody_writes(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'a.db'}")
    writing, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        writing.set()
        assert go_on.wait(30)
        connection.execute(insert(schema.secrets).values(name="late", value=b"1"))

    writer = threading.Thread(target=store.write, args=(work,))
    writer.start()
    assert writing.wait(30)
    store.close()
    go_on.set()
    writer.join(30)
    with closing(store), store.read() as connection:
        found = connection.execute(select(schema.secrets.c.value).where(
            schema.secrets.c.name == "late"))
        assert found.scalar_one() == b"1"
