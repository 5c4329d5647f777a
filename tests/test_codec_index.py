"""codec.index: bounds, forms of BER, and the table, against a slow reference and asn1crypto."""

from __future__ import annotations

import platform
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
from asn1crypto import parser as asn1crypto_parser
from hypothesis import given
from hypothesis import strategies as st

from pyscep import codec
from pyscep.codec import MAX_DEPTH, MAX_NODES
from pyscep.codec._reasons import REASONS, Fault
from pyscep.codec.shapes import ShapeBuilder
from pyscep.errors import DecodeError
from tests import forge
from tests import forge_keys as keys
from tests import forge_tlv as asn1

PRIMITIVE = {1, 2, 3, 4, 5, 6, 10, 12, *range(18, 31)}
CONSTRUCTED = {3, 4, 12, *range(16, 31)}


def index(data: bytes, **bounds: int) -> list[int]:
    shape = {"leaf_depth": MAX_DEPTH + 1, "max_depth": MAX_DEPTH, "max_nodes": MAX_NODES,
             "max_trailing": 0} | bounds
    return list(codec.index(data, **shape))


class Refused(Exception):
    """With the offset of the value at fault."""


def reference(data: bytes, **bounds: int) -> list[int]:
    """The rules of index, recursively and without regard for speed."""
    shape = {"leaf_depth": MAX_DEPTH + 1, "max_depth": MAX_DEPTH, "max_nodes": MAX_NODES,
             "max_trailing": 0} | bounds
    rows: list[list[int]] = []

    def value(at: int, limit: int, depth: int) -> int:
        """Read the value at `at`; where it ends."""
        start = at
        if at + 2 > limit:
            raise Refused(start)
        tag, length = data[at], data[at + 1]
        at += 2
        allowed = CONSTRUCTED if tag & 0x20 else PRIMITIVE
        if tag & 0x1F == 0x1F or (tag < 0x40 and tag & 0x1F not in allowed):
            raise Refused(start)
        if len(rows) == shape["max_nodes"] or depth > shape["max_depth"]:
            raise Refused(start)
        row = [start, 0, 0, 0]
        if length == 0x80:
            if not tag & 0x20:
                raise Refused(start)
            rows.append(row)
            row[1] = at
            while data[at:min(at + 2, limit)] != b"\x00\x00":
                if data[at:at + 1] == b"\x00" and at + 2 <= limit:
                    raise Refused(at)
                at = value(at, limit, depth + 1)
            row[2:] = [at, len(rows)]
            return at + 2
        if length > 0x80:
            octets = data[at:min(at + length - 0x80, limit)]
            if length > 0x84 or len(octets) < length - 0x80:
                raise Refused(start)
            at += len(octets)
            length = int.from_bytes(octets, "big")
        end = at + length
        if end > limit or not sane(tag, data[at:end]):
            raise Refused(start)
        rows.append(row)
        row[1:3] = [at, end]
        if tag & 0x20 and depth < shape["leaf_depth"]:
            while at < end:
                at = value(at, end, depth + 1)
        row[3] = len(rows)
        return end

    def sane(tag: int, content: bytes) -> bool:
        if tag == 1:
            return len(content) == 1
        if tag == 2:
            return 1 <= len(content) <= 2049
        if tag == 3:
            return bool(content) and content[0] <= 7
        if tag == 5:
            return not content
        if tag == 6:
            arcs = "".join("x" if byte & 0x80 else "." for byte in content).split(".")
            return (1 <= len(content) <= 64 and content[-1] < 0x80
                    and all(len(arc) < 19 for arc in arcs))
        return True

    if not data:
        raise Refused(0)
    end = value(0, len(data), 0)
    if len(data) - end > shape["max_trailing"]:
        raise Refused(end)
    return [number for row in rows for number in row]


READERS = (
    ShapeBuilder().take_any("whole").build(),
    ShapeBuilder().open(0x30).leave().build(),
    ShapeBuilder().take_open(0x30, "whole").take_optional(0x02, "number").pass_over().pass_over()
    .close().build(),
)


