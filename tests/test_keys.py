"""cms.keys: weak, dear and odd public keys are refused before anything is done with them."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

import pyscep
from pyscep.cms import keys as module
from pyscep.cms import signed_data
from pyscep.cms.keys import check_public_key
from pyscep.errors import AlgorithmError
from tests import forge
from tests import forge_keys as keys
from tests.endpoint import Endpoint


def check(key: Any, smallest: int = 2048, largest: int = 4096) -> None:
    check_public_key(key, min_rsa_bits=smallest, max_rsa_bits=largest)


def refuses(key: Any, why: str, **bounds: int) -> None:
    with pytest.raises(AlgorithmError, match=why) as caught:
        check(key, **bounds)
    assert caught.value.fail_info.rfc_name == "badAlg"


class Key(rsa.RSAPublicKey):
    """An RSA key of given numbers that no operation may be done with."""

    def __init__(self, modulus: int, exponent: int = 65537) -> None:
        self.numbers = rsa.RSAPublicNumbers(exponent, modulus)

    @property
    def key_size(self) -> int:
        return self.numbers.n.bit_length()

    def public_numbers(self) -> rsa.RSAPublicNumbers:
        return self.numbers

    def _never(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("an operation with an unchecked key")

    encrypt = verify = recover_data_from_signature = public_bytes = _never
    __eq__ = _never  # type: ignore[assignment]  # as above
    __copy__ = __deepcopy__ = __hash__ = _never  # type: ignore[assignment]  # as above


def sifted(bits: int, *, seed: int = 3, gap: int = 0) -> int:
    """A number of exactly that many bits, with its top two set, and without small factors.

    Args:
        gap: `gap` above it stands another such number.
    """
    number = 3 << (bits - 2) | random.Random(seed).getrandbits(bits - 2) | 1
    while math.gcd(number * (number + gap), SMALL) != 1:
        number += 2
    return number


SMALL = math.prod(n for n in range(2, 752) if all(n % d for d in range(2, n)))
FAR_APART = sifted(1024) * sifted(1024, seed=4)
"""A modulus with nothing wrong: nobody looks whether its factors are primes."""


def test_a_class_of_keys_may_be_registered_late() -> None:
    class Token(Key):
        pass

    class Stranger:
        pass

    assert [module.KINDS[kind] for kind in (Token, Stranger, Token)] == ["rsa", "", "rsa"]
    rsa.RSAPublicKey.register(Stranger)
    assert module.KINDS[Stranger] == "rsa"


def test_ordinary_keys_pass() -> None:
    check(keys.rsa_key("client").public_key())
    check(keys.rsa_key("client 3072", 3072).public_key())
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()):
        check(ec.generate_private_key(curve).public_key())
    check(ed25519.Ed25519PrivateKey.generate().public_key())


@pytest.mark.parametrize(("bits", "why"), [
    (1024, "1024 bits; 2048 to 4096"), (2047, "2047 bits"), (4097, "4097 bits"),
    (8192, "8192 bits"), (16384, "16384 bits"), (32768, "32768 bits"),
])
def test_sizes(bits: int, why: str) -> None:
    refuses(Key((1 << bits) - 1), why)


@pytest.mark.parametrize("bits", [2048, 4096])
def test_sizes_at_the_bounds(bits: int) -> None:
    modulus = Key(sifted(bits // 2) * sifted(bits // 2, seed=4))
    assert modulus.key_size == bits
    check(modulus)
    refuses(modulus, "bits", smallest=bits + 1, largest=9999)
    refuses(modulus, "bits", smallest=1024, largest=bits - 1)


@pytest.mark.parametrize("exponent", [1, 3, 17, 65535, 65536, 65538, 1 << 20, (1 << 32) + 1,
                                      (1 << 64) + 13, (1 << 2047) + 1], ids=lambda it: hex(it)[:9])
def test_exponents_that_are_refused(exponent: int) -> None:
    refuses(Key(FAR_APART, exponent), "exponent")


@pytest.mark.parametrize("exponent", [65537, 65539, (1 << 32) - 1])
def test_exponents_that_pass(exponent: int) -> None:
    check(Key(FAR_APART, exponent))


@pytest.mark.parametrize("factor", [2, 3, 5, 7, 11, 677, 743, 751])
def test_small_factors(factor: int) -> None:
    refuses(Key(factor * sifted(2040)), "small factor", smallest=1024)


def test_the_first_prime_that_is_not_tried() -> None:
    assert module._SMALL_PRIMES * 2 == SMALL
    check(Key(757 * sifted(2040)))


@pytest.mark.parametrize("gap", [0, 2, 1000, 1 << 500, 1 << 514], ids=lambda it: hex(it)[:9])
def test_close_factors(gap: int) -> None:
    number = sifted(1024, gap=gap)
    refuses(Key(number * (number + gap)), "close to each other")


def test_factors_that_are_far_enough_apart() -> None:
    number = sifted(1024, gap=1 << 540)
    check(Key(number * (number + (1 << 540))))


@given(st.integers(1 << 40, 1 << 200), st.integers(0, 130))
def test_fermat_finds_what_a_plain_loop_finds(middle: int, distance: int) -> None:
    # n = middle^2 - distance^2 has the factors middle +- distance
    for modulus in (middle * middle - distance * distance, middle * middle + distance):
        root = math.isqrt(modulus)
        root += root * root != modulus
        plain = any(math.isqrt(rest) ** 2 == rest for k in range(module._FERMAT_ROUNDS)
                    if (rest := (root + k) ** 2 - modulus) >= 0)
        assert module._has_close_factors(modulus) == plain


def test_the_filter_leaves_few_rounds() -> None:
    chance = random.Random(1)
    left = 0
    for _ in range(20):
        modulus = chance.getrandbits(2048) | 1 | 1 << 2047
        root = math.isqrt(modulus) + 1
        rounds = (1 << module._FERMAT_ROUNDS) - 1
        for sieve in module._SIEVES:
            rounds &= module._possible_roots(modulus % sieve, sieve) >> root % sieve
        left += rounds.bit_count()
    assert left <= 20 * 8


def test_the_filter_is_soon_known() -> None:
    """Every device has a key of its own: what is kept must serve all of them."""
    module._possible_roots.cache_clear()
    for modulus in range(1, 2 * module._ALL_SIEVES, 2 * 100_003):
        module._has_close_factors(modulus)
    assert module._possible_roots.cache_info().currsize <= sum(module._SIEVES)


@pytest.mark.parametrize("curve", [
    ec.SECP192R1(), ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1()], ids=lambda it: it.name)
def test_curves_that_are_refused(curve: ec.EllipticCurve) -> None:
    refuses(ec.generate_private_key(curve).public_key(), f"the curve {curve.name}")


def test_kinds_that_are_refused() -> None:
    refuses(ed448.Ed448PrivateKey.generate().public_key(), "Ed448PublicKey")
    refuses(x25519.X25519PrivateKey.generate().public_key(), "X25519PublicKey")
    refuses(dsa.generate_private_key(1024).public_key(), "DSAPublicKey")


# --- no operation with a weak key, anywhere --------------------------------------------


@pytest.mark.parametrize(
    "modulus", [(1 << 1023) + 1, (1 << 16383) + 1, (1 << 2048) - 2],
    ids=["small", "large", "even"])
def test_the_signer_is_checked_before_its_signature(
    modulus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pyscep.identity.load_der_public_key", lambda data: Key(modulus))
    message = signed_data.read_signed_data(forge.pkcs_req(keys.ca()).build())
    with pytest.raises(AlgorithmError):
        signed_data.verify(message, pyscep.MODERN, max_rsa_bits=4096)


def test_the_key_of_a_csr_is_checked_before_its_signature(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pyscep.pkcs10.load_der_public_key", lambda data: Key((1 << 16383) + 1))
    csr = pyscep.pkcs10.read(keys.csr(keys.rsa_key("other")))
    with pytest.raises(AlgorithmError, match="16384 bits"):
        csr.verify(pyscep.MODERN)


def test_a_server_refuses_weak_keys(endpoint: Endpoint) -> None:
    weak = keys.rsa_key("weak", 1024)
    endpoint.refuses(forge.pkcs_req(keys.ca(), signer=keys.party("CN=weak", weak)), "0")
    endpoint.refuses(forge.pkcs_req(keys.ca(), key=weak), "2")
    endpoint.refuses(forge.pkcs_req(keys.ca(), signer=keys.party(
        "CN=e3", e3 := rsa.generate_private_key(3, 2048))), "0")
    endpoint.refuses(forge.pkcs_req(keys.ca(), key=e3), "2")
