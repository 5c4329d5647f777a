"""Signing: what each kind of private key needs for it, looked up once for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from pyscep.cms.algorithms import DIGESTS, RSA_ENCRYPTION_IDENTIFIER, Digest
from pyscep.cms.signatures import EC_OIDS, ED25519, RSA_OIDS
from pyscep.codec import der


@dataclass(frozen=True, slots=True)
class Scheme:
    """How keys of one kind sign."""

    digest: Digest
    """Ed25519 goes with SHA-512 alone (RFC 8419 section 3.1), whatever was asked for."""
    identifier: bytes
    """The AlgorithmIdentifier of the signature."""
    arguments: tuple[Any, ...]
    """What the key's ``sign`` takes besides the data."""

    def sign(self, key: Any, data: bytes) -> bytes:
        """Sign with a key of this kind."""
        signature: bytes = key.sign(data, *self.arguments)
        return signature


def scheme_for(key: Any, digest: Digest, *, combined: bool) -> Scheme:
    """How this private key signs.

    Args:
        digest: of what is signed.
        combined: for RSA keys sha256WithRSAEncryption rather than rsaEncryption.

    Raises:
        TypeError: a key that can't sign.
    """
    kind: Any = type(key)
    return _scheme(kind, digest.name, combined)


# Asking cryptography's abstract classes costs more than all the rest of a short message.
@lru_cache(maxsize=64)
def _scheme(kind: Any, name: str, combined: bool) -> Scheme:
    digest = DIGESTS[name]
    if issubclass(kind, rsa.RSAPrivateKey):
        identifier = RSA_ENCRYPTION_IDENTIFIER
        if combined:
            identifier = der.sequence(RSA_OIDS[name], der.null())
        return Scheme(digest, identifier, (padding.PKCS1v15(), digest.algorithm))
    if issubclass(kind, ec.EllipticCurvePrivateKey):
        return Scheme(digest, der.sequence(EC_OIDS[name]), (ec.ECDSA(digest.algorithm),))
    if issubclass(kind, ed25519.Ed25519PrivateKey):
        return Scheme(DIGESTS["sha512"], der.sequence(ED25519), ())
    raise TypeError(f"{kind.__name__} can't sign SCEP messages")


_ED25519_SIGNATURE: Final = 64
_ECDSA_HEADS: Final = 9


def longest_signature(key: Any) -> int:
    """How long a signature of the private key of this public key is at most, in bytes."""
    match key:
        case rsa.RSAPublicKey(key_size=bits):
            return (bits + 7) // 8
        case ec.EllipticCurvePublicKey(key_size=bits):
            # Two INTEGERs in a SEQUENCE, each with a sign octet.
            return 2 * ((bits + 7) // 8) + _ECDSA_HEADS
        case _:
            return _ED25519_SIGNATURE
