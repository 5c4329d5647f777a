"""Enrollments on the server with pytest-benchmark: ``make bench``."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from benchmarks import reference
from benchmarks.floor import server_floor
from benchmarks.measure_server import check_replies, reference_server
from benchmarks.payloads import CHALLENGE_SIZES, Enrollment, make_enrollment


@functools.cache
def enrollment(size: str) -> Enrollment:
    return make_enrollment(size, CHALLENGE_SIZES[size])


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
def test_reference(benchmark: Any, size: str) -> None:
    """The same with asn1crypto and cryptography; each reads the other's reply."""
    case = enrollment(size)
    work = reference_server(case)
    check_replies(case, work)
    benchmark(work)


def test_the_reference_refuses() -> None:
    """It checks what has to be checked, so that the comparison is a fair one."""
    case = enrollment("small")
    certificate, key = case.identity.certificate, case.identity.private_key
    with pytest.raises(ValueError, match="challenge"):
        reference.handle(case.request.query, certificate, key, "wrong")
    content = reference.fields(case.message)["content"]
    tampered = case.message.replace(content, content[:-1] + bytes((content[-1] ^ 1,)))
    with pytest.raises(ValueError, match="messageDigest"):
        reference.handle(case.for_message(tampered).query, certificate, key, case.challenge)
