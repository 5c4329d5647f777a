"""Algorithms: names, object identifiers, primitives, and which of them a policy allows.

Names are those of the OpenSSL world for digests and ciphers (``sha256``, ``aes128-cbc``) and
the RFC's for signatures (``rsaEncryption``, ``sha256WithRSA``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.base import CipherContext
from cryptography.hazmat.primitives.ciphers.modes import CBC

from pyscep.codec import der
from pyscep.errors import AlgorithmError

PolicyName = Literal["modern", "compatible", "legacy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmPolicy:
    """Which algorithms are accepted and used; one per endpoint or client.

    ``modern`` is SHA-2 and AES. ``compatible`` adds SHA-1 signatures and 3DES. ``legacy`` adds
    MD5 and single DES, which RFC 8894 section 2.9 forbids: only for devices that speak nothing
    else.
    """

    name: str
    digests: frozenset[str]
    ciphers: frozenset[str]
    key_transports: frozenset[str] = frozenset({"rsaEncryption", "rsaes-oaep"})
    min_rsa_bits: int = 2048
    max_rsa_bits: int = 4096
    """Of client keys; up to 8192 is sensible, verification costs grow with the square."""
    max_ca_rsa_bits: int = 8192
    """Of the keys of a server that a client talks to."""

    @classmethod
    def named(cls, name: str) -> AlgorithmPolicy:
        """The policy ``modern``, ``compatible`` or ``legacy``.

        Raises:
            ValueError: another name.
        """
        try:
            return _POLICIES[name]
        except KeyError:
            raise ValueError(
                f"unknown policy {name!r}: choose modern, compatible or legacy"
            ) from None

    def require_digest(self, name: str) -> None:
        """Raise AlgorithmError unless that digest is allowed."""
        if name not in self.digests:
            raise AlgorithmError(f"the policy {self.name!r} refuses the digest {name}{_hint(name)}")

    def require_cipher(self, name: str) -> None:
        """Raise AlgorithmError unless that content encryption is allowed."""
        if name not in self.ciphers:
            raise AlgorithmError(f"the policy {self.name!r} refuses the cipher {name}{_hint(name)}")

    def require_key_transport(self, name: str) -> None:
        """Raise AlgorithmError unless that key transport is allowed."""
        if name not in self.key_transports:
            raise AlgorithmError(f"the policy {self.name!r} refuses the key transport {name}")


def _hint(name: str) -> str:
    for policy in _POLICIES.values():
        if name in policy.digests or name in policy.ciphers:
            return f" (allowed by the policy {policy.name!r})"
    return ""


_SHA2: Final = frozenset({"sha256", "sha384", "sha512"})
_AES: Final = frozenset({"aes128-cbc", "aes192-cbc", "aes256-cbc"})
MODERN: Final = AlgorithmPolicy(name="modern", digests=_SHA2, ciphers=_AES)
COMPATIBLE: Final = AlgorithmPolicy(
    name="compatible", digests=_SHA2 | {"sha1"}, ciphers=_AES | {"des-ede3-cbc"}
)
LEGACY: Final = AlgorithmPolicy(
    name="legacy",
    digests=COMPATIBLE.digests | {"md5"},
    ciphers=COMPATIBLE.ciphers | {"des-cbc"},
)
_POLICIES: Final = {policy.name: policy for policy in (MODERN, COMPATIBLE, LEGACY)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithms:
    """The algorithms of one message; a reply mirrors those of its request."""

    digest: str = "sha256"
    signature: str = "rsaEncryption"
    """As named in SignerInfo. strongSwan before 5.9.11 knows no other than rsaEncryption."""
    cipher: str = "aes128-cbc"
    key_transport: str = "rsaEncryption"
    oaep_digest: str = "sha1"
    oaep_mgf_digest: str = "sha1"


# --- digests --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash function under its names."""

    name: str
    oid: bytes
    size: int
    """Length of a digest, in bytes."""
    algorithm: hashes.HashAlgorithm
    new: Callable[[bytes | memoryview], hashlib._Hash]
    identifier: bytes
    """The AlgorithmIdentifier that is emitted (RFC 5754 section 2)."""

    def of(self, data: bytes | memoryview) -> bytes:
        """The digest of ``data``."""
        return self.new(data).digest()


def _md5(data: bytes | memoryview) -> hashlib._Hash:
    return hashlib.md5(data, usedforsecurity=False)


def _sha1(data: bytes | memoryview) -> hashlib._Hash:
    return hashlib.sha1(data, usedforsecurity=False)


def _digest(
    name: str,
    dotted: str,
    algorithm: hashes.HashAlgorithm,
    new: Callable[[bytes | memoryview], hashlib._Hash],
    parameters: bytes,
) -> Digest:
    oid = der.oid(dotted)
    identifier = der.sequence(oid, parameters)
    return Digest(name, oid, algorithm.digest_size, algorithm, new, identifier)