def agrees(data: bytes, **bounds: int) -> None:
    try:
        expected = reference(data, **bounds)
    except Refused as refusal:
        with pytest.raises(DecodeError) as caught:
            index(data, **bounds)
        assert caught.value.offset == refusal.args[0]
    else:
        assert index(data, **bounds) == expected
    depth = bounds.get("max_depth", MAX_DEPTH)
    nodes = bounds.get("max_nodes", MAX_NODES)
    trailing = bounds.get("max_trailing", 0)
    fault = fault_of(lambda: index(data, leaf_depth=depth + 1, max_depth=depth, max_nodes=nodes,
                                   max_trailing=trailing))
    # a reader refuses what index() refuses, whatever the shape
    for shape in READERS:
        read = codec.reader(shape.program, len(shape.names), max_depth=depth, max_nodes=nodes)
        assert fault_of(lambda read=read: read(data, trailing)) == fault


def fault_of(work: Callable[[], Any]) -> tuple[str, int | None] | None:
    try:
        work()
    except DecodeError as error:
        return error.reason, error.offset
    return None


def refuses(data: bytes, fault: Fault, offset: int = 0, **bounds: int) -> None:
    agrees(data, **bounds)
    with pytest.raises(DecodeError) as caught:
        index(data, **bounds)
    assert (caught.value.reason, caught.value.offset) == (REASONS[fault], offset)


def accepts(data: bytes, **bounds: int) -> list[int]:
    agrees(data, **bounds)
    return index(data, **bounds)


# --- the table against asn1crypto ------------------------------------------------------


def asn1crypto_rows(data: bytes, base: int = 0) -> list[tuple[int, int, int]]:
    """Start, content and end of each value; the definite forms only."""
    rows, at = [], 0
    while at < len(data):
        _, method, _, header, content, trailer = asn1crypto_parser.parse(data[at:], strict=False)
        start = base + at + len(header)
        rows.append((base + at, start, start + len(content)))
        if method:
            rows += asn1crypto_rows(content, start)
        at += len(header) + len(content) + len(trailer)
    return rows


def real_values() -> dict[str, bytes]:
    message = forge.pkcs_req(keys.ca())
    return {
        "PKCSReq": message.build(),
        "PKCSReq in BER": message.but(style=asn1.BER).build(),
        "PKCSReq in pieces": message.but(style=asn1.BOUNCY_CASTLE).build(),
        "PKCSReq with long lengths": message.but(style=asn1.Style(pad=1)).build(),
        "envelope": message.octets,
        "CA certificate": keys.ca().der,
        "CSR": keys.csr(keys.rsa_key("client"), challenge="secret"),
        "CRL": keys.crl(keys.ca(), *range(1, 60)),
        "certificates-only": forge.certs_only((keys.ca().der, keys.ra().der)),
    }


@pytest.mark.parametrize("name", real_values())
def test_real_values_have_asn1cryptos_offsets(name: str) -> None:
    data = real_values()[name]
    table = accepts(data)
    rows = [tuple(table[at:at + 3]) for at in range(0, len(table), 4)]
    assert rows == asn1crypto_rows(data)
    for start, content, end in rows:
        indefinite = data[start + 1] == 0x80
        cls, method, tag, _, value, _ = asn1crypto_parser.parse(
            data[start:end + 2 * indefinite], strict=True)
        assert (cls << 6 | method << 5 | tag, value) == (data[start], data[content:end])


@pytest.mark.parametrize("name", real_values())
@pytest.mark.parametrize("leaf_depth", [0, 1, 2, 4])
def test_what_lies_deeper_than_leaf_depth_is_not_entered(name: str, leaf_depth: int) -> None:
    data = real_values()[name]
    everything, some = accepts(data), accepts(data, leaf_depth=leaf_depth)
    assert {tuple(some[at:at + 3]) for at in range(0, len(some), 4)} <= {
        tuple(everything[at:at + 3]) for at in range(0, len(everything), 4)}
    assert len(some) < len(everything)


def test_a_crl_of_many_entries_costs_no_more_than_its_head() -> None:
    few, many = (len(accepts(keys.crl(keys.ca(), *range(1, count)), leaf_depth=2))
                 for count in (3, 5_000))
    assert few == many


# --- forms of BER ----------------------------------------------------------------------


