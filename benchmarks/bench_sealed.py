"""Sealed challenges with pytest-benchmark: ``make bench ARGS="-k sealed"``."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pyscep
from benchmarks.measure_sealed import Sealed, floors, make_sealed
from pyscep.ca import Granted, Refused

case = functools.cache(make_sealed)


def test_sealed_made(benchmark: Any) -> None:
    """A challenge of 24 KB for one request."""
    made: Sealed = case()
    text = benchmark(made.seal)
    assert len(text) == len(made.text)


def test_sealed_made_floor(benchmark: Any) -> None:
    """The cryptography of that alone."""
    benchmark(floors(case())[0])


def test_sealed_judged(benchmark: Any) -> None:
    """The challenge opened, its signature verified, the request compared field by field."""
    made: Sealed = case()
    found = benchmark(made.judge.verify, made.request)
    assert isinstance(found, Granted)


def test_sealed_judged_floor(benchmark: Any) -> None:
    """The cryptography of that alone."""
    benchmark(floors(case())[1])


def test_what_is_judged_is_really_judged() -> None:
    """The request that was announced, and no other: so that the comparison is a fair one."""
    made: Sealed = case()
    csr = pyscep.pkcs10.create(
        made.service.private_key, "CN=other,O=Lab", challenge_password=made.text
    )
    found = made.judge.verify(replace(made.request, csr=csr))
    assert isinstance(found, Refused)
    assert "subject" in found.reason
