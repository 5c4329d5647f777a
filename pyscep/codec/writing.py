"""Writing DER, and the tags of ASN.1."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

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

STRING_CODECS: Final = {
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


def tlv(tag: int, content: bytes) -> bytes:
    """One value in DER."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    if size < 0x100:
        return bytes((tag, 0x81, size)) + content
    if size < 0x10000:
        return bytes((tag, 0x82, size >> 8, size & 0xFF)) + content
    return header(tag, size) + content


def header(tag: int, size: int) -> bytes:
    """Tag and length of a value with so many octets of content."""
    if size < 0x80:
        return bytes((tag, size))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


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
    # In two's complement -128 has the magnitude bits of 127: X.690 section 8.3.2 wants one octet.
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(size, "big", signed=True))


def octet_string(value: bytes) -> bytes:
    return tlv(OCTET_STRING, value)


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
    return tlv(tag, text.encode(STRING_CODECS[tag]))


def text_as_received(tag: int, text: str) -> bytes:
    """A string in the type it came in, to be echoed: its alphabet was its sender's affair."""
    return tlv(tag, text.encode(STRING_CODECS[tag]))


_PRINTABLE: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 '()+,-./:=?"
)


def is_printable(text: str) -> bool:
    """Every character belongs to PrintableString."""
    return _PRINTABLE.issuperset(text)


def time(moment: datetime) -> bytes:
    """UTCTime up to 2049, GeneralizedTime from 2050 (RFC 5652 section 11.3)."""
    moment = moment.astimezone(UTC)
    year = moment.year
    rest = (moment.month, moment.day, moment.hour, moment.minute, moment.second)
    if 1950 <= year <= 2049:
        return b"\x17\x0d%02d%02d%02d%02d%02d%02dZ" % (year % 100, *rest)
    return b"\x18\x0f%04d%02d%02d%02d%02d%02dZ" % (year, *rest)


def content_of(encoded: bytes) -> bytes:
    """The content octets of one value whose encoding is known to be sound."""
    length = encoded[1]
    return encoded[2 + (length & 0x7F if length > 0x80 else 0) :]