@pytest.mark.parametrize(("data", "rows"), [
    ("3000", [0, 2, 2, 1]),
    ("30800000", [0, 2, 2, 1]),
    ("3003020101", [0, 2, 5, 2, 2, 4, 5, 2]),
    ("3080020101 0000", [0, 2, 5, 2, 2, 4, 5, 2]),
    # indefinite within definite, at its end and not
    ("3004 30800000", [0, 2, 6, 2, 2, 4, 4, 2]),
    ("3007 30800000 020101", [0, 2, 9, 3, 2, 4, 4, 2, 6, 8, 9, 3]),
    # definite within indefinite
    ("3080 3003020101 0000", [0, 2, 7, 3, 2, 4, 7, 3, 4, 6, 7, 3]),
    ("3080 3000 0000", [0, 2, 4, 2, 2, 4, 4, 2]),
    ("3080 30803080 0000 0000 0000", [0, 2, 10, 3, 2, 4, 8, 3, 4, 6, 6, 3]),
    # two indefinite ones in a row
    ("3008 30800000 30800000", [0, 2, 10, 3, 2, 4, 4, 2, 6, 8, 8, 3]),
    # lengths that are longer than they need to be
    ("308103020101", [0, 3, 6, 2, 3, 5, 6, 2]),
    ("3084000000 03 020101", [0, 6, 9, 2, 6, 8, 9, 2]),
])
def test_forms(data: str, rows: list[int]) -> None:
    assert accepts(bytes.fromhex(data)) == rows


@pytest.mark.parametrize(("data", "fault", "offset"), [
    ("", Fault.EMPTY, 0),
    ("30", Fault.TRUNCATED, 0),
    ("3001", Fault.OVERRUN, 0),
    ("300130", Fault.TRUNCATED, 2),
    ("3080", Fault.TRUNCATED, 2),
    ("308000", Fault.TRUNCATED, 2),
    ("3080020101", Fault.TRUNCATED, 5),
    ("30800001", Fault.BAD_TAG, 2),
    ("30020000", Fault.STRAY_END, 2),
    ("0000", Fault.STRAY_END, 0),
    ("3080 30020000 0000", Fault.STRAY_END, 4),
    ("3006 30800201 0100", Fault.TRUNCATED, 7),
    ("0480000000", Fault.PRIMITIVE_INDEFINITE, 0),
    ("8080000000", Fault.PRIMITIVE_INDEFINITE, 0),
    ("3083ffff", Fault.TRUNCATED, 0),
    ("308200", Fault.TRUNCATED, 0),
    ("30850000000000", Fault.LENGTH_OCTETS, 0),
    ("30ff", Fault.LENGTH_OCTETS, 0),
    ("3084ffffffff", Fault.OVERRUN, 0),
    ("30847fffffff0000", Fault.OVERRUN, 0),
    ("3003020201", Fault.OVERRUN, 2),
    ("3005020101 0000", Fault.STRAY_END, 5),
    ("1f0100", Fault.LONG_TAG, 0),
    ("bf8100", Fault.LONG_TAG, 0),
    ("0900", Fault.BAD_TAG, 0),
    ("1000", Fault.BAD_TAG, 0),
    ("1100", Fault.BAD_TAG, 0),
    ("2200", Fault.BAD_TAG, 0),
    ("2000", Fault.BAD_TAG, 0),
    ("010200ff", Fault.BAD_PRIMITIVE, 0),
    ("0100", Fault.BAD_PRIMITIVE, 0),
    ("050100", Fault.BAD_PRIMITIVE, 0),
    ("0300", Fault.BAD_PRIMITIVE, 0),
    ("030108", Fault.BAD_PRIMITIVE, 0),
    ("0200", Fault.BAD_INTEGER, 0),
    ("0600", Fault.BAD_OID, 0),
    ("060180", Fault.BAD_OID, 0),
    ("06022a80", Fault.BAD_OID, 0),
    ("0500ff", Fault.TRAILING, 2),
])
def test_faults(data: str, fault: Fault, offset: int) -> None:
    refuses(bytes.fromhex(data), fault, offset)