DIGESTS: Final = {
    digest.name: digest
    for digest in (
        _digest("md5", "1.2.840.113549.2.5", hashes.MD5(), _md5, der.null()),
        _digest("sha1", "1.3.14.3.2.26", hashes.SHA1(), _sha1, der.null()),
        _digest("sha224", "2.16.840.1.101.3.4.2.4", hashes.SHA224(), hashlib.sha224, b""),
        _digest("sha256", "2.16.840.1.101.3.4.2.1", hashes.SHA256(), hashlib.sha256, b""),
        _digest("sha384", "2.16.840.1.101.3.4.2.2", hashes.SHA384(), hashlib.sha384, b""),
        _digest("sha512", "2.16.840.1.101.3.4.2.3", hashes.SHA512(), hashlib.sha512, b""),
    )
}
_DIGESTS_BY_OID: Final = {digest.oid: digest for digest in DIGESTS.values()}
_DIGESTS_BY_IDENTIFIER: Final = {
    der.sequence(digest.oid, parameters): digest
    for digest in DIGESTS.values()
    for parameters in (b"", der.null())
}


def digest_from(identifier: der.Node) -> Digest:
    """The digest that an AlgorithmIdentifier names; parameters absent or NULL.

    Raises:
        AlgorithmError: unknown, or with parameters of its own.
    """
    try:
        # Of an indefinite length, this is not all of it, and not in the table either.
        return _DIGESTS_BY_IDENTIFIER[identifier.data[identifier.start : identifier.end]]
    except KeyError:
        pass
    oid, parameters = split_identifier(identifier)
    digest = _DIGESTS_BY_OID.get(oid)
    if digest is None:
        raise AlgorithmError(f"unknown digest algorithm {der.oid_text(oid)}")
    if parameters is not None and parameters.tag != der.NULL:
        raise AlgorithmError(f"the digest {digest.name} takes no parameters")
    return digest


def split_identifier(identifier: der.Node) -> tuple[bytes, der.Node | None]:
    """The parts of an AlgorithmIdentifier: encoded OID, and parameters if there are any."""
    parts = identifier.fields(der.SEQUENCE, 1, "AlgorithmIdentifier")
    oid = parts[0].expect(der.OID, "algorithm").raw
    if len(parts) > 2:
        raise AlgorithmError("AlgorithmIdentifier has more than two parts")
    return oid, parts[1] if len(parts) == 2 else None


# --- content encryption ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ContentCipher:
    """A CBC cipher under its names; sizes in bytes."""

    name: str
    oid: bytes
    key_size: int
    block_size: int

    def _cipher(self, key: bytes, iv: bytes) -> Cipher[CBC]:
        if self.key_size == 8:
            key *= 3  # single DES is 3DES with one key three times
        primitive = AES(key) if self.block_size == 16 else TripleDES(key)
        return Cipher(primitive, CBC(iv))

    def encryptor(self, key: bytes, iv: bytes) -> CipherContext:
        return self._cipher(key, iv).encryptor()

    def decryptor(self, key: bytes, iv: bytes) -> CipherContext:
        return self._cipher(key, iv).decryptor()


CIPHERS: Final = {
    cipher.name: cipher
    for cipher in (
        ContentCipher("des-cbc", der.oid("1.3.14.3.2.7"), 8, 8),
        ContentCipher("des-ede3-cbc", der.oid("1.2.840.113549.3.7"), 24, 8),
        ContentCipher("aes128-cbc", der.oid("2.16.840.1.101.3.4.1.2"), 16, 16),
        ContentCipher("aes192-cbc", der.oid("2.16.840.1.101.3.4.1.22"), 24, 16),
        ContentCipher("aes256-cbc", der.oid("2.16.840.1.101.3.4.1.42"), 32, 16),
    )
}
_CIPHERS_BY_OID: Final = {cipher.oid: cipher for cipher in CIPHERS.values()}
# An AlgorithmIdentifier up to the octets of its IV.
_CIPHERS_BY_HEAD: Final = {
    der.sequence(cipher.oid, der.octet_string(bytes(cipher.block_size)))[
        : -cipher.block_size
    ]: cipher
    for cipher in CIPHERS.values()
}


