"""Distinct requests for a running server, built before the clock runs, and their replies.

Every request has a key, a name, a transaction, nonces and an envelope of its own: a CA with a
memory would answer the same key again with the same certificate, and do less.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

import pyscep
from benchmarks.payloads import CHALLENGE_SIZES, NOW, get_request, make_signer
from pyscep.pki_message import decode_cert_rep, encode_request
from pyscep.transaction import new_transaction

ALGORITHMS = pyscep.Algorithms()
"""SHA-256 and AES-128."""
_E = 65537


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request, as bytes of HTTP, and what opens its reply."""

    get: bytes
    post: bytes
    transaction: pyscep.Transaction
    signer: pyscep.Identity

    def http(self, method: str) -> bytes:
        return self.get if method == "GET" else self.post


CAPS = b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: localhost\r\n\r\n"


def challenge_of(size: str) -> str:
    """The static challenge that makes a query about so long: ``small``, ``8k`` and so on."""
    return ("Sealed challenge 0123456789 " * 2000)[: CHALLENGE_SIZES[size]].strip()


def make_cases(identity: pyscep.Identity, size: str, count: int) -> list[Case]:
    """So many requests to the CA with this certificate."""
    challenge = challenge_of(size)
    keys = rsa_keys(count)
    return [
        make_case(identity, next(keys), f"CN=device-{number},O=Lab", challenge)
        for number in range(count)
    ]


def make_message(
    identity: pyscep.Identity, key: rsa.RSAPrivateKey, subject: str, challenge: str
) -> tuple[bytes, pyscep.Transaction, pyscep.Identity]:
    """A PKCSReq to a CA, with its transaction and its signer."""
    csr = pyscep.pkcs10.create(key, subject, challenge_password=challenge)
    signer = make_signer(key, subject)
    transaction = new_transaction(secrets.token_bytes)
    message = encode_request(
        pyscep.PKCSReq(csr=csr),
        transaction=transaction,
        signer=signer,
        recipient=identity.raw,
        algorithms=ALGORITHMS,
        token_bytes=secrets.token_bytes,
        signing_time=NOW,
    )
    return message, transaction, signer


def make_case(
    identity: pyscep.Identity, key: rsa.RSAPrivateKey, subject: str, challenge: str
) -> Case:
    message, transaction, signer = make_message(identity, key, subject, challenge)
    get = b"GET /scep?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % get_request(message).query
    post = (
        b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/x-pki-message\r\nContent-Length: %d\r\n\r\n%s"
        % (len(message), message)
    )
    return Case(get=get, post=post, transaction=transaction, signer=signer)


def rsa_keys(count: int) -> Iterator[rsa.RSAPrivateKey]:
    """Distinct RSA-2048 keys, quickly: every pair of a few primes makes one.

    For a benchmark alone: two moduli with a common prime give each other away.
    """
    primes: list[int] = []
    while math.comb(len(primes), 2) < count:
        numbers = rsa.generate_private_key(_E, 2048).private_numbers()
        primes += (numbers.p, numbers.q)
    pairs = itertools.combinations(primes, 2)
    return (_key(p, q) for p, q in itertools.islice(pairs, count))


def _key(p: int, q: int) -> rsa.RSAPrivateKey:
    d = rsa.rsa_recover_private_exponent(_E, p, q)
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(_E, p * q)
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def check_all(
    cases: Sequence[Case], bodies: Sequence[bytes], identity: pyscep.Identity
) -> list[int | None]:
    """Open and check every reply; the serial numbers, in the order of the requests.

    None stands for a FAILURE: of several requests at a time, scepserver refuses some.

    Raises:
        RuntimeError: a certificate for another key, or by another CA.
        pyscep.ScepError: a reply that is none.
    """
    return [check(case, body, identity) for case, body in zip(cases, bodies, strict=True)]


def check(case: Case, reply: bytes, identity: pyscep.Identity) -> int | None:
    """The reply opens, is signed, and has a certificate of the CA for the key that asked."""
    found = decode_cert_rep(
        reply,
        transaction=case.transaction,
        signers=(identity.raw,),
        recipient=case.signer,
        policy=pyscep.LEGACY,  # micromdm answers with single DES
        token_bytes=secrets.token_bytes,
    )
    if isinstance(found, pyscep.Failure):
        return None
    (issued,) = (x509.load_der_x509_certificate(one) for one in found.certificates)
    issued.verify_directly_issued_by(identity.certificate)
    if issued.public_key() != case.signer.certificate.public_key():
        raise RuntimeError("a certificate for another key")
    return issued.serial_number
