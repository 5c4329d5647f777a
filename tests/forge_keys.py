"""Keys, certificates and CSRs for forge.py, written with its own TLV writer.

Keys are made once for a test run. Certificates can have every shape that devices were seen
with, among them shapes that cryptography itself refuses.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests import forge_tlv as asn1

HASHES: dict[str, hashes.HashAlgorithm] = {
    "md5": hashes.MD5(),  # noqa: S303 - the protocol's old algorithms are tested
    "sha1": hashes.SHA1(),  # noqa: S303
    "sha224": hashes.SHA224(), "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
}
DIGEST_OIDS = {
    "md5": "1.2.840.113549.2.5", "sha1": "1.3.14.3.2.26",
    "sha224": "2.16.840.1.101.3.4.2.4", "sha256": "2.16.840.1.101.3.4.2.1",
    "sha384": "2.16.840.1.101.3.4.2.2", "sha512": "2.16.840.1.101.3.4.2.3",
}
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
RSASSA_PSS = "1.2.840.113549.1.1.10"
MGF1 = "1.2.840.113549.1.1.8"
RSA_SIGNATURE_OIDS = {
    "md5": "1.2.840.113549.1.1.4", "sha1": "1.2.840.113549.1.1.5",
    "sha224": "1.2.840.113549.1.1.14", "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12", "sha512": "1.2.840.113549.1.1.13",
}
ECDSA_OIDS = {
    "sha1": "1.2.840.10045.4.1", "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3", "sha512": "1.2.840.10045.4.3.4",
}
ED25519 = "1.3.101.112"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"

_NAME_OIDS = {"CN": "2.5.4.3", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6"}


@functools.cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of that name, made once."""
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def ed_key(name: str) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def key_pem(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def spki(key: Any) -> bytes:
    """SubjectPublicKeyInfo of a private or public key, DER."""
    public = key.public_key() if hasattr(key, "public_key") else key
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def name(dn: str, tag: int = asn1.UTF8) -> bytes:
    """A Name from ``CN=x,O=y``, outermost last as written."""
    rdns = []
    for part in filter(None, dn.split(",")):
        kind, _, value = part.strip().partition("=")
        kind_tag = asn1.PRINTABLE if kind == "C" else tag
        rdns.append(asn1.set_of(asn1.seq(asn1.oid(_NAME_OIDS[kind]), asn1.text(value, kind_tag))))
    return asn1.seq(*rdns)


def sign(key: Any, data: bytes, digest: str = "sha256", *, pss: bool = False) -> bytes:
    """The signature proper; ECDSA as its SEQUENCE."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(HASHES[digest]))
    if pss:
        pad = padding.PSS(padding.MGF1(HASHES[digest]), HASHES[digest].digest_size)
        return key.sign(data, pad, HASHES[digest])
    return key.sign(data, padding.PKCS1v15(), HASHES[digest])


def signature_algorithm(key: Any, digest: str = "sha256") -> bytes:
    """AlgorithmIdentifier with the digest in its name, as certificates and CSRs have it."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return asn1.algorithm(ED25519)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return asn1.algorithm(ECDSA_OIDS[digest])
    return asn1.algorithm(RSA_SIGNATURE_OIDS[digest], asn1.null())


def extension(dotted: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = asn1.tlv(asn1.BOOLEAN, b"\xff") if critical else b""
    return asn1.seq(asn1.oid(dotted), flag, asn1.octets(value))


def key_usage(*names: str) -> bytes:
    order = ("digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment",
             "keyAgreement", "keyCertSign", "cRLSign")
    value = sum(0x80 >> order.index(bit) for bit in names)
    unused = (value & -value).bit_length() - 1
    return extension("2.5.29.15", asn1.bits(bytes([value]), unused), critical=True)


def basic_constraints(ca: bool) -> bytes:
    value = asn1.seq(asn1.tlv(asn1.BOOLEAN, b"\xff") if ca else b"")
    return extension("2.5.29.19", value, critical=True)


def key_identifier(key: Any) -> bytes:
    """SHA-1 over the bits of the public key (RFC 5280 section 4.2.1.2)."""
    return hashlib.sha1(asn1.read(spki(key))[1].content[1:]).digest()


def subject_key_identifier(key: Any) -> bytes:
    return extension("2.5.29.14", asn1.octets(key_identifier(key)))


def authority_key_identifier(key: Any, *, critical: bool = False) -> bytes:
    value = asn1.seq(asn1.tlv(0x80, key_identifier(key)))
    return extension("2.5.29.35", value, critical=critical)


def certificate(
    subject: str | bytes,
    key: Any,
    *,
    issuer: Party | None = None,
    serial: int | None = None,
    version: int = 2,
    times: str = "utc",
    not_before: datetime | None = None,
    days: int = 365,
    extensions: Iterable[bytes] = (),
    digest: str = "sha256",
) -> bytes:
    """A certificate in DER, self-signed unless `issuer` is given.

    Args:
        version: 0 is X.509 v1, 2 is v3; 3 is the "v4" that one old client makes.
        times: ``utc`` or ``generalized``.
    """
    subject = name(subject) if isinstance(subject, str) else subject
    issuer_name = issuer.subject if issuer else subject
    issuer_key = issuer.key if issuer else key
    start = not_before or datetime.now(UTC) - timedelta(hours=1)
    clock = {"utc": asn1.utc_time, "generalized": asn1.generalized_time}[times]
    public = spki(key)
    parts = [
        asn1.tlv(0xA0, asn1.integer(version)) if version else b"",
        asn1.integer(serial if serial is not None else int.from_bytes(os.urandom(15), "big")),
        signature_algorithm(issuer_key, digest),
        issuer_name,
        asn1.seq(clock(start), clock(start + timedelta(days=days))),
        subject,
        public,
    ]
    listed = tuple(extensions)
    if listed:
        parts.append(asn1.tlv(0xA3, asn1.seq(*listed)))
    tbs = asn1.seq(*parts)
    return asn1.seq(tbs, signature_algorithm(issuer_key, digest),
                    asn1.bits(sign(issuer_key, tbs, digest)))


@dataclass(frozen=True)
class Party:
    """A key with its certificate: a client, a CA or an RA of the tests."""

    key: Any = field(repr=False)
    der: bytes = field(repr=False)

    @property
    def _tbs(self) -> list[asn1.Element]:
        parts = list(asn1.read(self.der)[0])
        return parts[1:] if parts[0].tag == 0xA0 else parts

    @property
    def serial(self) -> int:
        return self._tbs[0].integer

    @property
    def issuer(self) -> bytes:
        return self._tbs[2].raw

    @property
    def subject(self) -> bytes:
        return self._tbs[4].raw

    @property
    def issuer_and_serial(self) -> bytes:
        return asn1.seq(self.issuer, self._tbs[0].raw)

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_der_x509_certificate(self.der)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def party(subject: str, key: Any, **shape: Any) -> Party:
    """A party with a self-signed certificate (or one by `issuer`)."""
    return Party(key, certificate(subject, key, **shape))


@functools.cache
def ca(subject: str = "CN=Forge CA,O=Lab") -> Party:
    """A CA that signs and decrypts for itself."""
    key = rsa_key(f"ca {subject}")
    return party(subject, key, serial=1, days=3650, extensions=(
        basic_constraints(True),
        key_usage("digitalSignature", "keyEncipherment", "keyCertSign", "cRLSign"),
        subject_key_identifier(key)))


@functools.cache
def ra(usage: str = "both") -> Party:
    """An RA of the CA; `usage` is ``sign``, ``encrypt`` or ``both``."""
    bits = {"sign": ("digitalSignature",), "encrypt": ("keyEncipherment",),
            "both": ("digitalSignature", "keyEncipherment")}[usage]
    key = rsa_key(f"ra {usage}")
    return party(f"CN=Forge RA {usage},O=Lab", key, issuer=ca(), extensions=(
        key_usage(*bits), subject_key_identifier(key)))


@functools.cache
def client(key_name: str = "client") -> Party:
    """A device with the self-signed certificate of a first enrollment."""
    key = rsa_key(key_name)
    return party("CN=device,O=Lab", key, extensions=(
        key_usage("digitalSignature", "keyEncipherment"), subject_key_identifier(key)))


def issue(issuer: Party, csr: bytes, **shape: Any) -> bytes:
    """The certificate that a CA makes of a CSR, without looking at anything else in it."""
    info = asn1.read(csr)[0]
    public = x509.load_der_x509_csr(csr).public_key()
    return certificate(info[1].raw, public, issuer=issuer, **shape)


def challenge_attribute(*values: bytes) -> bytes:
    return asn1.seq(asn1.oid(CHALLENGE_PASSWORD), asn1.set_of(*values))


def csr(
    key: Any,
    subject: str | bytes = "CN=device,O=Lab",
    *,
    challenge: str | None = None,
    challenge_tag: int = asn1.PRINTABLE,
    attributes: Iterable[bytes] = (),
    digest: str = "sha256",
    signing_key: Any = None,
    flip: bool = False,
) -> bytes:
    """A PKCS #10 request in DER.

    Args:
        attributes: whole Attributes in DER, beside the challenge.
        signing_key: another key than the one that is asked for.
        flip: break one bit of the signature.
    """
    listed = list(attributes)
    if challenge is not None:
        listed.append(challenge_attribute(asn1.text(challenge, challenge_tag)))
    info = asn1.seq(
        asn1.integer(0),
        name(subject) if isinstance(subject, str) else subject,
        spki(key),
        asn1.tlv(0xA0, *sorted(listed)),
    )
    signature = bytearray(sign(signing_key or key, info, digest))
    if flip:
        signature[len(signature) // 2] ^= 1
    return asn1.seq(info, signature_algorithm(signing_key or key, digest),
                    asn1.bits(bytes(signature)))


def crl(issuer: Party, *serials: int, digest: str = "sha256") -> bytes:
    """A CRL in DER that names those serial numbers."""
    start = datetime.now(UTC) - timedelta(hours=1)
    entries = [asn1.seq(asn1.integer(serial), asn1.utc_time(start)) for serial in serials]
    tbs = asn1.seq(
        asn1.integer(1), signature_algorithm(issuer.key, digest), issuer.subject,
        asn1.utc_time(start), asn1.utc_time(start + timedelta(days=7)),
        asn1.seq(*entries) if entries else b"",
        asn1.tlv(0xA0, asn1.seq(extension("2.5.29.20", asn1.integer(1)),
                                authority_key_identifier(issuer.key))))
    return asn1.seq(tbs, signature_algorithm(issuer.key, digest),
                    asn1.bits(sign(issuer.key, tbs, digest)))
