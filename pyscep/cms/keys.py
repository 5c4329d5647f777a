"""Which public keys are worked with, decided before any operation is done with them.

An RSA operation costs what its sender chose: a 16384-bit modulus or a large exponent is
work for the asking, and a weak modulus gives certificates to whoever factors it.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pyscep.errors import AlgorithmError

_BASES: Final = (
    (rsa.RSAPublicKey, "rsa"),
    (ec.EllipticCurvePublicKey, "ec"),
    (ed25519.Ed25519PublicKey, "ed25519"),
)
_CURVES: Final = frozenset({"secp256r1", "secp384r1", "secp521r1"})
_MIN_EXPONENT: Final = 65537
_MAX_EXPONENT: Final = 1 << 32
_FERMAT_ROUNDS: Final = 100
_SMALL_PRIMES: Final = math.prod(
    n for n in range(3, 752, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2))
)
_SIEVES: Final = (64, 63, 65, 11, 17, 19)
_ALL_SIEVES: Final = math.prod(_SIEVES)


class _Kinds(dict[type, str]):
    """The kind of public key that a class is for: rsa, ec or ed25519; empty for any other.

    Keys are told apart by abstract classes, whose instance checks are slow. A program has few
    classes of keys: each is looked at once.
    """

    def __missing__(self, key_class: type) -> str:
        for base, kind in _BASES:
            if issubclass(key_class, base):
                self[key_class] = kind
                return kind
        return ""


KINDS: Final = _Kinds()
"""By the class of a key: ``KINDS[type(key)]``."""


def check_public_key(key: Any, *, min_rsa_bits: int, max_rsa_bits: int) -> None:
    """Refuse a key that is too weak, too dear to work with, or of an unknown kind.

    Args:
        min_rsa_bits, max_rsa_bits: bounds of an RSA modulus, in bits.

    Raises:
        AlgorithmError: says which rule the key breaks.
    """
    kind = KINDS[type(key)]
    if kind == "rsa":
        bits = key.key_size
        if not min_rsa_bits <= bits <= max_rsa_bits:
            raise AlgorithmError(
                f"an RSA key of {bits} bits; {min_rsa_bits} to {max_rsa_bits} are accepted"
            )
        numbers = key.public_numbers()
        modulus, exponent = numbers.n, numbers.e
        if not _MIN_EXPONENT <= exponent < _MAX_EXPONENT or not exponent & 1:
            raise AlgorithmError("an RSA key with a public exponent out of bounds")
        if not modulus & 1 or math.gcd(modulus, _SMALL_PRIMES) != 1:
            raise AlgorithmError("an RSA modulus with a small factor")
        if _has_close_factors(modulus):
            raise AlgorithmError("an RSA modulus whose factors are close to each other")
    elif kind == "ec":
        if key.curve.name not in _CURVES:
            raise AlgorithmError(f"the curve {key.curve.name} is not accepted")
    elif not kind:
        raise AlgorithmError(f"keys of the kind {type(key).__name__} are not accepted")


def _has_close_factors(modulus: int) -> bool:
    """Fermat's factoring, for a fixed number of rounds.

    Round k asks whether (root + k)^2 - modulus is a square. Small sieves leave about one
    of the hundred rounds to ask it with large numbers.
    """
    root = math.isqrt(modulus)
    # Reduced once by the product of all sieves: dividing what is long is what takes time.
    low_root, low_modulus = root % _ALL_SIEVES, modulus % _ALL_SIEVES
    if (low_root * low_root - low_modulus) % _ALL_SIEVES == 0 and root * root == modulus:
        return True
    root += 1
    rounds = (1 << _FERMAT_ROUNDS) - 1
    for sieve in _SIEVES:
        rounds &= _possible_roots(low_modulus % sieve, sieve) >> (low_root + 1) % sieve
    while rounds:
        k = rounds.bit_length() - 1
        rest = (root + k) ** 2 - modulus
        if math.isqrt(rest) ** 2 == rest:
            return True
        rounds ^= 1 << k
    return False


@functools.cache
def _possible_roots(modulus: int, sieve: int) -> int:
    """A bit for each root whose square less the modulus is a square modulo ``sieve``.

    Roots beyond the sieve repeat those below; there are as many as rounds can reach. One
    pattern serves every key with this remainder, so that a server soon knows all 239.
    """
    squares = {n * n % sieve for n in range(sieve)}
    period = sum(1 << root for root in range(sieve) if (root * root - modulus) % sieve in squares)
    repeated = 0
    for start in range(0, sieve + _FERMAT_ROUNDS, sieve):
        repeated |= period << start
    return repeated
