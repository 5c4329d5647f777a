"""Templates: what a message looks like, compiled for writing it in one go.

The counterpart of shapes. A template is written down once, nested as the message is; filling it
computes all lengths from the inside out and joins the pieces once, however deep they nest:

    Template((SEQUENCE, ID_DATA, "algorithm", (OCTET_STRING, "content")))

is a SEQUENCE of a constant, a value of the caller's, and an OCTET STRING around another. What is
known beforehand is written with the functions of pyscep.codec.writing.
"""

from __future__ import annotations

from typing import Any, Final

from pyscep.codec.writing import SEQUENCE, SET, header

Part = bytes | str | tuple[Any, ...]
"""A constant, the name of a slot, or a tag followed by the parts inside it."""
_Head = tuple[int, int, int, tuple[int, ...]]


class Template:
    """A compiled template.

    Args:
        parts: what it consists of, in order. Each name of a slot appears once.
    """

    __slots__ = ("_heads", "_pieces", "_slots", "names")

    def __init__(self, *parts: Part) -> None:
        self._pieces: Final[list[bytes]] = []
        self._slots: Final[list[int]] = []
        # Innermost first: place, tag, size of the constants in it, places of all else in it.
        self._heads: Final[list[_Head]] = []
        self.names: Final[list[str]] = []
        """The slots, in the order in which ``fill`` takes their values."""
        self._compile(parts)

    def fill(self, *values: bytes) -> bytes:
        """The message with these values in its slots, which are encoded already."""
        pieces = [*self._pieces]
        for place, value in zip(self._slots, values, strict=True):
            pieces[place] = value
        self._write_heads(pieces, [*map(len, pieces)])
        return b"".join(pieces)

    def around(self, hole: str, size: int, *values: bytes) -> tuple[bytes, bytes]:
        """What stands before and behind a slot that will hold ``size`` octets.

        Args:
            hole: its name. What belongs there is written in place, later.
            values: of the other slots.
        """
        pieces = [*self._pieces]
        places = [*self._slots]
        at = places.pop(self.names.index(hole))
        for place, value in zip(places, values, strict=True):
            pieces[place] = value
        sizes = [*map(len, pieces)]
        sizes[at] = size
        self._write_heads(pieces, sizes)
        return b"".join(pieces[:at]), b"".join(pieces[at + 1 :])

    def _write_heads(self, pieces: list[bytes], sizes: list[int]) -> None:
        for place, tag, size, inside in self._heads:
            for part in inside:
                size += sizes[part]
            # As writing.header, without a call for each.
            if size < 0x80:
                pieces[place] = b"%c%c" % (tag, size)
                sizes[place] = size + 2
            elif size < 0x100:
                pieces[place] = b"%c\x81%c" % (tag, size)
                sizes[place] = size + 3
            elif size < 0x10000:
                pieces[place] = b"%c\x82%c%c" % (tag, size >> 8, size & 0xFF)
                sizes[place] = size + 4
            else:
                pieces[place] = head = header(tag, size)
                sizes[place] = size + len(head)

    def _compile(self, parts: tuple[Part, ...]) -> tuple[int, tuple[int, ...]]:
        """Add parts; returns the size of their constants and the places of all else."""
        constant = 0
        places: list[int] = []
        for part in parts:
            place = len(self._pieces)
            if isinstance(part, bytes):
                self._pieces.append(part)
                constant += len(part)
                continue
            self._pieces.append(b"")
            places.append(place)
            if isinstance(part, str):
                if part in self.names:
                    raise ValueError(f"two slots with the name {part!r}")
                self.names.append(part)
                self._slots.append(place)
            else:
                tag, *inside = part
                self._heads.append((place, tag, *self._compile(tuple(inside))))
        return constant, tuple(places)


def attribute_of(oid: bytes, tag: int, content: bytes) -> bytes:
    """An Attribute (RFC 5652 section 5.3) whose one value has this tag and content."""
    size = len(content)
    inner = oid[1] + size + 6
    if inner < 0x80:
        return b"0%c%b1%c%c%c%b" % (inner, oid, size + 2, tag, size, content)
    return _ATTRIBUTE.fill(oid, header(tag, size), content)


_ATTRIBUTE: Final = Template((SEQUENCE, "type", (SET, "head", "value")))
