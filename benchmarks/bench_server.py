"""Codec and server throughput with pytest-benchmark: ``make bench``."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmarks.floor import server_floor
from benchmarks.payloads import CHALLENGE_SIZES, Enrollment, make_enrollment
from pyscep import codec
from pyscep.codec import der


@functools.cache
def enrollment(size: str) -> Enrollment:
    return make_enrollment(size, CHALLENGE_SIZES[size])


def message_text(size: str) -> bytes:
    return enrollment(size).request.query.partition(b"message=")[2]


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
def test_enrollment(benchmark: Any, size: str) -> None:
    """A raw GET query to the bytes of a CertRep."""
    case = enrollment(size)
    response = benchmark(case.server.handle, case.request, case.authority)
    assert response.media_type == "application/x-pki-message"


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
def test_crypto_floor(benchmark: Any, size: str) -> None:
    """The cryptography of the same enrollment alone."""
    benchmark(server_floor(enrollment(size).floor))


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
def test_query_decode(benchmark: Any, size: str) -> None:
    """GET query text to DER."""
    text = message_text(size)
    assert benchmark(codec.decode_message, text)[:1] == b"\x30"


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
def test_query_encode(benchmark: Any, size: str) -> None:
    """DER to GET query text."""
    data = codec.decode_message(message_text(size))
    assert benchmark(codec.encode_message, data).encode() == message_text(size)


@pytest.mark.parametrize("size", CHALLENGE_SIZES)
def test_index(benchmark: Any, size: str) -> None:
    """The bounded index of a whole pkiMessage."""
    data = codec.decode_message(message_text(size))
    assert benchmark(der.read, data).tag == der.SEQUENCE
