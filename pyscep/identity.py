"""Who signs and who decrypts, and the few parts of a certificate that SCEP needs.

Devices sign their first request with certificates that strict parsers refuse (X.509 v1
with GeneralizedTime, "v4", serial numbers of 33 octets). RawCertificate reads what the
protocol needs straight from the DER, so that such a peer still enrolls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificatePublicKeyTypes,
    PublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from pyscep.codec import der
from pyscep.codec.shapes import ShapeBuilder
from pyscep.errors import DecodeError
from pyscep.lazy import lazy

_SUBJECT_KEY_IDENTIFIER = der.oid("2.5.29.14")

# What a certificate looks like as far as it is read here.
_USUAL = (
    ShapeBuilder()
    .open(der.SEQUENCE)
    .open(der.SEQUENCE)
    .optional(0xA0, lambda shape: shape.pass_over())
    .take(der.INTEGER, "serialNumber")
    .pass_over()
    .take(der.SEQUENCE, "issuer")
    .pass_over()
    .take(der.SEQUENCE, "subject")
    .take(der.SEQUENCE, "subjectPublicKeyInfo")
    .leave()
    .pass_over()
    .pass_over()
    .close()
    .build()
)
MAX_SERIAL_BYTES: Final = 40
"""RFC 5280 allows 20; devices with 33 were seen."""
X509_FAULTS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)
"""What cryptography raises, at once or when a part is first looked at, for X.509 it refuses.

Of some certificates it only warns; where warnings are errors, it refuses those too.
"""


@dataclass(frozen=True, slots=True)
class IssuerAndSerial:
    """How CMS names a certificate (RFC 5652 section 10.2.4)."""

    issuer: bytes
    """Issuer name, DER."""
    serial_number: int

    def to_der(self) -> bytes:
        return der.sequence(self.issuer, der.integer(self.serial_number))


class RawCertificate:
    """A certificate by its DER, of which only the parts that SCEP needs are read.

    Args:
        data: one Certificate in DER.

    Raises:
        DecodeError: it has not the shape of a certificate.
    """

    def __init__(self, data: bytes) -> None:
        at = _USUAL.read(data, 0)
        self._set(*(_parts(der.read(data)) if at is None else _usual_parts(data, at)))

    @classmethod
    def from_node(cls, node: der.Node) -> RawCertificate:
        """A certificate that stands inside a message whose bounds have been checked."""
        self = cls.__new__(cls)
        data = node.raw
        at = _USUAL.find(data)
        self._set(*(_parts(node) if at is None else _usual_parts(data, at)))
        return self

    @classmethod
    def from_certificate(cls, certificate: x509.Certificate) -> RawCertificate:
        return cls(certificate.public_bytes(Encoding.DER))

    def _set(
        self, data: bytes, serial: bytes, issuer: bytes, subject: bytes, spki: bytes, size: int
    ) -> None:
        if size > MAX_SERIAL_BYTES:
            raise DecodeError("serialNumber of a certificate is too long")
        self.der = data
        self.serial_der = serial
        """The serialNumber, an INTEGER, encoded."""
        self.issuer = issuer
        """The issuer Name, encoded."""
        self.subject = subject
        """The subject Name, encoded."""
        self.spki = spki
        """The SubjectPublicKeyInfo, encoded."""

    @lazy
    def serial_number(self) -> int:
        return int.from_bytes(der.content_of(self.serial_der), "big", signed=True)

    @property
    def issuer_and_serial(self) -> IssuerAndSerial:
        return IssuerAndSerial(self.issuer, self.serial_number)

    @property
    def is_self_issued(self) -> bool:
        """Subject and issuer are the same name; says nothing about who signed."""
        return self.subject == self.issuer

    @lazy
    def subject_key_identifier(self) -> bytes | None:
        """The subjectKeyIdentifier extension's value, if there is one."""
        tbs = _tbs_fields(der.read(self.der))
        extensions = next((part for part in tbs[6:] if part.tag == 0xA3), None)
        if extensions is None:
            return None
        for extension in extensions.fields(0xA3, 1, "extensions")[0].children():
            parts = extension.fields(der.SEQUENCE, 2, "Extension")
            if parts[0].raw == _SUBJECT_KEY_IDENTIFIER:
                value = parts[-1].octets("extnValue")
                return der.read(value).octets("subjectKeyIdentifier")
        return None

    @lazy
    def public_key(self) -> PublicKeyTypes:
        """The key, loaded once.

        Raises:
            DecodeError: the key is malformed or of a kind that is not supported.
        """
        try:
            return load_der_public_key(self.spki)
        except X509_FAULTS as error:
            raise DecodeError(f"public key of a certificate: {error}") from error

    @lazy
    def certificate(self) -> x509.Certificate:
        """The whole certificate in cryptography's form.

        Raises:
            DecodeError: cryptography refuses it; the raw parts can be used all the same.
        """
        try:
            return x509.load_der_x509_certificate(self.der)
        except X509_FAULTS as error:
            raise DecodeError(f"certificate: {error}") from error

    @lazy
    def sha256(self) -> bytes:
        """Fingerprint over the DER, 32 bytes."""
        digest = hashes.Hash(hashes.SHA256())
        digest.update(self.der)
        return digest.finalize()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RawCertificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"RawCertificate(sha256={self.sha256.hex()})"


