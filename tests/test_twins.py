"""codec: native code and Python give the same value or the same refusal, with every kernel."""

from __future__ import annotations

import base64
import os
import random
import secrets
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from pyscep import codec
from pyscep.cms.algorithms import LEGACY
from pyscep.cms.enveloped_data import decrypt, read_enveloped_data
from pyscep.codec import _pure, _pure_shapes
from pyscep.codec._reasons import REASONS, Fault
from pyscep.codec.shapes import ShapeBuilder
from pyscep.errors import DecodeError, ProtocolError
from tests import corpus, twins
from tests import forge_tlv as asn1

MUTANTS = int(os.environ.get("PYSCEP_TWIN_MUTANTS", "100000"))
"""`make twins` runs more."""

pytestmark = pytest.mark.skipif(codec._native is None, reason="the native back end is not in use")


@pytest.fixture
def both() -> Iterator[twins.Twins]:
    comparison = twins.Twins()
    yield comparison
    comparison.close()


def test_every_kernel_of_this_machine_takes_part() -> None:
    assert "scalar" in twins.kernels()
    assert codec.KERNEL in twins.kernels()
    for name in twins.kernels():
        with twins.kernel(name) as native:
            assert native.decode_message(b"QQ%3D%3D") == b"A"


# --- captured messages ------------------------------------------------------------------


def messages() -> Iterator[bytes]:
    """Bodies, query texts, and what the envelopes carry: both layers."""
    for exchange in corpus.exchanges():
        for side in ("request", "response"):
            http = exchange.http(side)
            yield http.body
            _, _, query = http.start.split(b" ")[1].partition(b"?")
            yield query.rpartition(b"message=")[2]
    for path in sorted(corpus.CORPUS.rglob("*")):
        if path.is_file():
            yield path.read_bytes()


def test_captured_messages(both: twins.Twins) -> None:
    for data in set(messages()):
        both.file(data)
        decoded = twins.outcome(_pure.decode_message, data)
        for message in (data, decoded) if isinstance(decoded, bytes) else (data,):
            both.file(message)
            for octets in twins.nested(message):
                both.file(octets)
    assert both.counts["matched"] > 100
    assert both.counts["attributes"] > 100


def test_what_captured_envelopes_carry(both: twins.Twins) -> None:
    opened = 0
    for data in set(messages()):
        decoded = twins.outcome(_pure.decode_message, data)
        for octets in twins.nested(decoded if isinstance(decoded, bytes) else data):
            try:
                envelope = read_enveloped_data(octets)
                plain = decrypt(envelope, corpus.server_identities(), LEGACY,
                                token_bytes=secrets.token_bytes).plaintext
            except ProtocolError:
                continue
            opened += 1
            both.file(plain)
    assert opened > 20


# --- edges of the query decoder ---------------------------------------------------------


@pytest.mark.parametrize("piece", [
    b"%2B", b"%2f", b"%3D", b"=", b"==", b"===", b"%252B", b"%25", b"%", b"%4", b"%zz", b"%%",
    b"\n", b"%0A", b" ", b"-", b"_", b"!", b"%80", b"\x80", b"%00", b"%2%", b"%25252B",
    b"%0A%0D%09\n", b"%2B" * 7,
    b"%2B" * 9, b"%2B%252B", b"%41" * 30, b"%4g"])
def test_a_piece_at_every_place(both: twins.Twins, piece: bytes) -> None:
    for size in (0, 1, 2, 3, 4, 8, 13, 34, 66, 150, 200):
        plain = base64.b64encode(bytes(range(256)) * 2)[:size]
        for at in {*range(min(size + 1, 20)), *range(max(0, size - 70), size + 1)}:
            both.query(plain[:at] + piece + plain[at:])
            both.query(plain[:at] + piece + plain[at:-1] + piece)


def test_every_byte_at_every_place_of_a_block(both: twins.Twins) -> None:
    for byte in range(256):
        for at in (0, 3, 31, 32, 63, 64, 65, 127, 128, 129):
            text = bytearray(b"QUJD" * 40)
            text[at] = byte
            both.query(bytes(text))
            both.query(b"QUJD" * 40 + b"%%%02x" % byte)


def test_every_size(both: twins.Twins) -> None:
    chance = random.Random(3)
    for size in (*range(1, 200), 1000, 1001, 1002, 48_000):
        data = chance.randbytes(size)
        text = base64.b64encode(data)
        both.encoding(data)
        for one in (text, quote(text, safe="").encode(), text.rstrip(b"="), text.hex("%").encode(),
                    b"%" + text.hex("%").encode(), text + b"\r\n",
                    text.replace(b"+", b"-").replace(b"/", b"_")):
            both.query(one)
        both.encoding(b"\xff" * size)
        both.encoding(b"\xfb\xef\xbe" * size)
    both.encoding(b"")


