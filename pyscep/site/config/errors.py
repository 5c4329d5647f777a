"""What is wrong with a configuration, by key, and how it would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

_SECRET: Final = re.compile(r"secret|password|passphrase|token")
_MESSAGES: Final = (
    ("Input should be a valid dictionary or instance of ", "must be a table: "),
    ("Input should be ", "must be "),
    ("String should match pattern", "must match"),
    ("Tuple should have", "must have"),
    ("Dictionary should have", "must have"),
    ("Value error, ", ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One key, and what is wrong with it."""

    key: str
    """Such as ``endpoint.devices.path``; empty for the file as a whole."""
    text: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}" if self.key else self.text


class ConfigError(ValueError):
    """A configuration can't be used.

    Args:
        name: of the file.
        problems: all that were found.
    """

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{name}: {problem}" for problem in self.problems))


def problem_of(
    kind: str, place: Sequence[str | int], message: str, value: Any, known: Iterable[str]
) -> Problem:
    """A problem in the terms of the file.

    Args:
        kind: of the error, as pydantic calls it.
        place: the way to the value.
        message: pydantic's.
        value: that was found there; it is not shown if it may be a secret.
        known: all keys, to find out which one was meant.
    """
    parts = [str(part) for part in place]
    if parts[:1] == ["challenge"] and len(parts) > 3:
        del parts[2]  # the kind, which is no key of the file
    key = ".".join(parts).removesuffix(".[key]")
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(parts[-1], list(known), n=1)
        return Problem(key=key, text="unknown key" + (f": is it {close[0]}?" if close else ""))
    if kind == "missing":
        return Problem(key=key, text="missing")
    if kind == "union_tag_not_found":
        return Problem(key=f"{key}.kind", text="missing: say which kind of challenge it is")
    if kind == "union_tag_invalid":
        choices = message.rpartition("expected tags: ")[2].replace("'", "")
        return Problem(key=f"{key}.kind", text=f"must be one of {choices}")
    if parts and parts[-1] == "[key]":
        return Problem(key=key, text="a name has letters, digits, dots, hyphens: 64 at most")
    for old, new in _MESSAGES:
        if message.startswith(old):
            message = new + message.removeprefix(old)
    message = message.partition(" after validation")[0]
    shown = isinstance(value, str | int | float | bool) and not _SECRET.search(key)
    return Problem(key=key, text=f"{message} (it is {value!a})" if shown else message)
