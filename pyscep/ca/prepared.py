"""Statements of the hot path, written in SQLAlchemy Core and run bare where that is SQLite.

Core costs five times what SQLite itself needs for such a statement, and an enrollment is half
a dozen of them. So the text that Core makes of a statement is kept, with what turns values
into what the driver takes, and handed to the driver. On PostgreSQL, where a statement is a
round trip, Core runs it as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy.exc
from sqlalchemy import Boolean, Connection, Dialect, Insert, LargeBinary, Select, Update
from sqlalchemy.types import TypeEngine

from pyscep.ca.schema import UtcDateTime, WireText

Values = Mapping[str, Any]
Row = dict[str, Any]
_Process = Callable[[Any], Any] | None
_SQLITE: Final = "sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """What Core made of a statement, for one set of parameters."""

    text: str
    parameters: tuple[tuple[str, Any, _Process], ...]
    """In their order: name, default, what makes of a value what the driver takes."""
    columns: tuple[tuple[str, _Process], ...]

    def bound(self, values: Values) -> list[Any]:
        get = values.get
        return [
            get(name, default) if process is None else process(get(name, default))
            for name, default, process in self.parameters
        ]

    def row(self, found: Sequence[Any]) -> Row:
        return {
            name: value if process is None or value is None else process(value)
            for (name, process), value in zip(self.columns, found, strict=True)
        }


class Prepared:
    """A statement that is compiled once.

    Args:
        statement: of Core; what it is told of values comes with each run, by name.
    """

    def __init__(self, statement: Select[Any] | Insert | Update) -> None:
        self._statement = statement
        self._texts: dict[tuple[str, ...], _Text] = {}

    def rows(self, connection: Connection, values: Values) -> list[Row]:
        """What a SELECT finds, by the names of its columns."""
        if connection.dialect.name != _SQLITE:
            found = connection.execute(self._statement, dict(values))
            return [row._asdict() for row in found]
        text = self._text(connection.dialect, values)
        return self._fetch(_driver(connection), text, values)

    def first(self, connection: Connection, values: Values) -> Row | None:
        """The first row that a SELECT finds."""
        found = self.rows(connection, values)
        return found[0] if found else None

    def first_alone(
        self, driver: sqlite3.Connection, dialect: Dialect, values: Values
    ) -> Row | None:
        """The same through a connection of the driver, outside of any transaction."""
        found = self._fetch(driver, self._text(dialect, values), values)
        return found[0] if found else None

    def change(self, connection: Connection, values: Values) -> int:
        """How many rows an UPDATE changed."""
        if connection.dialect.name != _SQLITE:
            return connection.execute(self._statement, dict(values)).rowcount
        return int(self._run(connection, values).rowcount)

    def insert(self, connection: Connection, values: Values) -> int:
        """The id that the database gave to the row of an INSERT."""
        if connection.dialect.name != _SQLITE:
            key: Any = connection.execute(self._statement, dict(values)).inserted_primary_key
            return int(key[0])
        number = self._run(connection, values).lastrowid
        assert number is not None  # noqa: S101 - for type checkers: SQLite numbers every row
        return number

    def _run(self, connection: Connection, values: Values) -> sqlite3.Cursor:
        text = self._text(connection.dialect, values)
        try:
            return _driver(connection).execute(text.text, text.bound(values))
        except sqlite3.Error as error:
            raise as_core_error(error, text.text) from error

    def _fetch(self, driver: sqlite3.Connection, text: _Text, values: Values) -> list[Row]:
        try:
            # All of them: a cursor left open would hold back what checkpoints may overwrite.
            found = driver.execute(text.text, text.bound(values)).fetchall()
        except sqlite3.Error as error:
            raise as_core_error(error, text.text) from error
        return [text.row(one) for one in found]

    def _text(self, dialect: Dialect, values: Values) -> _Text:
        key = tuple(values)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = self._compile(dialect, key)
        return text

    def _compile(self, dialect: Dialect, names: tuple[str, ...]) -> _Text:
        keys = list(names) if isinstance(self._statement, Insert) else None
        compiled: Any = self._statement.compile(dialect=dialect, column_keys=keys)
        parameters = tuple(
            (name, compiled.params[name], _to_driver(compiled.binds[name].type, dialect))
            for name in compiled.positiontup
        )
        columns: tuple[tuple[str, _Process], ...] = ()
        if isinstance(self._statement, Select):
            columns = tuple(
                (str(column.key), _from_driver(column.type, dialect))
                for column in self._statement.selected_columns
            )
        return _Text(text=str(compiled), parameters=parameters, columns=columns)


def as_core_error(error: sqlite3.Error, text: str) -> sqlalchemy.exc.DBAPIError:
    """An error of the driver as SQLAlchemy would raise it."""
    for kind in type(error).__mro__:
        found = getattr(sqlalchemy.exc, kind.__name__, None)
        if isinstance(found, type) and issubclass(found, sqlalchemy.exc.DBAPIError):
            return found(text, None, error, hide_parameters=True)
    return sqlalchemy.exc.DBAPIError(text, None, error, hide_parameters=True)


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's connection behind one of SQLAlchemy's."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - for type checkers
    return driver


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = driver_of(connection)
    if not driver.in_transaction:
        connection.begin()  # a reader: what follows is to see the same state
    return driver


def _to_driver(kind: TypeEngine[Any], dialect: Dialect) -> _Process:
    if isinstance(kind, UtcDateTime):
        return _utc_text
    if isinstance(kind, LargeBinary | Boolean | WireText):
        return None  # the driver takes bytes, bool and any text as they are
    return kind.dialect_impl(dialect).bind_processor(dialect)


def _from_driver(kind: TypeEngine[Any], dialect: Dialect) -> _Process:
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _utc_text(value: datetime | None) -> str | None:
    """As SQLAlchemy stores a DateTime in SQLite."""
    if value is None:
        return None
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