def test_percent_decode_is_one_function() -> None:
    assert codec.percent_decode is _pure.percent_decode


# --- edges of DER and BER ----------------------------------------------------------------


@pytest.mark.parametrize("data", [
    "", "30", "3000", "30800000", "3080", "308000", "30800001", "30020000", "0000", "3084ffffffff",
    "30850000000000", "30ff", "1f0100", "0900", "2200", "010200ff", "050100", "030108", "0300",
    "0200", "0600", "060180", "0500ff", "04800000", "3083ffff", "308103020101",
    "3084000000 03 020101", "3080 30803080 0000 0000 0000", "3007 30800000 020101", "0101ff",
    "240404020102"])
def test_forms_and_faults(both: twins.Twins, data: str) -> None:
    octets = bytes.fromhex(data)
    for leaf_depth in (0, 1, 25):
        for max_nodes in (0, 1, 2, 100):
            for max_depth in (0, 1, 24):
                both.der(octets, leaf_depth=leaf_depth, max_nodes=max_nodes, max_depth=max_depth,
                         max_trailing=len(data) % 3)
    for cut in range(len(octets)):
        both.der(octets[:cut])


def test_every_tag(both: twins.Twins) -> None:
    for tag in range(256):
        for rest in (b"\x00", b"\x01\x00", b"\x01\x05", b"\x80\x00\x00", b"\x81\x01\x00"):
            both.der(bytes([tag]) + rest)
            both.der(b"\x30\x80" + bytes([tag]) + rest + b"\x00\x00")


@pytest.mark.parametrize("content", [
    b"\x2a" * 64, b"\x2a" * 65, b"\x2a" + b"\xff" * 18 + b"\x7f", b"\x2a" + b"\xff" * 19 + b"\x7f",
    b"\xff" * 19 + b"\x7f" + b"\x2a"])
def test_object_identifiers(both: twins.Twins, content: bytes) -> None:
    both.der(asn1.tlv(6, content))


@pytest.mark.parametrize("data", [
    b"\x30\x80" * 100_000, asn1.seq(asn1.null() * 9_999), asn1.seq(asn1.null() * 10_000),
    asn1.seq(asn1.null() * 600), asn1.tlv(2, b"\x7f" * 2049), asn1.tlv(2, b"\x7f" * 2050),
    b"\x30\x84\xff\xff\xff\xff" * 1000, b"\x30\x83\x01\x00\x00" + b"\x30\x80" * 20_000,
], ids=["deep", "many", "too many", "some", "integer", "long integer", "overrun", "nested"])
def test_large_input(both: twins.Twins, data: bytes) -> None:
    both.der(data)
    both.query(data)


# --- shapes and attributes ----------------------------------------------------------------


def every_instruction() -> bytes:
    builder = ShapeBuilder().take_open(0x30, "all").same(b"\x05\x00").take_any("any").pass_over()
    builder.open(0x31).leave().take_optional(0xA0, "some").take_few(0xA1, "few", 2)
    builder.take(4, "octets")
    return builder.close().build().program


def test_every_instruction_of_a_shape(both: twins.Twins) -> None:
    program = every_instruction()
    parts = [b"\x05\x00", b"\x02\x01\x07", b"\x04\x02ab", b"\x31\x03\x01\x01\xff",
             b"\xa0\x02\x05\x00", b"\xa1\x04\x05\x00\x05\x00", b"\x04\x81\x01x"]
    whole = asn1.seq(*parts)
    assert _pure_shapes.match(whole, program, 5)
    texts = [whole, asn1.seq(*parts[:4], *parts[5:]), asn1.seq(*parts, b"\x05\x00"),
             whole + b"\x05\x00", asn1.seq(*parts[:5])]
    texts += [asn1.seq(*parts[:at], *parts[at + 1:]) for at in range(7)]
    texts += [asn1.seq(*parts[:5], asn1.tlv(0xA1, inside), parts[6])
              for inside in (b"", asn1.null(), asn1.null() * 3, b"\x30\x80\x00\x00")]
    texts += [whole[:at] for at in range(len(whole))]
    texts += [whole[:at] + bytes([byte]) + whole[at + 1:]
              for at in range(len(whole))
              for byte in (0, 5, 0x30, 0x7F, 0x80, 0x81, 0x84, 0x85, 0xFF)]
    for data in texts:
        for cut in (program, program[:-1], program + b"\x63"):
            found = _pure_shapes.match(data, cut, 5) if cut[-1] != 0x63 else None
            twins.same(found, both.match(data, cut, 5), "match", data)


