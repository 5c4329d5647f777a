"""Certificate signing requests with a challengePassword (PKCS #10, RFC 2986)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from pyscep.cms import signatures, signing
from pyscep.cms.algorithms import DIGESTS, AlgorithmPolicy
from pyscep.cms.certificates import extension, signed
from pyscep.cms.keys import check_public_key
from pyscep.codec import der
from pyscep.codec.shapes import ShapeBuilder
from pyscep.codec.templates import Template
from pyscep.errors import DecodeError
from pyscep.identity import X509_FAULTS, public_key_der
from pyscep.lazy import lazy

CHALLENGE_PASSWORD: Final = der.oid("1.2.840.113549.1.9.7")
EXTENSION_REQUEST: Final = der.oid("1.2.840.113549.1.9.14")
EXTENSION_REQUESTS: Final = (EXTENSION_REQUEST, der.oid("1.3.6.1.4.1.311.2.1.14"))
"""By its PKCS #9 name, and by Microsoft's."""
NAME_VALUE_PAIR: Final = der.oid("1.3.6.1.4.1.311.13.2.1")
MAX_CHALLENGE_BYTES: Final = 32 * 1024
"""Intune's challenges have 4 to 24 KiB."""

_USUAL: Final = (
    ShapeBuilder()
    .open(der.SEQUENCE)
    .take_open(der.SEQUENCE, "info")
    .pass_over()
    .take(der.SEQUENCE, "subject")
    .take(der.SEQUENCE, "subjectPKInfo")
    .take_optional(0xA0, "attributes")
    .close()
    .take(der.SEQUENCE, "signatureAlgorithm")
    .take(der.BIT_STRING, "signature")
    .close()
    .build()
)


class CertificateRequest:
    """A CertificationRequest, read but not verified until ``verify`` says so.

    Args:
        data: one CertificationRequest in DER.

    Raises:
        DecodeError: it is not one, or has more than one challengePassword.
    """

    def __init__(self, data: bytes) -> None:
        at = _USUAL.read(data, 0)
        if at is None:
            at = _any_form(data)
        self.der = data
        self._signed = data[at[0] : at[2]]
        self.subject = data[at[3] : at[5]]
        """The subject Name, DER."""
        self.spki = data[at[6] : at[8]]
        """The SubjectPublicKeyInfo, DER."""
        self._algorithm = der.Node(data, at[12], at[13], at[14])
        self._signature = data[at[16] : at[17]]
        self.challenge_password: str | None = None
        """A secret: not in the repr, and not for logs."""
        self.challenge_tag: str | None = None
        """The ASN.1 type that the challengePassword came in, such as ``UTF8String``."""
        self._extension_requests = 0
        if at[11]:  # RFC 2986 section 4.1 wants them; the strict reader refuses a CSR without
            self._attributes = der.Node(data, at[9], at[10], at[11])
            self._read_attributes(self._attributes)
        # The tolerant index must not make a CSR valid that a strict reader refuses.
        try:
            self.certificate_request = x509.load_der_x509_csr(self.der)
        except X509_FAULTS as error:
            raise DecodeError(f"CSR: {error}") from error

    def _read_attributes(self, attributes: der.Node) -> None:
        usual = der.usual_attributes(attributes)
        if usual is not None:
            for oid in EXTENSION_REQUESTS:
                self._extension_requests += oid in usual
            if CHALLENGE_PASSWORD in usual:
                self._read_challenge(usual[CHALLENGE_PASSWORD])
            return
        for attribute in attributes.children():
            kind, values = attribute.fields(der.SEQUENCE, 2, "Attribute")[:2]
            if kind.raw in EXTENSION_REQUESTS:
                self._extension_requests += 1
            if kind.raw != CHALLENGE_PASSWORD:
                continue
            members = values.fields(der.SET, 1, "challengePassword")
            if len(members) != 1 or self.challenge_tag is not None:
                raise DecodeError("more than one challengePassword", offset=attribute.start)
            self._read_challenge(members[0])

    def _read_challenge(self, value: der.Node) -> None:
        if value.end - value.content > MAX_CHALLENGE_BYTES:
            raise DecodeError("challengePassword is too long", offset=value.start)
        self.challenge_password = value.text("challengePassword")
        self.challenge_tag = der.STRING_NAMES[value.tag]

    @lazy
    def public_key(self) -> PublicKeyTypes:
        """The key to certify, loaded once.

        Raises:
            DecodeError: malformed, or of an unknown kind.
        """
        try:
            return load_der_public_key(self.spki)
        except X509_FAULTS as error:
            raise DecodeError(f"public key of the CSR: {error}") from error

    @lazy
    def extensions(self) -> x509.Extensions:
        """The extensions that are asked for.

        Raises:
            DecodeError: malformed, or in several attributes: some readers take the first one,
                as OpenSSL does, others the last or all (RFC 2985 section 5.4.2 has one value).
        """
        if self._extension_requests > 1:
            raise DecodeError("extensions in more than one attribute")
        try:
            return self.certificate_request.extensions
        except X509_FAULTS as error:
            raise DecodeError(f"extensions of the CSR: {error}") from error

    @lazy
    def name_value_pairs(self) -> tuple[tuple[str, str], ...]:
        """What Windows adds as enrollment name-value pairs, such as its ValidityPeriod.

        Raises:
            DecodeError: malformed.
        """
        pairs = []
        for attribute in self._attributes.children():
            oid, values = attribute.fields(der.SEQUENCE, 2, "Attribute")[:2]
            if oid.raw == NAME_VALUE_PAIR:
                for pair in values.fields(der.SET, 1, "name-value pairs"):
                    name, value = pair.fields(der.SEQUENCE, 2, "name-value pair")[:2]
                    pairs.append((name.text("name"), value.text("value")))
        return tuple(pairs)

    @lazy
    def subject_name(self) -> x509.Name:
        """The subject in cryptography's form.

        Raises:
            DecodeError: a value is outside its string type.
        """
        try:
            return self.certificate_request.subject
        except X509_FAULTS as error:
            raise DecodeError(f"subject of the CSR: {error}") from error

    def adopt_key(self, spki: bytes, key: PublicKeyTypes) -> bool:
        """Use a key object that is loaded already, if it is the same key.

        A public key costs more the first time it is used; a device signs its first message
        with the key it asks a certificate for.
        """
        if spki != self.spki:
            return False
        self.__dict__["public_key"] = key
        return True

    def verify(self, policy: AlgorithmPolicy, *, key_checked: bool = False) -> None:
        """Check the key against the policy and the CSR's own signature.

        Args:
            key_checked: the key has passed ``check_public_key`` already.

        Raises:
            AlgorithmError: a key or an algorithm that the policy refuses.
            SignatureError: the signature is wrong.
        """
        key = self.public_key
        if not key_checked:
            check_public_key(
                key, min_rsa_bits=policy.min_rsa_bits, max_rsa_bits=policy.max_rsa_bits
            )
        signatures.verify_signed(
            self._signed, self._algorithm, self._signature, key, policy.digests
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificateRequest) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<CertificateRequest of {len(self.der)} bytes>"


