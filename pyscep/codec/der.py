"""Read values through the bounded index (BER accepted), write values (DER only)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from pyscep.codec import MAX_DEPTH, MAX_NODES, attributes, index
from pyscep.codec import check as codec_check
from pyscep.errors import DecodeError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
UTF8_STRING: Final = 0x0C
NUMERIC_STRING: Final = 0x12
PRINTABLE_STRING: Final = 0x13
T61_STRING: Final = 0x14
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
VISIBLE_STRING: Final = 0x1A
UNIVERSAL_STRING: Final = 0x1C
BMP_STRING: Final = 0x1E
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONSTRUCTED: Final = 0x20

MAX_SEGMENT_DEPTH: Final = 4

_STRING_CODECS: Final = {
    UTF8_STRING: "utf-8",
    PRINTABLE_STRING: "ascii",
    # T61String is Latin-1 in all software that still writes it.
    T61_STRING: "latin-1",
    IA5_STRING: "ascii",
    NUMERIC_STRING: "ascii",
    VISIBLE_STRING: "ascii",
    UNIVERSAL_STRING: "utf-32-be",
    BMP_STRING: "utf-16-be",
}
STRING_NAMES: Final = {
    UTF8_STRING: "UTF8String",
    PRINTABLE_STRING: "PrintableString",
    T61_STRING: "T61String",
    IA5_STRING: "IA5String",
    NUMERIC_STRING: "NumericString",
    VISIBLE_STRING: "VisibleString",
    UNIVERSAL_STRING: "UniversalString",
    BMP_STRING: "BMPString",
}


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
    return Node(data, table, 0)


def check(data: bytes) -> None:
    """Check one encoding against all bounds, without reading anything.

    Raises:
        DecodeError: as ``read``.
    """
    codec_check(data, max_depth=MAX_DEPTH, max_nodes=MAX_NODES)


class Node:
    """One value of an indexed encoding."""

    __slots__ = ("content", "data", "end", "next", "number", "start", "table", "tag")

    def __init__(self, data: bytes, table: Sequence[int], number: int) -> None:
        self.data = data
        self.table = table
        self.number = number
        """Its place in the index."""
        row = number * 4
        self.start, self.content, self.end, self.next = table[row : row + 4]
        self.tag = data[self.start]
        """The identifier octet."""

    @classmethod
    def at(cls, data: bytes, start: int, content: int, end: int) -> Node:
        """A value of definite length whose place is known; indexed when it is looked into."""
        self = cls.__new__(cls)
        self.data = data
        self.table = ()
        self.number = 0
        self.start = start
        self.content = content
        self.end = end
        self.next = 0
        self.tag = data[start]
        return self

    def children(self) -> list[Node]:
        """The values inside this one."""
        if not self.next:
            return read(self.raw).children()
        data, table, number, stop = self.data, self.table, self.number + 1, self.next
        nodes = []
        while number < stop:
            node = Node(data, table, number)
            nodes.append(node)
            number = node.next
        return nodes

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
        data, start, end = self.data, self.start, self.end
        return data[start : end + 2 if data[start + 1] == 0x80 else end]

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
            return self.value
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
        codec = _STRING_CODECS.get(self.tag)
        if codec is None:
            raise DecodeError(f"{what} is not a string", offset=self.start)
        try:
            return self.value.decode(codec)
        except UnicodeDecodeError as error:
            raise DecodeError(f"{what} has characters outside its type") from error

    def time(self, what: str) -> datetime:
        """The value of a UTCTime or GeneralizedTime with seconds and ``Z``."""
        text = self.value
        if not text[:-1].isdigit() or text[-1:] != b"Z":
            raise DecodeError(f"{what} is not a time in UTC", offset=self.start)
        if self.tag == UTC_TIME and len(text) == 13:
            text = (b"19" if text[:2] >= b"50" else b"20") + text
        elif self.tag != GENERALIZED_TIME or len(text) != 15:
            raise DecodeError(f"{what} is not a time", offset=self.start)
        try:
            return datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise DecodeError(f"{what} is not a date", offset=self.start) from error


def split(data: bytes, start: int, end: int, *, most: int | None = None) -> list[Node] | None:
    """The definite-length values between two offsets, or the first ``most`` of them.

    None if one has an indefinite length or reaches too far: the general reader has to look.
    """
    nodes = []
    while start < end and len(nodes) != most:
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
        nodes.append(Node.at(data, start, content, content + length))
        start = content + length
    return nodes


def small_integer(data: bytes, place: tuple[int, int, int]) -> int:
    """The value of the INTEGER at start, content and end."""
    return int.from_bytes(data[place[1] : place[2]], "big", signed=True)


def usual_attributes(node: Node) -> dict[bytes, Node] | None:
    """Attributes by encoded OID, where each appears once with a single value; else None."""
    data = node.data
    places = attributes(data, node.content, node.end)
    if places is None:
        return None
    found = {
        data[places[at] : places[at + 1]]: Node.at(data, *places[at + 2 : at + 5])
        for at in range(0, len(places), 5)
    }
    return found if 5 * len(found) == len(places) else None


# --- writing --------------------------------------------------------------------------


def tlv(tag: int, content: bytes) -> bytes:
    """One value in DER."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return bytes((tag, 0x81, size)) + content
    if size < 0x10000:
        return bytes((tag, 0x82, size >> 8, size & 0xFF)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def attribute(oid: bytes, value: bytes) -> bytes:
    """An Attribute with one value, both encoded."""
    size = len(value)
    inner = len(oid) + 2 + size
    if inner < 0x80:
        return b"".join((bytes((SEQUENCE, inner)), oid, bytes((SET, size)), value))
    return sequence(oid, tlv(SET, value))


def sequence(*parts: bytes) -> bytes:
    return tlv(SEQUENCE, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """A SET OF in DER: its members sorted by their encodings."""
    return tlv(SET, b"".join(sorted(parts)))


def integer(value: int) -> bytes:
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def octet_string(value: bytes) -> bytes:
    return tlv(OCTET_STRING, value)


def reencode(node: Node) -> bytes:
    """The DER form of a value: definite lengths, strings in one piece.

    Members of a SET keep their order: only the caller knows which SETs are SET OF.
    """
    if not node.tag & CONSTRUCTED:
        return tlv(node.tag, node.value)
    if node.tag == OCTET_STRING | CONSTRUCTED:
        return octet_string(node.octets("OCTET STRING"))
    return tlv(node.tag, b"".join(reencode(child) for child in node.children()))


def bit_string(value: bytes) -> bytes:
    """A BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\x00" + value)


def null() -> bytes:
    return b"\x05\x00"


def context(number: int, *parts: bytes, constructed: bool = True) -> bytes:
    """A context-specific tag around its content."""
    return tlv(0x80 | (CONSTRUCTED if constructed else 0) | number, b"".join(parts))


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return tlv(OID, bytes(content))


def oid_text(encoded: bytes) -> str:
    """The dotted form of an encoded OBJECT IDENTIFIER, for messages."""
    arcs: list[int] = []
    arc = 0
    for byte in content_of(encoded):
        arc = arc << 7 | byte & 0x7F
        if byte < 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(part) for part in (first, arcs[0] - first * 40, *arcs[1:]))


def string(tag: int, text: str) -> bytes:
    """A string of one of the kinds in STRING_NAMES.

    Raises:
        ValueError: a character is outside the type.
    """
    if tag == PRINTABLE_STRING and not is_printable(text):
        raise ValueError(f"{ascii(text)} has characters outside PrintableString")
    return tlv(tag, text.encode(_STRING_CODECS[tag]))


def text_as_received(tag: int, text: str) -> bytes:
    """A string in the type it came in, to be echoed: its alphabet was its sender's affair."""
    return tlv(tag, text.encode(_STRING_CODECS[tag]))


_PRINTABLE: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?"
)


def is_printable(text: str) -> bool:
    """Every character belongs to PrintableString."""
    return _PRINTABLE.issuperset(text)


def time(moment: datetime) -> bytes:
    """UTCTime up to 2049, GeneralizedTime from 2050 (RFC 5652 section 11.3)."""
    moment = moment.astimezone(UTC)
    text = moment.strftime("%Y%m%d%H%M%SZ").rjust(15, "0")
    if 1950 <= moment.year <= 2049:
        return tlv(UTC_TIME, text[2:].encode("ascii"))
    return tlv(GENERALIZED_TIME, text.encode("ascii"))


def content_of(encoded: bytes) -> bytes:
    """The content octets of one value whose encoding is known to be sound."""
    length = encoded[1]
    return encoded[2 + (length & 0x7F if length > 0x80 else 0) :]
