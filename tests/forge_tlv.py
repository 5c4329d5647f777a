"""ASN.1 for forge.py: a writer that can also write badly, and a reader of its own.

Shares no code with the package, so that the package's encoder and decoder are never checked
by each other alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 1, 2, 3, 4, 5, 6
UTF8, PRINTABLE, T61, IA5, BMP, UNIVERSAL = 0x0C, 0x13, 0x14, 0x16, 0x1E, 0x1C
NUMERIC, VISIBLE = 0x12, 0x1A
SEQUENCE, SET = 0x30, 0x31
END_OF_CONTENTS = b"\x00\x00"

STRING_CODECS = {UTF8: "utf-8", PRINTABLE: "ascii", T61: "latin-1", IA5: "ascii",
                 BMP: "utf-16-be",
                 NUMERIC: "ascii", VISIBLE: "ascii", UNIVERSAL: "utf-32-be"}


def length(value: int, *, pad: int = 0) -> bytes:
    """A definite length; `pad` adds that many octets more than needed."""
    if value < 0x80 and not pad:
        return bytes([value])
    octets = value.to_bytes(max(1, (value.bit_length() + 7) // 8) + pad, "big")
    if not pad:
        octets = octets.lstrip(b"\x00")
    return bytes([0x80 | len(octets)]) + octets


def tlv(tag: int, *parts: bytes) -> bytes:
    """Tag, minimal length, content."""
    content = b"".join(parts)
    return bytes([tag]) + length(len(content)) + content


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a message is written: DER as it stands, or one of the forms of BER that peers send."""

    indefinite: bool = False
    """Indefinite length for every constructed element."""
    chunk: int | None = None
    """Octet strings constructed, in pieces of that many octets."""
    pad: int = 0
    """Octets that every definite length is longer than needed."""

    def tlv(self, tag: int, *parts: bytes) -> bytes:
        """One element; constructed if the tag says so."""
        content = b"".join(parts)
        if self.indefinite and tag & 0x20:
            return bytes([tag, 0x80]) + content + END_OF_CONTENTS
        return bytes([tag]) + length(len(content), pad=self.pad) + content

    def seq(self, *parts: bytes) -> bytes:
        return self.tlv(SEQUENCE, *parts)

    def set(self, *parts: bytes) -> bytes:
        """SET OF, in the order given."""
        return self.tlv(SET, *parts)

    def octets(self, content: bytes, tag: int = OCTET_STRING) -> bytes:
        """An octet string, or an implicitly tagged one; in pieces if the style says so."""
        if self.chunk is None:
            return self.tlv(tag, content)
        return self.tlv(tag | 0x20, *(self.tlv(OCTET_STRING, piece)
                                      for piece in pieces(content, self.chunk)))


DER = Style()
BER = Style(indefinite=True)
BOUNCY_CASTLE = Style(indefinite=True, chunk=1000)


def pieces(content: bytes, size: int) -> list[bytes]:
    return [content[at:at + size] for at in range(0, len(content), size)]


def seq(*parts: bytes) -> bytes:
    return tlv(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """SET OF in DER: sorted by encoding."""
    return tlv(SET, *sorted(parts))


def integer(value: int) -> bytes:
    size = (value + (value < 0)).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(size, "big", signed=True))


def octets(content: bytes) -> bytes:
    return tlv(OCTET_STRING, content)


def bits(content: bytes, unused: int = 0) -> bytes:
    return tlv(BIT_STRING, bytes([unused]), content)


def null() -> bytes:
    return tlv(NULL)


def oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = b""
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return tlv(OID, content)


def text(value: str, tag: int = PRINTABLE) -> bytes:
    return tlv(tag, value.encode(STRING_CODECS[tag]))


def utc_time(when: datetime) -> bytes:
    return tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())


def generalized_time(when: datetime) -> bytes:
    return tlv(0x18, when.strftime("%Y%m%d%H%M%SZ").encode())


def algorithm(dotted: str, parameters: bytes | None = None) -> bytes:
    return seq(oid(dotted), parameters or b"")


@dataclass(frozen=True)
class Element:
    """One element that was read: constructed ones hold `children`, primitive ones `content`."""

    tag: int
    raw: bytes
    content: bytes
    children: tuple[Element, ...] = ()

    def __getitem__(self, index: int) -> Element:
        return self.children[index]

    def __iter__(self) -> Iterator[Element]:
        return iter(self.children)

    def __len__(self) -> int:
        return len(self.children)

    @property
    def oid(self) -> str:
        assert self.tag == OID, hex(self.tag)
        arcs, value = [], 0
        for octet in self.content:
            value = value << 7 | octet & 0x7F
            if not octet & 0x80:
                arcs.append(value)
                value = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))

    @property
    def integer(self) -> int:
        assert self.tag == INTEGER, hex(self.tag)
        return int.from_bytes(self.content, "big", signed=True)

    @property
    def text(self) -> str:
        return self.content.decode(STRING_CODECS[self.tag])

    @property
    def octets(self) -> bytes:
        """The octets of a string in one piece or in several."""
        if not self.tag & 0x20:
            return self.content
        return b"".join(child.octets for child in self.children)


def read(data: bytes) -> Element:
    """One element, to the last octet of `data`; BER is read too."""
    element, end = _read(data, 0)
    assert end == len(data), f"{len(data) - end} octets behind the element"
    return element


def read_prefix(data: bytes) -> tuple[Element, bytes]:
    """One element and what follows it."""
    element, end = _read(data, 0)
    return element, data[end:]


def _read(data: bytes, start: int) -> tuple[Element, int]:
    tag, first = data[start], data[start + 1]
    assert tag & 0x1F != 0x1F, "no SCEP message has a tag above 30"
    at = start + 2
    if first == 0x80:
        children = []
        while data[at:at + 2] != END_OF_CONTENTS:
            child, at = _read(data, at)
            children.append(child)
        return Element(tag, data[start:at + 2], data[start + 2:at], tuple(children)), at + 2
    size = first
    if first > 0x80:
        octet_count = first & 0x7F
        size = int.from_bytes(data[at:at + octet_count], "big")
        at += octet_count
    end = at + size
    assert end <= len(data), "the element is longer than the data"
    children = []
    if tag & 0x20:
        inner = at
        while inner < end:
            child, inner = _read(data, inner)
            children.append(child)
        assert inner == end, "a child is longer than its parent"
    return Element(tag, data[start:end], data[at:end], tuple(children)), end


def assert_der(data: bytes) -> None:
    """`data` is DER: definite minimal lengths, primitive strings, sorted SETs, nothing behind."""
    assert _rewrite(read(data)) == data, "not DER"


def _rewrite(element: Element) -> bytes:
    if not element.tag & 0x20:
        return tlv(element.tag, element.content)
    assert element.tag & 0xDF not in (OCTET_STRING, BIT_STRING), "constructed string"
    parts = [_rewrite(child) for child in element]
    # An implicitly tagged SET OF looks like any other constructed element; the caller's own
    # assertions cover signedAttrs and certificates.
    return tlv(element.tag, *(sorted(parts) if element.tag == SET else parts))
