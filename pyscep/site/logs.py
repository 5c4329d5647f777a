"""Structured logs: one JSON object on each line, with every text of strangers escaped.

What a peer sends, a transactionID or a subject, can hold line ends, terminal commands, and
letters that look like others. So each text passes ``ascii()`` and is cut off at 256 characters.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pyscep.ca.audit import Decision

MAX_TEXT: Final = 256
MAX_TRACEBACK: Final = 8192


def escaped(text: str, limit: int = MAX_TEXT) -> str:
    """A text in printable ASCII, at most ``limit`` characters."""
    return ascii(text[:limit])[1:-1][:limit]


def json_line(record: Mapping[str, Any]) -> str:
    """A record as JSON on one line; what is not a number, a flag or nothing becomes text."""
    plain = {
        name: value if isinstance(value, int | float | bool | None) else escaped(str(value))
        for name, value in record.items()
    }
    return json.dumps(plain)


def describe_decision(decision: Decision) -> dict[str, Any]:
    """A decision as plain values, with what is known of it."""
    record: dict[str, Any] = {
        "time": decision.at.isoformat(timespec="milliseconds"),
        "event": "decision",
    }
    for name in Decision.__slots__:
        value = getattr(decision, name)
        if name != "at" and value is not None:
            record[name] = value
    return record


class JsonFormatter(logging.Formatter):
    """Formats records of the logging package in the same way."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "event": "log",
            "level": record.levelname,
            "logger": record.name,
            "text": escaped(record.getMessage()),
        }
        if record.exc_info:
            fields["traceback"] = escaped(self.formatException(record.exc_info), MAX_TRACEBACK)
        return json.dumps(fields)
