"""Read values through the bounded index (BER accepted), write values (DER only)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pyscep.codec import MAX_DEPTH, MAX_NODES, attributes, index
from pyscep.codec.writing import (
    BIT_STRING as BIT_STRING,
)
from pyscep.codec.writing import (
    BMP_STRING as BMP_STRING,
)
from pyscep.codec.writing import (
    BOOLEAN as BOOLEAN,
)
from pyscep.codec.writing import (
    CONSTRUCTED as CONSTRUCTED,
)
from pyscep.codec.writing import (
    GENERALIZED_TIME as GENERALIZED_TIME,
)
from pyscep.codec.writing import (
    IA5_STRING as IA5_STRING,
)
from pyscep.codec.writing import (
    INTEGER as INTEGER,
)
from pyscep.codec.writing import (
    NULL as NULL,
)
from pyscep.codec.writing import (
    NUMERIC_STRING as NUMERIC_STRING,
)
from pyscep.codec.writing import (
    OCTET_STRING as OCTET_STRING,
)
from pyscep.codec.writing import (
    OID as OID,
)
from pyscep.codec.writing import (
    PRINTABLE_STRING as PRINTABLE_STRING,
)
from pyscep.codec.writing import (
    SEQUENCE as SEQUENCE,
)
from pyscep.codec.writing import (
    SET as SET,
)
from pyscep.codec.writing import (
    STRING_CODECS as STRING_CODECS,
)
from pyscep.codec.writing import (
    STRING_NAMES as STRING_NAMES,
)
from pyscep.codec.writing import (
    T61_STRING as T61_STRING,
)
from pyscep.codec.writing import (
    UNIVERSAL_STRING as UNIVERSAL_STRING,
)
from pyscep.codec.writing import (
    UTC_TIME as UTC_TIME,
)
from pyscep.codec.writing import (
    UTF8_STRING as UTF8_STRING,
)
from pyscep.codec.writing import (
    VISIBLE_STRING as VISIBLE_STRING,
)
from pyscep.codec.writing import (
    attribute as attribute,
)
from pyscep.codec.writing import (
    bit_string as bit_string,
)
from pyscep.codec.writing import (
    content_of as content_of,
)
from pyscep.codec.writing import (
    context as context,
)
from pyscep.codec.writing import (
    integer as integer,
)
from pyscep.codec.writing import (
    is_printable as is_printable,
)
from pyscep.codec.writing import (
    null as null,
)
from pyscep.codec.writing import (
    octet_string as octet_string,
)
from pyscep.codec.writing import (
    oid as oid,
)
from pyscep.codec.writing import (
    oid_text as oid_text,
)
from pyscep.codec.writing import (
    sequence as sequence,
)
from pyscep.codec.writing import (
    set_of as set_of,
)
from pyscep.codec.writing import (
    string as string,
)
from pyscep.codec.writing import (
    text_as_received as text_as_received,
)
from pyscep.codec.writing import (
    time as time,
)
from pyscep.codec.writing import (
    tlv as tlv,
)
from pyscep.errors import DecodeError

MAX_SEGMENT_DEPTH: Final = 4


def read(
    data: bytes,
    *,
    leaf_depth: int = MAX_DEPTH + 1,
    max_nodes: int = MAX_NODES,
    max_trailing: int = 0,
) -> Node:
    """Index one BER value and return its root.

    Args:
        data: exactly one value, and at most ``max_trailing`` bytes behind it.
        leaf_depth: values at this depth are not entered (a CRL with a million entries).
        max_nodes: how many values are accepted.

    Raises:
        DecodeError: not BER, or out of bounds.
    """
    table = index(
        data,
        leaf_depth=leaf_depth,
        max_depth=MAX_DEPTH,
        max_nodes=max_nodes,
        max_trailing=max_trailing,
    )
    return _Indexed(data, table, 0)


class Node:
    """One value of an encoding that has passed the index.

    Args:
        data: the encoding.
        start, content, end: where the value, its content octets and what follows them start.
    """

    __slots__ = ("content", "data", "end", "start", "tag")

    def __init__(self, data: bytes, start: int, content: int, end: int) -> None:
        self.data = data
        self.start = start
        self.content = content
        self.end = end
        self.tag = data[start]
        """The identifier octet."""

    def children(self) -> list[Node]:
        """The values inside this one."""
        return read(self.raw).children()

    @property
    def is_indefinite(self) -> bool:
        return self.data[self.start + 1] == 0x80

    @property
    def after(self) -> int:
        """Offset of the first byte behind this value."""
        return self.end + 2 if self.is_indefinite else self.end

    @property
    def place(self) -> tuple[int, int, int]:
        """Start, content and end."""
        return self.start, self.content, self.end

    @property
    def raw(self) -> bytes:
        """The whole value with its tag, as received."""
        data, start = self.data, self.start
        return data[start : self.end + 2 if data[start + 1] == 0x80 else self.end]

    @property
    def value(self) -> bytes:
        """The content octets as received."""
        return self.data[self.content : self.end]

    def expect(self, tag: int, what: str) -> Node:
        """This node, if it has that tag.

        Raises:
            DecodeError: it has another one; ``what`` names the field.
        """
        if self.tag != tag:
            raise DecodeError(f"{what} has tag 0x{self.tag:02x}", offset=self.start)
        return self

    def fields(self, tag: int, minimum: int, what: str) -> list[Node]:
        """The children of a structure that has at least ``minimum`` of them."""
        if self.tag != tag:
            self.expect(tag, what)
        children = self.children()
        if len(children) < minimum:
            raise DecodeError(f"{what} is too short", offset=self.start)
        return children

    def integer(self, what: str) -> int:
        """The value of an INTEGER."""
        return int.from_bytes(self.expect(INTEGER, what).value, "big", signed=True)

    def octets(self, what: str, tag: int = OCTET_STRING) -> bytes:
        """The value of an OCTET STRING, reassembled if it came in segments.

        Args:
            tag: the primitive identifier octet, another one for an implicit tag.
        """
        if self.tag == tag:
            return self.data[self.content : self.end]
        self.expect(tag | CONSTRUCTED, what)
        segments: list[bytes] = []
        self._collect(segments, MAX_SEGMENT_DEPTH, what)
        return b"".join(segments)

    def _collect(self, segments: list[bytes], depth: int, what: str) -> None:
        for child in self.children():
            if child.tag == OCTET_STRING:
                segments.append(child.value)
            elif child.tag == OCTET_STRING | CONSTRUCTED and depth > 1:
                child._collect(segments, depth - 1, what)
            else:
                raise DecodeError(f"{what} has a bad segment", offset=child.start)

    def text(self, what: str) -> str:
        """The value of a string of any of the DirectoryString kinds or IA5String."""
        if self.tag not in STRING_CODECS:
            raise DecodeError(f"{what} is not a string", offset=self.start)
        try:
            return str(self.data[self.content : self.end], STRING_CODECS[self.tag])
        except UnicodeDecodeError as error:
            raise DecodeError(f"{what} has characters outside its type") from error

    def time(self, what: str) -> datetime:
        """The value of a UTCTime or GeneralizedTime with seconds and ``Z``."""
        text = self.data[self.content : self.end]
        if not text[:-1].isdigit() or text[-1:] != b"Z":
            raise DecodeError(f"{what} is not a time in UTC", offset=self.start)
        if self.tag == UTC_TIME and len(text) == 13:
            text = (b"19" if text[:2] >= b"50" else b"20") + text
        elif self.tag != GENERALIZED_TIME or len(text) != 15:
            raise DecodeError(f"{what} is not a time", offset=self.start)
        try:
            # strptime takes ten times as long, and phones send a signingTime.
            return datetime(
                int(text[:4]),
                int(text[4:6]),
                int(text[6:8]),
                int(text[8:10]),
                int(text[10:12]),
                int(text[12:14]),
                tzinfo=UTC,
            )
        except ValueError as error:
            raise DecodeError(f"{what} is not a date", offset=self.start) from error


class _Indexed(Node):
    """A value whose index is at hand."""

    __slots__ = ("next", "number", "table")

    def __init__(self, data: bytes, table: Sequence[int], number: int) -> None:
        row = number * 4
        start, content, end, self.next = table[row : row + 4]
        super().__init__(data, start, content, end)
        self.table = table
        self.number = number
        """Its place in the index."""

    def children(self) -> list[Node]:
        number, stop = self.number + 1, self.next
        nodes: list[Node] = []
        while number < stop:
            node = _Indexed(self.data, self.table, number)
            nodes.append(node)
            number = node.next
        return nodes


def split(data: bytes, start: int, end: int, *, most: int | None = None) -> list[Node] | None:
    """The definite-length values between two offsets, or the first ``most``, at least one.

    None if one has an indefinite length or reaches too far: the general reader has to look.
    """
    nodes: list[Node] = []
    while start < end:
        content = start + 2
        if content > end:
            return None
        length = data[start + 1]
        if length >= 0x80:
            count = length & 0x7F
            if not 0 < count <= 4 or content + count > end:
                return None
            length = int.from_bytes(data[content : content + count], "big")
            content += count
        if content + length > end:
            return None
        nodes.append(Node(data, start, content, content + length))
        start = content + length
        if most is not None and len(nodes) == most:
            break
    return nodes


class _Integers(dict[bytes, int]):
    """The values of INTEGERs by their content octets; those of version numbers are at hand."""

    def __missing__(self, content: bytes) -> int:
        return int.from_bytes(content, "big", signed=True)


INTEGERS: Final = _Integers({bytes((number,)): number for number in range(8)})
"""By content octets: ``INTEGERS[b"\\x03"]``."""


def usual_attributes(node: Node) -> dict[bytes, Node] | None:
    """Attributes by encoded OID, where each appears once with a single value; else None."""
    data = node.data
    places = attributes(data, node.content, node.end)
    if places is None:
        return None
    found: dict[bytes, Node] = {}
    for at in range(0, len(places), 5):
        oid = data[places[at] : places[at + 1]]
        if oid in found:
            return None
        found[oid] = Node(data, places[at + 2], places[at + 3], places[at + 4])
    return found


def reencode(node: Node) -> bytes:
    """The DER form of a value: definite lengths, strings in one piece.

    Members of a SET keep their order: only the caller knows which SETs are SET OF.
    """
    if not node.tag & CONSTRUCTED:
        return tlv(node.tag, node.value)
    if node.tag == OCTET_STRING | CONSTRUCTED:
        return octet_string(node.octets("OCTET STRING"))
    return tlv(node.tag, b"".join(reencode(child) for child in node.children()))