@pytest.mark.parametrize("operation", [b"\x01\x30", b"\x09\x30\x00"])
def test_a_shape_has_sixteen_values_open_at_most(both: twins.Twins, operation: bytes) -> None:
    for depth in (15, 16, 17):
        data = b""
        for _ in range(depth):
            data = asn1.seq(data)
        program = operation * depth + b"\x02" * depth
        found = _pure_shapes.match(data, program, 1)
        assert (found is not None) == (depth <= 16)
        twins.same(found, both.match(data, program, 1), "match", data)


def test_attributes(both: twins.Twins) -> None:
    one = asn1.seq(asn1.oid("2.5.4.3"), asn1.tlv(0x31, asn1.null()))
    texts = [b"", one, one * 64, one * 65, one + b"\x05\x00",
             asn1.seq(asn1.oid("2.5.4.3"), asn1.tlv(0x31)),
             asn1.seq(asn1.oid("2.5.4.3"), asn1.tlv(0x31, asn1.null(), asn1.null())),
             asn1.seq(asn1.oid("2.5.4.3"), asn1.tlv(0x30, asn1.null())),
             asn1.seq(asn1.oid("2.5.4.3"), asn1.tlv(0x31, asn1.null()), asn1.null()),
             asn1.seq(asn1.null(), asn1.tlv(0x31, asn1.null())),
             asn1.seq(asn1.oid("2.5.4.3")), asn1.seq(), b"\x30\x80\x00\x00"]
    texts += [one[:at] for at in range(len(one))]
    texts += [one[:at] + bytes([byte]) + one[at + 1:]
              for at in range(len(one)) for byte in (0, 1, 0x30, 0x31, 0x80, 0x81, 0x85, 0xFF)]
    for data in texts:
        both.attributes_at(data, 0, len(data))
        both.attributes_at(b"\x30\x00" + data + b"\x30\x00", 2, 2 + len(data))
    assert both.counts["attributes"]


# --- serial numbers -----------------------------------------------------------------------


def test_serials(both: twins.Twins) -> None:
    entries = [asn1.seq(asn1.integer(number), asn1.tlv(0x17, b"250101000000Z"))
               for number in (1, 127, 128, 70_000)]
    texts = [b"".join(entries), b"", entries[0] + b"\x05\x00", asn1.seq(), asn1.seq(asn1.null()),
             b"\x30\x80\x00\x00", b"\x30\x85\x00\x00\x00\x00\x01", b"\x30\x82\x01", b"\x30",
             b"\x30\x81\x03\x02\x01\x01", b"\x30\x03\x02\x80\x00", b"\x30\x02\x02\x05",
             b"\x30\x01\x02", b"\x30\x02\x02\x00", b"\x30\x03\x02\x82\x01",
             b"\x30\x05\x02\x85\x00\x00\x00", b"\x30\x09\x00"]
    texts += [texts[0][:at] for at in range(len(texts[0]))]
    for data in texts:
        for serial in (b"\x01", b"\x7f", b"\x00\x80", b"\x01\x11\x70", b"\x02\x11\x70", b"\x05",
                       b""):
            both.serial(data, 0, len(data), serial)
            both.serial(b"ab" + data + b"\x30\x00", 2, 2 + len(data), serial)
    assert both.counts["serial found"]


def entry(serial: bytes, extension: bytes = b"") -> bytes:
    return asn1.seq(asn1.tlv(2, serial), asn1.tlv(0x17, b"250101000000Z"), extension)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 16, 20])