@pytest.mark.parametrize("data", [
    "0101ff", "010100", "0500", "030100", "030107", "0400", "8000", "a000", "c000", "1e00", "1300",
    "2400", "240404020102", "2300", "3c00", "0a0101", "0c00", "1200", "0603551d0e", "06012a",
])
def test_values_that_are_fine(data: str) -> None:
    assert len(accepts(bytes.fromhex(data))) >= 4


# --- bounds ----------------------------------------------------------------------------


def nested(depth: int, *, indefinite: bool = False) -> bytes:
    """`depth` containers around a NULL, which stands at that depth."""
    data = asn1.null()
    for _ in range(depth):
        data = asn1.Style(indefinite=indefinite).seq(data)
    return data


@pytest.mark.parametrize("indefinite", [False, True])
def test_depth(indefinite: bool) -> None:
    assert len(accepts(nested(24, indefinite=indefinite))) == 4 * 25
    with pytest.raises(DecodeError, match="too deep"):
        index(nested(25, indefinite=indefinite))
    agrees(nested(25, indefinite=indefinite))
    with pytest.raises(DecodeError, match="too deep"):
        index(b"\x30\x80" * 100_000)


def test_nodes() -> None:
    assert len(index(asn1.seq(asn1.null() * 9_999))) == 4 * 10_000
    with pytest.raises(DecodeError, match="too many") as caught:
        index(asn1.seq(asn1.null() * 10_000))
    assert caught.value.offset == 4 + 2 * 9_999
    refuses(asn1.seq(asn1.null() * 3), Fault.TOO_MANY_NODES, 6, max_nodes=3)
    accepts(asn1.seq(asn1.null() * 3), max_nodes=4)


def test_integers() -> None:
    accepts(asn1.tlv(2, b"\x7f" * 2049))
    refuses(asn1.tlv(2, b"\x7f" * 2050), Fault.BAD_INTEGER)


@pytest.mark.parametrize(("content", "sound"), [
    (b"\x2a" * 64, True), (b"\x2a" * 65, False),
    (b"\x2a" + b"\xff" * 18 + b"\x7f", True), (b"\x2a" + b"\xff" * 19 + b"\x7f", False),
    (b"\xff" * 18 + b"\x7f" + b"\x2a", True), (b"\xff" * 19 + b"\x7f" + b"\x2a", False),
    (b"\xff" * 18 + b"\x7f", True), (b"\xff" * 19 + b"\x7f", False),
    ((b"\xff" * 18 + b"\x7f") * 3, True),
])
def test_object_identifiers(content: bytes, sound: bool) -> None:
    data = asn1.tlv(6, content)
    if sound:
        accepts(data)
    else:
        refuses(data, Fault.BAD_OID)


@pytest.mark.parametrize("count", range(10))
def test_trailing_bytes(count: int) -> None:
    data = asn1.seq(asn1.integer(1))
    if count > 8:
        refuses(data + bytes(count), Fault.TRAILING, len(data), max_trailing=8)
    else:
        assert accepts(data + bytes(count), max_trailing=8) == index(data)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_length_octets(count: int) -> None:
    content = bytes(100)
    octets = bytes([0x80 | count]) + len(content).to_bytes(count, "big") if count else b"\x64"
    assert accepts(b"\x04" + octets + content) == [0, 2 + count, 102 + count, 1]


def test_every_tag_is_accepted_or_refused_as_the_reference_says() -> None:
    for tag in range(256):
        for rest in (b"\x00", b"\x01\x00", b"\x01\x05", b"\x80\x00\x00", b"\x81\x01\x00"):
            agrees(bytes([tag]) + rest)
            agrees(b"\x30\x80" + bytes([tag]) + rest + b"\x00\x00")


# --- shapes ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    "", "30", "3005", "30820500", "308200", "30850000000000", "308000000000", "31020500",
    "30030500", "30010500"])
def test_a_shape_never_looks_behind_the_end(data: str) -> None:
    shape = ShapeBuilder().open(0x30).take(0x05, "null").close().build()
    assert shape.match(bytes.fromhex("30020500")) == [(2, 4, 4)]
    assert shape.match(bytes.fromhex(data)) is None


