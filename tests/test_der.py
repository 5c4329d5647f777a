"""codec.der: reading through the index and writing DER, with asn1crypto as the other opinion."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from asn1crypto import core
from hypothesis import example, given
from hypothesis import strategies as st

from pyscep.codec import der
from pyscep.errors import DecodeError
from tests import forge_tlv as asn1

STRINGS: dict[int, tuple[Any, str]] = {
    der.UTF8_STRING: (core.UTF8String, "müller \U0001f511"),
    der.PRINTABLE_STRING: (core.PrintableString, "abc XYZ 0-9 '()+,-./:=?"),
    der.T61_STRING: (core.TeletexString, "muller"),
    der.IA5_STRING: (core.IA5String, "a@b_c"),
    der.NUMERIC_STRING: (core.NumericString, "0123 456"),
    der.VISIBLE_STRING: (core.VisibleString, "a_b ~"),
    der.UNIVERSAL_STRING: (core.UniversalString, "m\U0001f511"),
    der.BMP_STRING: (core.BMPString, "müller"),
}


# --- writing ---------------------------------------------------------------------------


@example(-1)
@example(-128)
@example(-129)
@example(-32768)
@example(128)
@given(st.integers() | st.integers(-(1 << 400), 1 << 400))
def test_integer(value: int) -> None:
    assert der.integer(value) == core.Integer(value).dump() == asn1.integer(value)
    assert der.read(der.integer(value)).integer("it") == value


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, (1 << 128) - 1), max_size=3))
def test_oid(first: int, second: int, rest: list[int]) -> None:
    dotted = ".".join(map(str, (first, second, *rest)))
    encoded = der.oid(dotted)
    assert encoded == core.ObjectIdentifier(dotted).dump()
    assert der.oid_text(encoded) == dotted == core.ObjectIdentifier.load(encoded).dotted


@pytest.mark.parametrize("dotted", [
    "0.0", "0.39", "1.39.1", "2.0", "2.40", "2.47", "2.48.1", "2.100.3", "2.999.1",
    "2.25.329800735698586629295641978511506172918", "1.2.840.113549.1.9.7",
])
def test_oids_at_the_edges(dotted: str) -> None:
    encoded = der.oid(dotted)
    assert encoded == core.ObjectIdentifier(dotted).dump()
    assert der.oid_text(encoded) == dotted
    der.read(encoded)


def test_oid_text_of_an_encoding_with_a_long_length() -> None:
    assert der.oid_text(b"\x06\x81\x03\x55\x1d\x0e") == "2.5.29.14"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 24])
def test_lengths(size: int) -> None:
    encoded = der.octet_string(bytes(size))
    assert encoded == core.OctetString(bytes(size)).dump()
    assert der.content_of(encoded) == bytes(size)
    assert der.read(encoded).octets("it") == bytes(size)


def test_set_of_is_sorted() -> None:
    parts = (der.integer(300), der.integer(1), der.octet_string(b""), der.integer(2))
    encoded = der.set_of(*parts)
    assert encoded == der.tlv(der.SET, b"".join(sorted(parts)))
    asn1.assert_der(encoded)


def test_small_writers() -> None:
    assert der.null() == core.Null().dump()
    assert der.bit_string(b"\xf0\x0f") == core.OctetBitString(b"\xf0\x0f").dump()
    assert der.context(0, der.null()) == b"\xa0\x02\x05\x00"
    assert der.context(2, b"ab", constructed=False) == b"\x82\x02ab"
    assert der.sequence() == b"\x30\x00"


@pytest.mark.parametrize("tag", STRINGS)
def test_strings(tag: int) -> None:
    kind, text = STRINGS[tag]
    encoded = der.string(tag, text)
    assert encoded == kind(text).dump() == der.text_as_received(tag, text)
    assert der.read(encoded).text("it") == text
    assert der.STRING_NAMES[tag] == ("T61String" if tag == 0x14 else kind.__name__)


def test_t61_is_latin_1() -> None:
    # as all software has it that still writes it; asn1crypto has the real T.61
    assert der.string(der.T61_STRING, "ü") == b"\x14\x01\xfc"
    assert der.read(b"\x14\x01\xfc").text("it") == "ü"


@pytest.mark.parametrize("text", ["a_b", "a@b", "ä", "a*", "a\n", "a\x00", "a;", "a&b", '"'])
def test_printable_string_has_an_alphabet(text: str) -> None:
    assert not der.is_printable(text)
    with pytest.raises(ValueError, match="PrintableString"):
        der.string(der.PRINTABLE_STRING, text)
    assert der.text_as_received(der.UTF8_STRING, text)


@pytest.mark.parametrize(("tag", "text"), [
    (der.IA5_STRING, "ä"), (der.T61_STRING, "\u0142"), (der.UTF8_STRING, "\ud800"),
])
def test_a_character_outside_the_type(tag: int, text: str) -> None:
    with pytest.raises(ValueError, match="encode"):
        der.string(tag, text)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)))  # noqa: DTZ001 - hypothesis wants them naive
def test_time(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    encoded = der.time(moment)
    assert der.read(encoded).time("it") == moment
    kind = core.UTCTime if 1950 <= moment.year <= 2049 else core.GeneralizedTime
    if moment.year >= 1000:  # the other opinion pads no years
        assert encoded == kind(moment).dump()
    else:
        assert encoded == asn1.tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").zfill(15).encode())


def test_time_is_in_utc() -> None:
    east = datetime(2025, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert der.time(east) == b"\x17\x0d241231233000Z"
    assert der.time(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)) == b"\x17\x0d491231235959Z"
    assert der.time(datetime(2050, 1, 1, tzinfo=UTC)) == b"\x18\x0f20500101000000Z"
    assert der.time(datetime(1950, 1, 1, tzinfo=UTC)) == b"\x17\x0d500101000000Z"
    assert der.time(datetime(1949, 12, 31, tzinfo=UTC)) == b"\x18\x0f19491231000000Z"
    assert der.time(datetime(999, 12, 31, tzinfo=UTC)) == b"\x18\x0f09991231000000Z"


# --- reading ---------------------------------------------------------------------------


@pytest.mark.parametrize(("tag", "content", "expected"), [
    (0x17, b"491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
    (0x17, b"500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
    (0x17, b"000229000000Z", datetime(2000, 2, 29, tzinfo=UTC)),
    (0x18, b"20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
    (0x18, b"00010101000000Z", datetime(1, 1, 1, tzinfo=UTC)),
    (0x18, b"99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
])
def test_times_that_are_read(tag: int, content: bytes, expected: datetime) -> None:
    assert der.read(asn1.tlv(tag, content)).time("it") == expected


@pytest.mark.parametrize(("tag", "content"), [
    (0x17, b""), (0x17, b"Z"), (0x17, b"4912312359Z"), (0x17, b"491231235959"),
    (0x17, b"491231235959+0000"), (0x17, b"20491231235959Z"), (0x17, b"491331235959Z"),
    (0x17, b"490230000000Z"), (0x17, b"490101240000Z"), (0x17, b"490101006000Z"),
    (0x17, b"490101000060Z"), (0x17, b"490101000061Z"), (0x17, b"49010100000 Z"),
    (0x17, "49010100000\u0661Z".encode()), (0x17, b"-90101000000Z"), (0x17, b"490101000000z"),
    (0x18, b"491231235959Z"), (0x18, b"20491231235959.5Z"), (0x18, b"00000101000000Z"),
    (0x18, b"20490101000000Z0"), (0x13, b"20490101000000Z"), (0x80, b"491231235959Z"),
    (0x04, b"20490101000000Z"), (0x18, b"\xb2049010100000Z"), (0x0C, b"491231235959Z"),
])
def test_times_that_are_refused(tag: int, content: bytes) -> None:
    with pytest.raises(DecodeError, match="it is not a"):
        der.read(asn1.tlv(tag, content)).time("it")


def test_node_positions() -> None:
    data = asn1.seq(asn1.integer(5), asn1.BER.tlv(0xA0, asn1.octets(b"ab")), asn1.null())
    root = der.read(data)
    first, second, third = root.children()
    assert (root.start, root.content, root.end, root.after) == (0, 2, len(data), len(data))
    assert [node.tag for node in (first, second, third)] == [2, 0xA0, 5]
    assert second.is_indefinite
    assert not root.is_indefinite
    assert second.raw == b"\xa0\x80\x04\x02ab\x00\x00"
    assert second.value == b"\x04\x02ab"
    assert second.after == second.end + 2 == third.start
    assert root.raw == data
    assert first.children() == []


def test_expect_and_fields() -> None:
    root = der.read(asn1.seq(asn1.integer(5), asn1.null()))
    assert root.expect(der.SEQUENCE, "it") is root
    assert [node.tag for node in root.fields(der.SEQUENCE, 2, "it")] == [2, 5]
    with pytest.raises(DecodeError, match=r"it has tag 0x30 \(at byte 0\)"):
        root.expect(der.SET, "it")
    with pytest.raises(DecodeError, match="it has tag 0x30"):
        root.fields(der.SET, 0, "it")
    with pytest.raises(DecodeError, match="it is too short"):
        root.fields(der.SEQUENCE, 3, "it")
    with pytest.raises(DecodeError, match="it has tag 0x05"):
        root.children()[1].integer("it")


@pytest.mark.parametrize("wrong", [
    asn1.integer(1), asn1.octets(b"x"), asn1.tlv(0x80, b"x"), asn1.seq(), asn1.tlv(0x19, b"x"),
    asn1.tlv(0x1B, b"x"), asn1.tlv(0x33, asn1.text("x")), asn1.tlv(0x2C, asn1.text("x", 0x0C)),
])
def test_what_is_no_string(wrong: bytes) -> None:
    with pytest.raises(DecodeError, match="it is not a string"):
        der.read(wrong).text("it")


@pytest.mark.parametrize(("tag", "content"), [
    (der.UTF8_STRING, b"\xff"), (der.UTF8_STRING, b"\xed\xa0\x80"),
    (der.PRINTABLE_STRING, b"\x80"), (der.IA5_STRING, b"\xe4"), (der.BMP_STRING, b"a"),
    (der.BMP_STRING, b"\xd8\x00"), (der.UNIVERSAL_STRING, b"\x00\x11\x00\x00"),
    (der.UNIVERSAL_STRING, b"abc"),
])
def test_a_string_outside_its_type(tag: int, content: bytes) -> None:
    with pytest.raises(DecodeError, match="outside its type"):
        der.read(asn1.tlv(tag, content)).text("it")


def pieces(*parts: bytes, tag: int = 0x24) -> bytes:
    return asn1.tlv(tag, *parts)


@pytest.mark.parametrize("encoded", [
    asn1.octets(b"abcd"),
    pieces(asn1.octets(b"ab"), asn1.octets(b"cd")),
    pieces(asn1.octets(b""), asn1.octets(b"abcd")),
    pieces(pieces(asn1.octets(b"ab")), asn1.octets(b"c"), pieces(pieces(asn1.octets(b"d")))),
    asn1.Style(indefinite=True, chunk=1).octets(b"abcd"),
])
def test_octets_in_pieces(encoded: bytes) -> None:
    node = der.read(encoded)
    assert node.octets("it") == b"abcd"
    assert der.reencode(node) == asn1.octets(b"abcd")


def test_octets_under_an_implicit_tag() -> None:
    assert der.read(b"\x80\x02ab").octets("it", tag=0x80) == b"ab"
    assert der.read(pieces(asn1.octets(b"ab"), tag=0xA0)).octets("it", tag=0x80) == b"ab"
    with pytest.raises(DecodeError, match="it has tag"):
        der.read(asn1.octets(b"ab")).octets("it", tag=0x80)


@pytest.mark.parametrize("encoded", [
    pieces(asn1.integer(1)),
    pieces(asn1.octets(b"ab"), asn1.tlv(0x80, b"cd")),
    pieces(pieces(pieces(pieces(pieces(asn1.octets(b"ab")))))),
])
def test_pieces_that_are_refused(encoded: bytes) -> None:
    with pytest.raises(DecodeError, match="it has a bad segment"):
        der.read(encoded).octets("it")


def test_pieces_four_deep() -> None:
    assert der.read(pieces(pieces(pieces(pieces(asn1.octets(b"ab")))))).octets("it") == b"ab"


@pytest.mark.parametrize(("data", "starts"), [
    ("", []), ("0500", [0]), ("0500 020101 30020500", [0, 2, 5]), ("048103616263 0500", [0, 6])])
def test_split(data: str, starts: list[int]) -> None:
    encoded = bytes.fromhex(data)
    nodes = der.split(encoded, 0, len(encoded))
    assert nodes is not None
    assert [node.start for node in nodes] == starts
    assert b"".join(node.raw for node in nodes) == encoded


@pytest.mark.parametrize("data", [
    "05", "0500 05", "30800000", "0402 61", "0481", "0485000000000161", "0500 0401"])
def test_what_split_leaves_to_the_general_reader(data: str) -> None:
    encoded = bytes.fromhex(data)
    assert der.split(encoded, 0, len(encoded)) is None
    # what stands behind the end does not count
    assert der.split(encoded + bytes(9), 0, len(encoded)) is None


@pytest.mark.parametrize("style", [asn1.DER, asn1.BER, asn1.BOUNCY_CASTLE, asn1.Style(pad=2)])
def test_reencode(style: asn1.Style) -> None:
    def build(style: asn1.Style) -> bytes:
        return style.seq(asn1.integer(7), style.set(style.octets(bytes(2500)), asn1.null()),
                         style.tlv(0xA0, style.seq()), asn1.tlv(0x81, b"x"))

    assert der.reencode(der.read(build(style))) == build(asn1.DER)


@pytest.mark.parametrize("read", [
    lambda node: node.integer("it"), lambda node: node.octets("it"), lambda node: node.text("it"),
    lambda node: node.time("it"), lambda node: node.fields(der.SEQUENCE, 1, "it"), der.reencode,
], ids=["integer", "octets", "text", "time", "fields", "reencode"])
@given(tag=st.sampled_from([*range(1, 31), 0x24, 0x30, 0x31, 0x80, 0xA0]),
       content=st.binary(max_size=20) | st.sampled_from([asn1.null(), asn1.octets(b"a")]))
def test_readers_raise_nothing_but_decode_error(
    read: Callable[[der.Node], Any], tag: int, content: bytes
) -> None:
    try:
        read(der.read(asn1.tlv(tag, content)))
    except DecodeError as error:
        assert error.fail_info.rfc_name == "badRequest"
