"""codec: the GET message value, against urllib, base64 and a slow reference of its rules."""

from __future__ import annotations

import base64
import itertools
import random
import re
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyscep import codec
from pyscep.codec._reasons import REASONS, Fault
from pyscep.errors import DecodeError

_HEX = b"0123456789abcdefABCDEF"
_VALUES = {letter: number for number, letter in enumerate(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")}
_VALUES |= {ord(" "): 62, ord("-"): 62, ord("_"): 63}
Refusal = tuple[Fault, int]


def reference(text: bytes) -> bytes | Refusal:
    """decode_message by its documented rules, one character at a time."""
    units = [(byte, offset) for offset, byte in enumerate(text)]
    for _ in range(2):
        if ord("%") not in [byte for byte, _ in units]:
            break
        undone = []
        while units:
            byte, offset = units.pop(0)
            if byte == ord("%"):
                digits = [byte for byte, _ in units[:2]]
                if len(digits) < 2 or not set(digits) <= set(_HEX):
                    return Fault.BAD_ESCAPE, offset
                byte = int(bytes(digits), 16)
                del units[:2]
            undone.append((byte, offset))
        units = undone
    bits, count, padding = "", 0, 0
    for byte, offset in units:
        if byte in b"\r\n\t":
            continue
        if byte == ord("="):
            padding += 1
            if not count:
                return Fault.NOT_BASE64, offset
            if padding == 3:
                return Fault.AFTER_PADDING, offset
        elif byte not in _VALUES:
            return Fault.NOT_BASE64, offset
        elif padding:
            return Fault.AFTER_PADDING, offset
        else:
            bits += f"{_VALUES[byte]:06b}"
            count += 1
    if not count:
        return Fault.EMPTY, len(text)
    if count % 4 == 1:
        return Fault.BASE64_CUT, len(text)
    whole = len(bits) // 8
    return int(bits[: whole * 8] or "0", 2).to_bytes(whole, "big")


def agrees(text: bytes) -> None:
    expected = reference(text)
    if isinstance(expected, bytes):
        assert codec.decode_message(text) == expected
        return
    fault, offset = expected
    with pytest.raises(DecodeError) as caught:
        codec.decode_message(text)
    assert (caught.value.reason, caught.value.offset) == (REASONS[fault], offset)


PIECES = [b"%", b"%2", b"%25", b"%3D", b"%3d", b"%2B", b"%2f", b"=", b"A", b"Qk", b"+", b"/",
          b" ", b"-", b"_", b"\n", b"\r", b"\t", b"%0A", b"%09", b"%0D", b"%20", b"%zz", b"\x80",
          b"\x00", b"%00", b"!", b"%%", b"%253D", b"%2541", b"%25253D", b"AAAA", b"3D", b"41"]


@given(st.lists(st.sampled_from(PIECES), max_size=9).map(b"".join))
@example(b"AAA%\t")
@example(b"AAA%%%0A")
@example(b"AAA%%%250A")
@example(b"AAA%" + b"\t" * 9)
@example(b"AAA%" + b"\n" * 9)
@example(b"AAA%\t%250A")
def test_any_mixture_of_escapes(text: bytes) -> None:
    agrees(text)


def test_all_short_texts() -> None:
    letters = [b"%", b"=", b"2", b"5", b"A", b" ", b"\t", b"!"]
    for size in range(5):
        for text in itertools.product(letters, repeat=size):
            agrees(b"".join(text))


def test_many_mixtures_of_escapes() -> None:
    random_source = random.Random(8894)
    for _ in range(4_000):
        agrees(b"".join(random_source.choices(PIECES, k=random_source.randrange(14))))


@given(st.binary(max_size=40))
def test_any_bytes(text: bytes) -> None:
    agrees(text)


@given(st.binary(min_size=1, max_size=300), st.randoms(use_true_random=False))
def test_any_escaping_of_clean_base64(data: bytes, random_source: random.Random) -> None:
    clean = base64.b64encode(data)
    escaped = b"".join(
        random_source.choice([b"%c", b"%%%02X", b"%%%02x"]) % byte for byte in clean)
    assert base64.b64decode(unquote_to_bytes(escaped)) == data
    assert codec.decode_message(escaped) == data
    assert codec.decode_message(quote(escaped, safe="").encode()) == data


@given(st.binary(min_size=1, max_size=300))
def test_encoding_is_what_urllib_makes(data: bytes) -> None:
    text = codec.encode_message(data)
    assert text == quote(base64.b64encode(data), safe="")
    assert re.fullmatch(r"[A-Za-z0-9%]+", text)
    assert codec.decode_message(text.encode()) == data


@pytest.mark.parametrize("change", [
    lambda text: text.rstrip(b"="),
    lambda text: text.replace(b"+", b" "),
    lambda text: text.replace(b"+", b"-").replace(b"/", b"_"),
    lambda text: b"\r\n".join(text[at:at + 64] for at in range(0, len(text), 64)) + b"\r\n",
    lambda text: b"%0A".join(text[at:at + 76] for at in range(0, len(text), 76)),
    lambda text: text.replace(b"=", b"%3D"),
    lambda text: text.replace(b"=", b"%253D").replace(b"+", b"%252B").replace(b"/", b"%252F"),
], ids=["unpadded", "spaces", "url alphabet", "lines", "escaped lines", "padding", "twice"])
@pytest.mark.parametrize("size", [1, 2, 3, 998, 999, 1000, 48_000])
def test_what_clients_send(change: object, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert codec.decode_message(change(base64.b64encode(data))) == data  # type: ignore[operator]  # a lambda


@pytest.mark.parametrize(("text", "fault", "offset"), [
    (b"", Fault.EMPTY, 0),
    (b"\r\n", Fault.EMPTY, 2),
    (b"=", Fault.NOT_BASE64, 0),
    (b"==", Fault.NOT_BASE64, 0),
    (b"%3D", Fault.NOT_BASE64, 0),
    (b"A", Fault.BASE64_CUT, 1),
    (b"AAAAA", Fault.BASE64_CUT, 5),
    (b"A===", Fault.AFTER_PADDING, 3),
    (b"AA===", Fault.AFTER_PADDING, 4),
    (b"AA=A", Fault.AFTER_PADDING, 3),
    (b"AA==%41", Fault.AFTER_PADDING, 4),
    (b"AAAA%", Fault.BAD_ESCAPE, 4),
    (b"AAAA%4", Fault.BAD_ESCAPE, 4),
    (b"%", Fault.BAD_ESCAPE, 0),
    (b"%%", Fault.BAD_ESCAPE, 0),
    (b"%%41AAA", Fault.BAD_ESCAPE, 0),
    (b"% 41", Fault.BAD_ESCAPE, 0),
    (b"%+1AA", Fault.BAD_ESCAPE, 0),
    (b"AA%25", Fault.BAD_ESCAPE, 2),
    (b"AAA%252541", Fault.NOT_BASE64, 3),
    (b"AAA\x80", Fault.NOT_BASE64, 3),
    (b"AAA\x00", Fault.NOT_BASE64, 3),
    (b"AAA%00", Fault.NOT_BASE64, 3),
    (b"A!!!", Fault.NOT_BASE64, 1),
    (b"AAAAAA!=", Fault.NOT_BASE64, 6),
    (b"AAAA!AAA", Fault.NOT_BASE64, 4),
])
def test_the_first_fault_and_where_it_is(text: bytes, fault: Fault, offset: int) -> None:
    assert reference(text) == (fault, offset)
    agrees(text)


@given(st.binary(max_size=60) | st.lists(st.sampled_from(PIECES)).map(b"".join))
def test_percent_decode_is_what_urllib_does(text: bytes) -> None:
    assert codec.percent_decode(text) == unquote_to_bytes(text)


@pytest.mark.parametrize("text", [b"%", b"%4", b"% 4", b"%4 1", b"%\xff1", b"%%41", b"a%zz%41"])
def test_percent_decode_leaves_malformed_escapes(text: bytes) -> None:
    assert codec.percent_decode(text) == unquote_to_bytes(text)


def test_the_longest_query_passes() -> None:
    data = bytes(48_700)
    text = codec.encode_message(data).encode()
    assert len(text) > 64_900
    assert codec.decode_message(text) == data