def test_a_serial_anywhere_among_entries_that_are_alike(both: twins.Twins, size: int) -> None:
    """Entries of one form are passed over four at a time: not the one that is looked for."""
    chance = random.Random(size)
    for count in (1, 2, 5, 9, 24):
        numbers = [chance.randbytes(size) for _ in range(count)]
        data = b"".join(map(entry, numbers))
        for number in numbers:
            both.serial(data, 0, len(data), number)
            # Only the end is that of an entry, or only the size.
            both.serial(data, 0, len(data), bytes((number[0] ^ 1,)) + number[1:] if size else b"x")
            both.serial(data, 0, len(data), number + b"x")
        for cut in range(len(data) - len(data) // count, len(data)):
            both.serial(data, 0, cut, b"\x05" * 16)
    assert both.counts["serial found"] >= 41


@pytest.mark.parametrize("odd", [
    entry(b"\x07" * 15), entry(b"\x07" * 16, b"\x05\x00"), entry(b"\x07" * 16, bytes(100)),
    entry(b"\x07" * 127), b"\x30\x81\x12" + entry(b"\x07" * 16)[2:-15], b"\x30\x00",
    b"\x31\x02\x05\x00", b"\x30\x03\x02\x81\x00", b"\x30\x7f\x02\x7e",
    b"\x30\x04\x02\x03\x01\x01"],
    ids=["shorter", "with an extension", "long", "long number", "long form", "empty", "no sequence",
         "long form of nothing", "overrun", "number overrun"])
def test_an_odd_entry_anywhere_among_others_that_are_alike(both: twins.Twins, odd: bytes) -> None:
    chance = random.Random(len(odd))
    numbers = [chance.randbytes(16) for _ in range(60)]
    entries = list(map(entry, numbers))
    for at in range(40):
        data = b"".join((*entries[:at], odd, *entries[at:]))
        for number in (numbers[at], numbers[at - 1], numbers[-1], b"\x07" * 16, b"\x07" * 127, b""):
            both.serial(data, 0, len(data), number)


def test_a_serial_behind_many_entries_of_two_kinds(both: twins.Twins) -> None:
    """Where runs are short they are looked for ever less often, and found again."""
    chance = random.Random(7)
    kinds = (b"", b"\x05\x00")
    numbers = [chance.randbytes(16) for _ in range(2000)]
    entries = [entry(one, kinds[at % 2 if at < 1500 else 0]) for at, one in enumerate(numbers)]
    data = b"".join(entries)
    for number in (*numbers[::97], numbers[-1], b"absent"):
        both.serial(data, 0, len(data), number)
    assert both.counts["serial found"] == 22
    for at in (999, 1700, 1999):
        damaged = b"".join((*entries[:at], b"\x30\x01", *entries[at:]))
        both.serial(damaged, 0, len(damaged), b"absent")


# --- mutants ------------------------------------------------------------------------------


@pytest.mark.slow
def test_mutants() -> None:
    counts = twins.run(MUTANTS, seed=5652)
    for what in ("query accepted", "query refused", "index accepted", "index refused", "matched"):
        assert counts[what] > MUTANTS / 100, counts


# --- the wrapper --------------------------------------------------------------------------


def test_buffers_that_are_too_small_are_refused_before_they_are_written() -> None:
    with twins.kernel("scalar") as native:
        buffer = native.ffi.new("uint8_t[]", 100)
        results = (native.lib.pyscep_decode_message(b"AAAA", 4, buffer, 4),
                   native.lib.pyscep_encode_message(b"AAA", 3, buffer, 4))
    for result in results:
        assert -result >> 48 == Fault.EMPTY
        assert bytes(native.ffi.buffer(buffer)) == bytes(100)


def test_a_kernel_that_is_not_there_is_refused() -> None:
    with twins.kernel("scalar") as native:
        assert native.lib.pyscep_use_kernel(99) == -1
        assert native.lib.pyscep_kernel_available(99) == 0


def test_depth_beyond_the_stack_of_c_is_refused() -> None:
    with twins.kernel("scalar") as native, pytest.raises(DecodeError) as caught:
        native.index(b"\x05\x00", **(twins.WHOLE | {"max_depth": 65}))
    assert caught.value.reason == REASONS[Fault.TOO_DEEP]


def test_depth_beyond_the_stack_of_c_is_refused_with_a_shape() -> None:
    with twins.kernel("scalar") as native:
        program = ShapeBuilder().take_any("whole").build().program
        read = native.reader(program, 1, max_depth=65, max_nodes=10)
        with pytest.raises(DecodeError) as caught:
            read(b"\x30\x80" * 100, 0)
    assert caught.value.reason == REASONS[Fault.TOO_DEEP]


def test_four_gigabytes_are_refused_before_they_are_read() -> None:
    with twins.kernel("scalar") as native:
        null = native.ffi.NULL
        assert native.lib.pyscep_index(b"\x05\x00", 1 << 32, null, 10, 25, 24, 0) == -(12 << 48)
        shape = native.ffi.new("struct pyscep_shape *", (0, 10, 24, 0, b""))
        assert native.lib.pyscep_read(b"\x05\x00", 1 << 32, 0, shape, null) == -(12 << 48)
