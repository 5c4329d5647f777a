"""The client and CRLs with pytest-benchmark."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from cryptography import x509

from benchmarks import crls, floor, reference
from benchmarks.measure_client import builder, read_reply
from benchmarks.payloads import CHALLENGE_SIZES, Enrollment, make_enrollment
from pyscep.crl import find_revocation

ENTRIES = {"1k": 1_000, "10k": 10_000, "100k": 100_000}


@functools.cache
def enrollment() -> Enrollment:
    return make_enrollment("small", CHALLENGE_SIZES["small"])


@functools.cache
def exchange(entries: str) -> crls.CrlExchange:
    return crls.make_exchange(ENTRIES[entries])


@pytest.mark.parametrize("who", ["floor", "pyscep", "reference"])
def test_build(benchmark: Any, who: str) -> None:
    """A key to a PKCSReq, which the server grants."""
    case = enrollment()
    key, name = case.signer.private_key, case.csr.subject_name
    works = {
        "floor": floor.client_build_floor(case.floor),
        "pyscep": builder(case),
        "reference": lambda: reference.build(key, name, case.challenge, case.identity.certificate),
    }
    message = benchmark(works[who])
    if message is not None:
        response = case.server.handle(case.for_message(message), case.authority)
        nonce = reference.fields(message)["sender_nonce"]
        assert reference.open_reply(response.body, case.identity.certificate, key, nonce)


@pytest.mark.parametrize("who", ["floor", "pyscep", "reference"])
def test_cert_rep(benchmark: Any, who: str) -> None:
    """A CertRep to the verified certificate."""
    case = enrollment()
    key, nonce = case.signer.private_key, case.transaction.sender_nonce
    reply = case.server.handle(case.request, case.authority).body
    works = {
        "floor": floor.client_reply_floor(case.floor),
        "pyscep": read_reply(case, reply),
        "reference": lambda: reference.open_reply(reply, case.identity.certificate, key, nonce),
    }
    benchmark(works[who])


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("who", ["floor", "pyscep", "reference"])
def test_get_crl_client(benchmark: Any, who: str, entries: str) -> None:
    """A CertRep with a CRL to the verified CRL."""
    case = exchange(entries)
    reply, ca = case.serve(), case.identity.certificate
    key, nonce = case.client.private_key, case.transaction.sender_nonce
    works = {
        "floor": floor.crl_client_floor(case.floor, case.tbs),
        "pyscep": lambda: case.read(reply),
        "reference": lambda: reference.open_crl_reply(reply, ca, key, nonce),
    }
    assert benchmark(works[who]) in (None, case.crl)


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("who", ["floor", "pyscep", "reference"])
def test_get_crl_server(benchmark: Any, who: str, entries: str) -> None:
    """A GetCRL to its CertRep."""
    case = exchange(entries)
    ca, key = case.identity.certificate, case.identity.private_key
    works = {
        "floor": floor.crl_server_floor(case.floor),
        "pyscep": case.serve,
        "reference": lambda: reference.handle_get_crl(case.message, ca, key, case.crl),
    }
    reply = benchmark(works[who])
    assert reply is None or case.read(reply) == case.crl


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("who", ["pyscep", "cryptography"])
def test_serial(benchmark: Any, who: str, entries: str) -> None:
    """Look the last serial number up in a CRL as it came."""
    crl, serial = exchange(entries).crl, crls.serial_of(ENTRIES[entries] - 1)
    works = {
        "pyscep": lambda: find_revocation(crl, serial),
        "cryptography": lambda: x509.load_der_x509_crl(
            crl
        ).get_revoked_certificate_by_serial_number(serial),
    }
    assert benchmark(works[who])
    assert find_revocation(crl, 5) is None