def _any_form(data: bytes) -> Sequence[int]:
    """As ``_USUAL``: where the parts of an unusual CSR are, or what is wrong with it."""
    parts = der.read(data).fields(der.SEQUENCE, 3, "CertificationRequest")
    info = parts[0].fields(der.SEQUENCE, 3, "CertificationRequestInfo")
    attributes = next((part for part in info[3:] if part.tag == 0xA0), None)
    return (
        *parts[0].place,
        *info[1].expect(der.SEQUENCE, "subject").place,
        *info[2].expect(der.SEQUENCE, "subjectPKInfo").place,
        *((0, 0, 0) if attributes is None else attributes.place),
        *parts[1].expect(der.SEQUENCE, "signatureAlgorithm").place,
        *parts[2].expect(der.BIT_STRING, "signature").place,
    )


def read(data: bytes) -> CertificateRequest:
    """Read a CSR in DER.

    Raises:
        DecodeError: it is not one.
    """
    return CertificateRequest(data)


def create(
    key: Any,
    subject: x509.Name | str,
    *,
    challenge_password: str | None = None,
    sans: Iterable[x509.GeneralName] = (),
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    digest: str = "sha256",
) -> CertificateRequest:
    """Make a signed CSR.

    The challengePassword is a PrintableString where its characters allow it, as Windows and
    NDES want, and a UTF8String otherwise.

    Args:
        key: the private key to certify.
        subject: a Name, or its RFC 4514 text such as ``CN=printer-7,O=Example``.
        challenge_password: the secret that authorises the request.
        sans: names for the subjectAltName extension.
        extensions: further extensions to ask for, each with its criticality.
        digest: of the CSR's signature.

    Raises:
        ValueError: an RFC 4514 text that is none; an unknown digest.
        TypeError: the key can't sign.
    """
    if isinstance(subject, str):
        subject = x509.Name.from_rfc4514_string(subject)
    if digest not in DIGESTS:
        raise ValueError(f"unknown digest {digest!r}")
    scheme = signing.scheme_for(key, DIGESTS[digest], combined=True)
    wanted = list(extensions)
    names = list(sans)
    if names:
        wanted.insert(0, (x509.SubjectAlternativeName(names), False))
    attributes = []
    if challenge_password is not None:
        printable = der.is_printable(challenge_password)
        tag = der.PRINTABLE_STRING if printable else der.UTF8_STRING
        attributes.append(der.attribute(CHALLENGE_PASSWORD, der.string(tag, challenge_password)))
    if wanted:
        encoded = der.sequence(*(_extension(kind, critical) for kind, critical in wanted))
        attributes.append(der.attribute(EXTENSION_REQUEST, encoded))
    info = _INFO.fill(
        subject.public_bytes(), public_key_der(key.public_key()), b"".join(sorted(attributes))
    )
    request = CertificateRequest(signed(info, scheme, key))
    request.__dict__["subject_name"] = subject
    return request


_INFO: Final = Template(
    (der.SEQUENCE, der.integer(0), "subject", "subjectPKInfo", (0xA0, "attributes"))
)


def _extension(kind: x509.ExtensionType, critical: bool) -> bytes:
    return extension(der.oid(kind.oid.dotted_string), kind.public_bytes(), critical=critical)