@pytest.mark.parametrize("depth", [16, 17])
def test_a_shape_has_sixteen_values_open_at_most(depth: int) -> None:
    data, shape = b"", ShapeBuilder()
    for _ in range(depth):
        data, shape = asn1.seq(data), shape.open(0x30)
    for _ in range(depth):
        shape.close()
    assert (shape.build().match(data) is not None) == (depth == 16)


# --- any bytes -------------------------------------------------------------------------

_leaf = st.builds(
    asn1.tlv, st.sampled_from([1, 2, 3, 4, 5, 6, 0x0C, 0x13, 0x17, 0x80, 0x9E, 0x5E]),
    st.binary(max_size=6))
_style = st.builds(asn1.Style, indefinite=st.booleans(), pad=st.integers(0, 2))
_tree = st.recursive(_leaf, lambda inner: st.builds(
    lambda style, tag, parts: style.tlv(tag, *parts), _style,
    st.sampled_from([0x30, 0x31, 0xA0, 0xA3, 0x24, 0x7E]), st.lists(inner, max_size=4)),
    max_leaves=12)


@given(_tree, st.integers(0, 4), st.integers(0, 6), st.integers(0, 12), st.integers(0, 2))
def test_any_tree(data: bytes, leaf: int, depth: int, nodes: int, trailing: int) -> None:
    agrees(data)
    agrees(data + bytes(trailing), leaf_depth=leaf, max_depth=depth, max_nodes=nodes,
           max_trailing=1)


@given(st.binary(max_size=24))
def test_any_bytes(data: bytes) -> None:
    agrees(data)
    agrees(b"\x30\x80" + data)


def test_mutants_of_trees() -> None:
    random_source = random.Random(5652)
    alphabet = bytes.fromhex("30318024a0020506010403008180000000ff")
    for _ in range(6_000):
        data = bytes(random_source.choices(alphabet, k=random_source.randrange(1, 20)))
        agrees(data, leaf_depth=random_source.choice([1, 2, 25]),
               max_trailing=random_source.choice([0, 8]))


class Counting(bytes):
    """Bytes that count how often they are looked at."""

    looks = 0

    def __getitem__(self, key: Any) -> Any:
        Counting.looks += 1
        return super().__getitem__(key)


@pytest.mark.parametrize("make", [
    lambda count: asn1.seq(asn1.null() * count),
    lambda count: asn1.BER.seq(asn1.BER.seq() * count),
    lambda count: asn1.seq(b"".join(asn1.oid("1.2.840.113549.1.9.7") for _ in range(count))),
    lambda count: asn1.seq(asn1.seq(asn1.seq(asn1.integer(1))) * count),
], ids=["flat", "indefinite", "oids", "nested"])
def test_twice_the_values_is_twice_the_work(make: Any) -> None:
    if codec.BACKEND != "pure":
        pytest.skip("counts what the pure back end looks at")
    looks = []
    for count in (500, 1000, 2000):
        Counting.looks = 0
        index(Counting(make(count)))
        looks.append(Counting.looks)
    assert looks[2] - looks[1] == pytest.approx(2 * (looks[1] - looks[0]), rel=0.01)


@pytest.mark.parametrize(("wanted", "error"), [("c", ValueError), ("native", ImportError)])
def test_a_back_end_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, wanted: str, error: type[Exception]
) -> None:
    monkeypatch.setenv("PYSCEP_BACKEND", wanted)
    monkeypatch.delattr(codec, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "pyscep.codec._native", None)
    with pytest.raises(error):
        codec._native_back_end()


def test_the_back_end_without_a_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSCEP_BACKEND", raising=False)
    monkeypatch.delattr(codec, "_native", raising=False)
    monkeypatch.setitem(sys.modules, "pyscep.codec._native", None)
    assert codec._native_back_end() is None


@pytest.mark.parametrize(("wanted", "text"), [
    ("mmx", "it is one of"),
    ("avx2" if platform.machine() == "aarch64" else "neon", "this machine can't run it"),
])
def test_a_kernel_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, wanted: str, text: str
) -> None:
    native = pytest.importorskip(
        "pyscep.codec._native", reason="was not compiled", exc_type=ImportError)
    monkeypatch.setenv("PYSCEP_KERNEL", wanted)
    with pytest.raises(ValueError, match=text):
        native._choose_kernel()
