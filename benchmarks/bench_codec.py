"""Query text and DER with pytest-benchmark, beside what else reads and writes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import peers, reference
from benchmarks.measure_codec import MALFORMED, all_escaped, malformed, parse, parse_and_read
from benchmarks.payloads import CHALLENGE_SIZES, Enrollment, make_enrollment
from pyscep import codec
from pyscep.codec import der
from pyscep.errors import DecodeError

DECODERS = {
    "pyscep": codec.decode_message,
    "unquote + b64decode": peers.typical_decode,
    "replace + pybase64": peers.replace_decode,
}
ENCODERS = {
    "pyscep": codec.encode_message,
    "b64encode + quote": peers.typical_encode,
    "pybase64 + replace": peers.replace_encode,
}
PARSERS = {
    "pyscep": parse,
    "pyscep, every field": parse_and_read,
    "hazmat.asn1": peers.hazmat_parse,
    "asn1crypto": reference.fields,
    "pyasn1": peers.pyasn1_parse,
}


@functools.cache
def enrollment(size: str) -> Enrollment:
    return make_enrollment(size, CHALLENGE_SIZES[size])


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_query_decode(benchmark: Any, size: str, decode: Callable[[bytes], bytes]) -> None:
    """GET query text to DER."""
    case = enrollment(size)
    assert benchmark(decode, case.text) == case.message


@pytest.mark.parametrize("decode", [codec.decode_message, peers.typical_decode])
def test_escaped_decode(benchmark: Any, decode: Callable[[bytes], bytes]) -> None:
    """The same where every character is escaped."""
    data = bytes(range(256)) * 58
    assert benchmark(decode, all_escaped(data)) == data


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
@pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)
def test_query_encode(benchmark: Any, size: str, encode: Callable[[bytes], str | bytes]) -> None:
    """DER to GET query text."""
    case = enrollment(size)
    text = benchmark(encode, case.message)
    assert (text.encode() if isinstance(text, str) else text) == case.text


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
@pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
def test_parse(benchmark: Any, size: str, parser: Callable[[bytes], object]) -> None:
    """Both layers of a PKCSReq."""
    assert benchmark(parser, enrollment(size).message)


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
def test_index(benchmark: Any, size: str) -> None:
    """The bounded index of a whole pkiMessage."""
    assert benchmark(der.read, enrollment(size).message).tag == der.SEQUENCE


@pytest.mark.parametrize("kind", MALFORMED)
def test_reject(benchmark: Any, kind: str) -> None:
    """Malformed messages of 40 KB are refused."""
    data = malformed(enrollment("40k").message)[kind]

    def refused() -> bool:
        try:
            parse(data)
        except DecodeError:
            return True
        return False

    assert benchmark(refused)