def cipher_from(identifier: der.Node) -> tuple[ContentCipher, bytes]:
    """The cipher and IV that an AlgorithmIdentifier names.

    Raises:
        AlgorithmError: unknown, or an IV that does not fit.
    """
    raw = identifier.data[identifier.start : identifier.end]
    usual = _CIPHERS_BY_HEAD.get(raw[:-16]) or _CIPHERS_BY_HEAD.get(raw[:-8])
    if usual is not None:
        return usual, raw[-usual.block_size :]
    oid, parameters = split_identifier(identifier)
    cipher = _CIPHERS_BY_OID.get(oid)
    if cipher is None:
        raise AlgorithmError(f"unknown content encryption algorithm {der.oid_text(oid)}")
    if parameters is None or parameters.tag == der.NULL:
        # Old devices that speak single DES leave the IV out and mean zeros.
        if cipher.name == "des-cbc":
            return cipher, bytes(cipher.block_size)
        raise AlgorithmError(f"{cipher.name} without an IV")
    if parameters.tag != der.OCTET_STRING or len(parameters.value) != cipher.block_size:
        raise AlgorithmError(f"{cipher.name} with an IV that does not fit")
    return cipher, parameters.value


# --- key transport --------------------------------------------------------------------

RSA_ENCRYPTION: Final = der.oid("1.2.840.113549.1.1.1")
RSA_ENCRYPTION_IDENTIFIER: Final = der.sequence(RSA_ENCRYPTION, der.null())
_RSAES_OAEP: Final = der.oid("1.2.840.113549.1.1.7")
_MGF1: Final = der.oid("1.2.840.113549.1.1.8")
_P_SPECIFIED: Final = der.oid("1.2.840.113549.1.1.9")


@dataclass(frozen=True, slots=True)
class KeyTransport:
    """How a content-encryption key travels: RSAES-PKCS1-v1_5 or RSAES-OAEP (RFC 4055)."""

    name: str
    digest: str = "sha1"
    mgf_digest: str = "sha1"

    def padding(self) -> padding.AsymmetricPadding:
        if self.name == "rsaEncryption":
            return padding.PKCS1v15()
        return padding.OAEP(
            padding.MGF1(DIGESTS[self.mgf_digest].algorithm), DIGESTS[self.digest].algorithm, None
        )

    def identifier(self) -> bytes:
        """The AlgorithmIdentifier; defaults of RSAES-OAEP are left out (DER)."""
        if self.name == "rsaEncryption":
            return RSA_ENCRYPTION_IDENTIFIER
        parts = []
        if self.digest != "sha1":
            parts.append(der.context(0, _null_identifier(self.digest)))
        if self.mgf_digest != "sha1":
            mgf = der.sequence(_MGF1, _null_identifier(self.mgf_digest))
            parts.append(der.context(1, mgf))
        return der.sequence(_RSAES_OAEP, der.sequence(*parts))


@lru_cache(maxsize=64)
def key_encryption(
    name: str, digest: str, mgf_digest: str
) -> tuple[bytes, padding.AsymmetricPadding]:
    """The AlgorithmIdentifier of a key transport, and what the key takes for it."""
    transport = KeyTransport(name, digest, mgf_digest)
    return transport.identifier(), transport.padding()


def _null_identifier(digest: str) -> bytes:
    return der.sequence(DIGESTS[digest].oid, der.null())


_RSA_TRANSPORT: Final = KeyTransport("rsaEncryption")


def key_transport_from(identifier: der.Node) -> KeyTransport:
    """The key transport that an AlgorithmIdentifier names.

    RSAES-OAEP without parameters or with empty ones means all defaults: Windows sends both.

    Raises:
        AlgorithmError: unknown, or OAEP parameters that are.
    """
    if identifier.data[identifier.start : identifier.end] == RSA_ENCRYPTION_IDENTIFIER:
        return _RSA_TRANSPORT
    oid, parameters = split_identifier(identifier)
    if oid == RSA_ENCRYPTION:
        return _RSA_TRANSPORT
    if oid != _RSAES_OAEP:
        raise AlgorithmError(f"unknown key transport algorithm {der.oid_text(oid)}")
    digest = mgf_digest = "sha1"
    if parameters is not None and parameters.tag != der.NULL:
        for part in parameters.fields(der.SEQUENCE, 0, "RSAES-OAEP parameters"):
            inner = part.fields(part.tag, 1, "RSAES-OAEP parameter")[0]
            match part.tag:
                case 0xA0:
                    digest = digest_from(inner).name
                case 0xA1:
                    mgf, mgf_parameters = split_identifier(inner)
                    if mgf != _MGF1 or mgf_parameters is None:
                        raise AlgorithmError("RSAES-OAEP with an unknown mask generation")
                    mgf_digest = digest_from(mgf_parameters).name
                case 0xA2:
                    source, label = split_identifier(inner)
                    if source != _P_SPECIFIED or label is None or label.octets("label"):
                        raise AlgorithmError("RSAES-OAEP with a label")
                case _:
                    raise AlgorithmError("RSAES-OAEP with an unknown parameter")
    if "md5" in (digest, mgf_digest):
        raise AlgorithmError("RSAES-OAEP with MD5")
    return KeyTransport("rsaes-oaep", digest, mgf_digest)
