"""What is wrong with a configuration, by key, and how it would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_SECRET: Final = re.compile(r"secret|password|passphrase|token")
# In TOML's words, by the kinds of pydantic.
_KINDS: Final = {
    "tuple_type": 'must be a list, such as ["..."]',
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text in quotes",
    "path_type": "must be a path in quotes",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
}
_MESSAGES: Final = (
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
    kind: str,
    place: Sequence[str | int],
    message: str,
    value: Any,
    tables: Mapping[str, Iterable[str]],
) -> Problem:
    """A problem in the terms of the file.

    Args:
        kind: of the error, as pydantic calls it.
        place: the way to the value.
        message: pydantic's.
        value: that was found there; it is not shown if it may be a secret.
        tables: the keys of each table by its heading, to find out which one was meant.
    """
    parts = [str(part) for part in place]
    if parts[:1] == ["challenge"] and len(parts) > 3:
        del parts[2]  # the kind, which is no key of the file
    key = ".".join(parts).removesuffix(".[key]")
    if kind == "extra_forbidden":
        return Problem(key=key, text=f"unknown key{_meant(parts, tables)}")
    if kind == "missing":
        wanted = "" if len(parts) > 1 else f": there has to be a [{key}.NAME]"
        return Problem(key=key, text=f"missing{wanted}")
    if kind == "union_tag_not_found":
        return Problem(key=f"{key}.kind", text="missing: say which kind of challenge it is")
    if kind == "union_tag_invalid":
        choices = message.rpartition("expected tags: ")[2].replace("'", "")
        return Problem(key=f"{key}.kind", text=f"must be one of {choices}")
    if parts and parts[-1] == "[key]":
        return Problem(key=key, text="a name has letters, digits, dots, hyphens: 64 at most")
    message = _KINDS.get(kind, message)
    for old, new in _MESSAGES:
        if message.startswith(old):
            message = new + message.removeprefix(old)
    message = message.partition(" after validation")[0]
    shown = isinstance(value, str | int | float | bool) and not _SECRET.search(key)
    return Problem(key=key, text=f"{message} (it is {value!a})" if shown else message)


def _meant(parts: Sequence[str], tables: Mapping[str, Iterable[str]]) -> str:
    """The key that an unknown one stands for: of its own table, or else of another."""
    word = parts[-1]
    here = [title for title in tables if _is_table(title, parts[:-1])] or ["Secrets"]
    near = sorted({key for title in here for key in tables[title]})
    longer = [key for key in near if word and key.startswith(f"{word}_")]
    if close := difflib.get_close_matches(word, near, n=1) or longer:
        return f": is it {close[0]}?"
    for title, keys in tables.items():
        if word in keys:
            return f" here: it belongs into {title}"
    return ""


def _is_table(title: str, parts: Sequence[str]) -> bool:
    """Whether a heading such as ``[ca.NAME.ra]`` is that of the table there."""
    found = [one for one in parts if not one.isdigit()]
    for name in re.findall(r"\[([^\[\]]*)\]", title):
        pattern = name.split(".") if name else []
        if len(pattern) == len(found) and all(
            wanted in ("NAME", one) for wanted, one in zip(pattern, found, strict=True)
        ):
            return True
    return False
