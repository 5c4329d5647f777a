"""``ca.json`` in a CA's directory: which of its CAs are in turn, and where they are published.

The file is missing as long as there is one CA, and no address is known. The files of a CA never
move: a change of CAs is one replacement of this file, which is there whole or not at all.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from pyscep.ca.creation import Addresses
from pyscep.ca.keyfiles import KeyFileError, write_public

NAME: Final = "ca.json"
FIRST: Final = "."
_LATER: Final = re.compile(r"generation-([1-9][0-9]{0,3})")
_BASE_URL: Final = re.compile(r"http://[!-~]+")
_LIMIT: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The directories of CAs, relative to the one that the file is in."""

    current: str = FIRST
    next: str | None = None
    previous: tuple[str, ...] = ()
    """The latest first."""
    base_url: str | None = None
    """Where ``/crl`` and ``/aia`` of the server are reached, without a slash at the end."""

    def __post_init__(self) -> None:
        for name in self.all:
            if name != FIRST and _LATER.fullmatch(name) is None:
                raise ValueError(f"{name!a} is no directory of a CA")
        if len(set(self.all)) != len(self.all):
            raise ValueError("a CA stands there twice")
        if self.base_url is not None and (
            _BASE_URL.fullmatch(self.base_url) is None
            or self.base_url.endswith("/")
            or "?" in self.base_url
            or "#" in self.base_url
        ):
            raise ValueError(f"{self.base_url!a} is no URL like http://pki.example:8080")

    @property
    def all(self) -> tuple[str, ...]:
        """Every directory, the present one first."""
        return self.current, *(() if self.next is None else (self.next,)), *self.previous

    def addresses(self, name: str) -> Addresses:
        """Where CRL and certificate of a CA are published; nowhere without ``base_url``."""
        if self.base_url is None:
            return Addresses()
        public = public_name(name)
        return Addresses(
            crl=(f"{self.base_url}/crl/{public}.crl",),
            certificate=(f"{self.base_url}/aia/{public}.cer",),
        )

    def prepared(self, name: str) -> Lineage:
        """With a next CA."""
        return replace(self, next=name)

    def switched(self) -> Lineage:
        """With the next CA as the present one.

        Raises:
            ValueError: there is no next one.
        """
        if self.next is None:
            raise ValueError("there is no next CA: prepare one first")
        previous = (self.current, *self.previous)
        return replace(self, current=self.next, next=None, previous=previous)

    def retired(self) -> Lineage:
        """Without the CAs before.

        Raises:
            ValueError: there is none.
        """
        if not self.previous:
            raise ValueError("there is no CA before the present one")
        return replace(self, previous=())

    def write(self, place: Path) -> None:
        """Replace the file."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        write_public(place / NAME, text.encode(), replace=True)


def public_name(name: str) -> str:
    """What a CA is called in addresses: ``ca``, then ``ca-2`` and so on. It never changes."""
    later = _LATER.fullmatch(name)
    return "ca" if later is None else f"ca-{later[1]}"


def read(place: Path) -> Lineage:
    """The file, or what its absence means.

    Raises:
        KeyFileError: it is not what ``write`` made.
    """
    path = place / NAME
    try:
        with open(path, "rb") as file:
            data: Any = json.loads(file.read(_LIMIT))
        return Lineage(**data | {"previous": tuple(data["previous"])})
    except FileNotFoundError:
        return Lineage()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KeyFileError(f"{path} is damaged: {error}") from error


def unused_name(place: Path) -> str:
    """For one more CA: nobody has had it, not even one that was never finished."""
    numbers = [1]
    for path in place.iterdir():
        found = _LATER.fullmatch(path.name)
        if found is not None:
            numbers.append(int(found[1]))
    return f"generation-{max(numbers) + 1}"
