"""Signature algorithms: their identifiers, and verifying with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pyscep.cms.algorithms import (
    DIGESTS,
    RSA_ENCRYPTION,
    RSA_ENCRYPTION_IDENTIFIER,
    Digest,
    digest_from,
    split_identifier,
)
from pyscep.cms.keys import KINDS
from pyscep.codec import der
from pyscep.codec.space import Octets
from pyscep.errors import AlgorithmError, DecodeError, SignatureError

_PKCS1: Final = padding.PKCS1v15()
_RSASSA_PSS: Final = der.oid("1.2.840.113549.1.1.10")
_EC_PUBLIC_KEY: Final = der.oid("1.2.840.10045.2.1")
ED25519: Final = der.oid("1.3.101.112")
_MGF1: Final = der.oid("1.2.840.113549.1.1.8")

# Combined identifiers: OID -> (name, kind of key, digest).
_COMBINED: Final = {
    der.oid(dotted): (name, kind, digest)
    for dotted, name, kind, digest in (
        ("1.2.840.113549.1.1.4", "md5WithRSA", "rsa", "md5"),
        ("1.2.840.113549.1.1.5", "sha1WithRSA", "rsa", "sha1"),
        ("1.3.14.3.2.29", "sha1WithRSA", "rsa", "sha1"),
        ("1.2.840.113549.1.1.14", "sha224WithRSA", "rsa", "sha224"),
        ("1.2.840.113549.1.1.11", "sha256WithRSA", "rsa", "sha256"),
        ("1.2.840.113549.1.1.12", "sha384WithRSA", "rsa", "sha384"),
        ("1.2.840.113549.1.1.13", "sha512WithRSA", "rsa", "sha512"),
        ("1.2.840.10045.4.1", "ecdsaWithSHA1", "ec", "sha1"),
        ("1.2.840.10045.4.3.2", "ecdsaWithSHA256", "ec", "sha256"),
        ("1.2.840.10045.4.3.3", "ecdsaWithSHA384", "ec", "sha384"),
        ("1.2.840.10045.4.3.4", "ecdsaWithSHA512", "ec", "sha512"),
    )
}
RSA_OIDS: Final = {
    digest: oid for oid, (_, kind, digest) in reversed(_COMBINED.items()) if kind == "rsa"
}
EC_OIDS: Final = {digest: oid for oid, (_, kind, digest) in _COMBINED.items() if kind == "ec"}


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """What an AlgorithmIdentifier says of a signature."""

    name: str
    """As sent: ``rsaEncryption``, ``sha256WithRSA``, ``rsassa-pss``, ..."""
    kind: str
    """The kind of key that it needs: rsa, pss, ec, ed25519."""
    digest: str | None
    """The digest that the identifier fixes; None where another field names it."""
    salt_length: int = 0
    """RSASSA-PSS only, in bytes."""


_USUAL: Final = {
    der.sequence(oid, der.null()): SignatureAlgorithm(*named)
    for oid, named in _COMBINED.items()
    if named[1] == "rsa"
} | {RSA_ENCRYPTION_IDENTIFIER: SignatureAlgorithm("rsaEncryption", "rsa", None)}


def signature_algorithm_from(identifier: der.Node) -> SignatureAlgorithm:
    """Read a signatureAlgorithm field.

    Raises:
        AlgorithmError: unknown, or RSASSA-PSS parameters that are.
    """
    try:
        # Of an indefinite length, this is not all of it, and not in the table either.
        return _USUAL[identifier.data[identifier.start : identifier.end]]
    except KeyError:
        pass
    oid, parameters = split_identifier(identifier)
    if oid == RSA_ENCRYPTION:
        return SignatureAlgorithm("rsaEncryption", "rsa", None)
    combined = _COMBINED.get(oid)
    if combined is not None:
        return SignatureAlgorithm(*combined)
    if oid == _RSASSA_PSS:
        return _pss_from(parameters)
    if oid == ED25519:
        return SignatureAlgorithm("ed25519", "ed25519", None)
    if oid == _EC_PUBLIC_KEY:
        return SignatureAlgorithm("ecPublicKey", "ec", None)
    raise AlgorithmError(f"unknown signature algorithm {der.oid_text(oid)}")


def _pss_from(parameters: der.Node | None) -> SignatureAlgorithm:
    """RSASSA-PSS parameters (RFC 4055 section 3.1); both digests must be the same."""
    digest = mgf_digest = "sha1"
    salt_length = 20
    if parameters is not None:
        for part in parameters.fields(der.SEQUENCE, 0, "RSASSA-PSS parameters"):
            inner = part.fields(part.tag, 1, "RSASSA-PSS parameter")[0]
            match part.tag:
                case 0xA0:
                    digest = digest_from(inner).name
                case 0xA1:
                    mgf, mgf_parameters = split_identifier(inner)
                    if mgf != _MGF1 or mgf_parameters is None:
                        raise AlgorithmError("RSASSA-PSS with an unknown mask generation")
                    mgf_digest = digest_from(mgf_parameters).name
                case 0xA2:
                    salt_length = inner.integer("saltLength")
                case 0xA3 if inner.integer("trailerField") == 1:
                    pass
                case _:
                    raise AlgorithmError("RSASSA-PSS with an unknown parameter")
    # OpenSSL's default salt is as long as the modulus has room for; the key checks that bound.
    if digest != mgf_digest or not 0 <= salt_length <= 1024:
        raise AlgorithmError("RSASSA-PSS with parameters that do not fit each other")
    return SignatureAlgorithm("rsassa-pss", "pss", digest, salt_length)


def verify(
    key: Any,
    algorithm: SignatureAlgorithm,
    digest: Digest,
    signature: bytes,
    data: Octets,
) -> None:
    """Check a signature.

    Args:
        digest: of the signature; where ``algorithm`` fixes one it must be the same.

    Raises:
        AlgorithmError: the algorithm does not fit the key, or names another digest.
        SignatureError: the signature is wrong.
    """
    if algorithm.digest is not None and algorithm.digest != digest.name:
        raise AlgorithmError(f"{algorithm.name} with the digest {digest.name}")
    kind = KINDS[type(key)]
    try:
        if kind == algorithm.kind == "rsa":
            key.verify(signature, data, _PKCS1, digest.algorithm)
        elif kind == "rsa" and algorithm.kind == "pss":
            pss = padding.PSS(padding.MGF1(digest.algorithm), algorithm.salt_length)
            key.verify(signature, data, pss, digest.algorithm)
        elif kind == algorithm.kind == "ec":
            key.verify(signature, data, ec.ECDSA(digest.algorithm))
        elif kind == algorithm.kind == "ed25519":
            if digest.name != "sha512":
                # RFC 8419 section 3.1
                raise AlgorithmError(f"Ed25519 with the digest {digest.name}")
            key.verify(signature, data)
        else:
            raise AlgorithmError(f"{algorithm.name} does not fit the key that signs")
    except InvalidSignature as error:
        raise SignatureError("the signature does not verify") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AlgorithmError(f"the signature can't be checked: {error}") from error


def verify_structure(node: der.Node, key: PublicKeyTypes, digests: frozenset[str]) -> str:
    """Check a SIGNED structure (CSR, certificate, CRL): data, algorithm, signature.

    Returns:
        The name of its digest.

    Raises:
        DecodeError, AlgorithmError, SignatureError.
    """
    parts = node.fields(der.SEQUENCE, 3, "signed structure")
    signature = parts[2].expect(der.BIT_STRING, "signature").value
    # Read anew: a caller's index need not reach into the parameters.
    data = memoryview(node.data)[parts[0].start : parts[0].after]  # a CRL may be long
    return verify_signed(data, der.read(parts[1].raw), signature, key, digests)


def verify_signed(
    data: Octets,
    identifier: der.Node,
    signature: bytes,
    key: PublicKeyTypes,
    digests: frozenset[str],
) -> str:
    """``verify_structure`` for parts that have been found already.

    Args:
        data: what is signed.
        identifier: the AlgorithmIdentifier.
        signature: the content octets of the BIT STRING.
    """
    algorithm = signature_algorithm_from(identifier)
    name = algorithm.digest or ("sha512" if algorithm.kind == "ed25519" else None)
    if name is None:
        raise AlgorithmError(f"{algorithm.name} names no digest")
    if name not in digests:
        raise AlgorithmError(f"the policy refuses a signature with {name}")
    if signature[:1] != b"\x00":
        raise DecodeError("a signature is whole octets")
    verify(key, algorithm, DIGESTS[name], signature[1:], data)
    return name