def _parts(node: der.Node) -> tuple[bytes, bytes, bytes, bytes, bytes, int]:
    """The arguments of ``RawCertificate._set``, for any form that BER allows."""
    tbs = _tbs_fields(node)
    if len(tbs) < 6:
        raise DecodeError("TBSCertificate is too short", offset=node.start)
    serial = tbs[0].expect(der.INTEGER, "serialNumber")
    return (
        node.raw,
        serial.raw,
        tbs[2].expect(der.SEQUENCE, "issuer").raw,
        tbs[4].expect(der.SEQUENCE, "subject").raw,
        tbs[5].expect(der.SEQUENCE, "subjectPublicKeyInfo").raw,
        serial.end - serial.content,
    )


def _usual_parts(data: bytes, at: Sequence[int]) -> tuple[bytes, bytes, bytes, bytes, bytes, int]:
    """The same where ``_USUAL`` found them."""
    return (
        data,
        data[at[0] : at[2]],
        data[at[3] : at[5]],
        data[at[6] : at[8]],
        data[at[9] : at[11]],
        at[2] - at[1],
    )


def _tbs_fields(node: der.Node) -> list[der.Node]:
    """The fields of a TBSCertificate from serialNumber on."""
    fields = node.expect(der.SEQUENCE, "Certificate").children()
    if len(fields) != 3:
        raise DecodeError("a Certificate has three parts", offset=node.start)
    tbs = fields[0].expect(der.SEQUENCE, "TBSCertificate").children()
    return tbs[1:] if tbs and tbs[0].tag == 0xA0 else tbs


@dataclass(frozen=True)
class Identity:
    """A certificate with its private key: who signs, who decrypts.

    The private key is any object that is registered with cryptography's ABCs
    (``RSAPrivateKey``, ``EllipticCurvePrivateKey``, ...), so keys in an HSM or a KMS fit.
    Load a key once and keep the Identity: loading costs a hundred times a signature.

    Raises:
        ValueError: the key does not belong to the certificate.
    """

    certificate: x509.Certificate
    private_key: Any = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    """Certificates of the issuers, nearest first."""

    def __post_init__(self) -> None:
        if self.private_key.public_key() != self.certificate.public_key():
            raise ValueError(
                "the private key does not belong to the certificate: give the key that "
                "the certificate was issued for"
            )

    @lazy
    def raw(self) -> RawCertificate:
        """The parts of the certificate that go into messages."""
        return RawCertificate.from_certificate(self.certificate)

    @classmethod
    def of(cls, certificate: RawCertificate, private_key: Any) -> Identity:
        """A certificate that has been read already, with its key.

        Raises:
            ValueError, DecodeError: as Identity and ``RawCertificate.certificate``.
        """
        self = cls(certificate.certificate, private_key)
        self.__dict__["raw"] = certificate
        return self

    @classmethod
    def from_pem(
        cls,
        certificate: bytes | str,
        private_key: bytes | str,
        *,
        password: bytes | None = None,
    ) -> Identity:
        """Load from PEM text.

        Args:
            certificate: one certificate, or the certificate followed by its chain.
            private_key: PKCS #8, PKCS #1 or SEC 1.
            password: of an encrypted key.

        Raises:
            ValueError: not PEM, wrong password, or the key is another certificate's.
        """
        if isinstance(certificate, str):
            certificate = certificate.encode()
        if isinstance(private_key, str):
            private_key = private_key.encode()
        leaf, *chain = x509.load_pem_x509_certificates(certificate)
        key = load_pem_private_key(private_key, password)
        return cls(leaf, key, tuple(chain))


def public_key_der(key: PublicKeyTypes | CertificatePublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
