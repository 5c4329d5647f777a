"""SignedData with exactly one signer (RFC 5652 section 5), as pkiMessages use it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from pyscep.cms import signatures
from pyscep.cms.algorithms import AlgorithmPolicy, Digest, digest_from
from pyscep.cms.keys import check_public_key
from pyscep.codec import der
from pyscep.errors import DecodeError, SignatureError
from pyscep.identity import Identity, RawCertificate

ID_DATA: Final = der.oid("1.2.840.113549.1.7.1")
ID_SIGNED_DATA: Final = der.oid("1.2.840.113549.1.7.2")
CONTENT_TYPE: Final = der.oid("1.2.840.113549.1.9.3")
MESSAGE_DIGEST: Final = der.oid("1.2.840.113549.1.9.4")
SIGNING_TIME: Final = der.oid("1.2.840.113549.1.9.5")
ALGORITHM_PROTECTION: Final = der.oid("1.2.840.113549.1.9.52")

MAX_CERTIFICATES: Final = 32
MAX_CERTIFICATE_BYTES: Final = 16 * 1024
MAX_ATTRIBUTES: Final = 64
MAX_TRAILING: Final = 8
"""Bytes behind a message that are overlooked: some HTTP stacks add a line break or a zero."""


@dataclass(frozen=True, kw_only=True)
class SignerInfo:
    """One SignerInfo as received, not verified."""

    version: int
    sid: der.Node
    digest_algorithm: der.Node
    signed_attributes: der.Node | None
    signature_algorithm: der.Node
    signature: bytes

    @cached_property
    def attributes(self) -> Mapping[bytes, der.Node]:
        """The single value of each signed attribute, by encoded OID; not verified.

        Raises:
            DecodeError: an attribute appears twice, or has no value or several.
        """
        return {} if self.signed_attributes is None else attributes_of(self.signed_attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedData:
    """A SignedData as received, not verified."""

    version: int
    content_type: bytes
    content_node: der.Node | None
    certificates: tuple[der.Node, ...]
    crls: tuple[der.Node, ...]
    signers: tuple[SignerInfo, ...]

    @property
    def content(self) -> bytes | None:
        """The octets that are signed; None if eContent is absent.

        The digest of a content that is not an OCTET STRING is over its value octets too
        (RFC 5652 section 5.4).
        """
        node = self.content_node
        if node is None:
            return None
        if self.content_type != ID_DATA and node.tag == der.SEQUENCE:
            return node.value
        return node.octets("eContent")

    @property
    def nested(self) -> bytes:
        """The encoding that the content is, within its octets or in their place (PKCS #7)."""
        node = self.content_node
        if node is not None and node.tag == der.SEQUENCE:
            return node.raw
        return self.content or b""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedMessage:
    """What a verified SignedData says."""

    content: bytes | None
    attributes: Mapping[bytes, der.Node]
    """The single value of each signed attribute, by encoded OID."""
    signer: RawCertificate
    digest: str
    signature_algorithm: str
    certificates: tuple[der.Node, ...]
    """The bag of certificates: not covered by the signature, never to be trusted."""


def read_signed_data(data: bytes) -> SignedData:
    """Read a ContentInfo with SignedData, in BER; nothing is verified.

    Raises:
        DecodeError: it is not one.
    """
    info = der.read(data, max_trailing=MAX_TRAILING).fields(der.SEQUENCE, 2, "ContentInfo")
    if info[0].raw != ID_SIGNED_DATA:
        raise DecodeError("the outer content type is not signedData", offset=info[0].start)
    return signed_data_from(info[1].fields(0xA0, 1, "content")[0])


def signed_data_from(node: der.Node) -> SignedData:
    """Read the fields of a SignedData."""
    fields = node.fields(der.SEQUENCE, 4, "SignedData")
    version = fields[0].integer("SignedData.version")
    fields[1].expect(der.SET, "digestAlgorithms")
    encapsulated = fields[2].fields(der.SEQUENCE, 1, "encapContentInfo")
    content = None
    if len(encapsulated) > 1:
        content = encapsulated[1].fields(0xA0, 1, "eContent")[0]
    certificates: tuple[der.Node, ...] = ()
    crls: tuple[der.Node, ...] = ()
    rest = fields[3:]
    if rest and rest[0].tag == 0xA0:
        certificates = tuple(rest.pop(0).children())
    if rest and rest[0].tag == 0xA1:
        crls = tuple(rest.pop(0).children())
    if len(rest) != 1:
        raise DecodeError("SignedData without signerInfos", offset=node.start)
    if len(certificates) > MAX_CERTIFICATES:
        raise DecodeError("too many certificates", offset=node.start)
    return SignedData(
        version=version,
        content_type=encapsulated[0].expect(der.OID, "eContentType").raw,
        content_node=content,
        certificates=certificates,
        crls=crls,
        signers=tuple(
            _signer_info(child) for child in rest[0].fields(der.SET, 0, "signerInfos")[:16]
        ),
    )


def _signer_info(node: der.Node) -> SignerInfo:
    fields = node.fields(der.SEQUENCE, 5, "SignerInfo")
    attributes = fields[3] if fields[3].tag == 0xA0 else None
    rest = fields[4:] if attributes is not None else fields[3:]
    if len(rest) < 2:
        raise DecodeError("SignerInfo is too short", offset=node.start)
    return SignerInfo(
        version=fields[0].integer("SignerInfo.version"),
        sid=fields[1],
        digest_algorithm=fields[2],
        signed_attributes=attributes,
        signature_algorithm=rest[0],
        signature=rest[1].octets("signature"),
    )


def attributes_of(node: der.Node) -> Mapping[bytes, der.Node]:
    """The attributes of a SignerInfo, each once and with a single value.

    Raises:
        DecodeError: an attribute appears twice, or has no value or several.
    """
    attributes: dict[bytes, der.Node] = {}
    for attribute in node.children():
        parts = attribute.fields(der.SEQUENCE, 2, "Attribute")
        oid = parts[0].expect(der.OID, "attribute type").raw
        values = parts[1].fields(der.SET, 1, "attribute values")
        if len(values) != 1:
            raise DecodeError("a signed attribute with several values", offset=attribute.start)
        if oid in attributes:
            raise DecodeError("a signed attribute appears twice", offset=attribute.start)
        attributes[oid] = values[0]
        if len(attributes) > MAX_ATTRIBUTES:
            raise DecodeError("too many signed attributes", offset=node.start)
    return attributes


def verify(
    message: SignedData,
    policy: AlgorithmPolicy,
    *,
    signers: Sequence[RawCertificate] | None = None,
    max_rsa_bits: int,
    content_types: frozenset[bytes] = frozenset({ID_DATA}),
) -> VerifiedMessage:
    """Verify the one signature of a SignedData.

    Args:
        policy: which digests and key sizes are accepted.
        signers: the certificates that may sign (client side); None takes the signer from the
            message itself (server side), whose authority is another question.
        max_rsa_bits: the largest modulus that is worked with, in bits.
        content_types: encoded OIDs that eContentType may be.

    Raises:
        DecodeError: the structure is not that of a pkiMessage.
        AlgorithmError: an algorithm or key that the policy refuses.
        SignatureError: the signature is wrong, or its certificate is not there.
    """
    if len(message.signers) != 1:
        raise DecodeError(f"{len(message.signers)} signers where there must be one")
    info = message.signers[0]
    if message.content_type not in content_types:
        raise DecodeError("eContentType is not id-data")
    if info.signed_attributes is None:
        raise DecodeError("a pkiMessage has signed attributes")
    digest = digest_from(info.digest_algorithm)
    policy.require_digest(digest.name)
    algorithm = signatures.signature_algorithm_from(info.signature_algorithm)
    signer = find_certificate(
        info.sid,
        signers
        if signers is not None
        else [RawCertificate.from_node(node) for node in _bounded(message.certificates)],
    )
    if signer is None:
        raise SignatureError("the certificate that the signature names is not there")
    key = signer.public_key
    check_public_key(key, min_rsa_bits=policy.min_rsa_bits, max_rsa_bits=max_rsa_bits)
    attributes = info.attributes
    content = message.content
    _check_content(attributes, message.content_type, content or b"", digest)
    _check_signature(key, algorithm, digest, info)
    return VerifiedMessage(
        content=content,
        attributes=attributes,
        signer=signer,
        digest=digest.name,
        signature_algorithm=algorithm.name,
        certificates=message.certificates,
    )


def _bounded(certificates: tuple[der.Node, ...]) -> list[der.Node]:
    """The X.509 certificates of the bag that are of a sane size."""
    return [
        node
        for node in certificates
        if node.tag == der.SEQUENCE and node.after - node.start <= MAX_CERTIFICATE_BYTES
    ]


def find_certificate(sid: der.Node, candidates: Sequence[RawCertificate]) -> RawCertificate | None:
    """The certificate that a SignerIdentifier or RecipientIdentifier names.

    By issuer and serial number, or by subjectKeyIdentifier; never by position.
    """
    if sid.tag == der.SEQUENCE:
        issuer, serial = sid.fields(der.SEQUENCE, 2, "IssuerAndSerialNumber")[:2]
        name, number = issuer.raw, serial.integer("serialNumber")
        for candidate in candidates:
            if candidate.serial_number == number and candidate.issuer == name:
                return candidate
        return None
    identifier = sid.octets("subjectKeyIdentifier", tag=0x80)
    for candidate in candidates:
        if candidate.subject_key_identifier == identifier:
            return candidate
    return None


def _check_content(
    attributes: Mapping[bytes, der.Node], content_type: bytes, content: bytes, digest: Digest
) -> None:
    attribute = attributes.get(CONTENT_TYPE)
    if attribute is None or attribute.raw != content_type:
        raise SignatureError("the contentType attribute is not the eContentType")
    message_digest = attributes.get(MESSAGE_DIGEST)
    if message_digest is None or message_digest.tag != der.OCTET_STRING:
        raise SignatureError("the messageDigest attribute is missing")
    if not hmac.compare_digest(message_digest.value, digest.of(content)):
        raise SignatureError("messageDigest is not the digest of the content")


def _check_signature(
    key: Any, algorithm: signatures.SignatureAlgorithm, digest: Digest, info: SignerInfo
) -> None:
    attributes = info.signed_attributes
    assert attributes is not None  # noqa: S101 - for the type checker: verify() has looked
    _check_protection(info)
    received = None
    if not attributes.is_indefinite:
        received = b"\x31" + attributes.raw[1:]
        try:
            signatures.verify(key, algorithm, digest, info.signature, received)
            return
        except SignatureError:
            pass
    # Signed as DER but sent in another form or order (RFC 5652 section 5.4).
    canonical = der.set_of(*(der.reencode(child) for child in attributes.children()))
    if canonical == received:
        raise SignatureError("the signature does not verify")
    signatures.verify(key, algorithm, digest, info.signature, canonical)


def _check_protection(info: SignerInfo) -> None:
    """CMSAlgorithmProtection must name the algorithms of the SignerInfo (RFC 6211)."""
    protection = info.attributes.get(ALGORITHM_PROTECTION)
    if protection is None:
        return
    parts = protection.fields(der.SEQUENCE, 2, "CMSAlgorithmProtection")
    digest = parts[0].fields(der.SEQUENCE, 1, "digestAlgorithm")[0].raw
    if digest != info.digest_algorithm.children()[0].raw:
        raise SignatureError("CMSAlgorithmProtection names another digest")
    if parts[1].tag == 0xA1:
        signature = parts[1].fields(0xA1, 1, "signatureAlgorithm")[0].raw
        if signature != info.signature_algorithm.children()[0].raw:
            raise SignatureError("CMSAlgorithmProtection names another signature algorithm")


_CONTENT_TYPE_ATTRIBUTE: Final = der.sequence(CONTENT_TYPE, der.set_of(ID_DATA))
_VERSION_1: Final = der.integer(1)


def sign(
    content: bytes | None,
    attributes: Sequence[bytes],
    identity: Identity,
    digest: Digest,
    *,
    combined_identifier: bool = False,
    certificates: Sequence[bytes] | None = None,
) -> bytes:
    """Make a signed ContentInfo in DER.

    Args:
        content: the octets of eContent; ``b""`` for an empty one, None to leave it out.
        attributes: encoded Attributes beside contentType and messageDigest.
        identity: who signs; its certificate goes along.
        digest: of content and signature; Ed25519 takes SHA-512 all the same.
        combined_identifier: name the signature sha256WithRSAEncryption (and so on) rather
            than rsaEncryption.
        certificates: what goes into the bag instead of the signer's certificate alone, DER.

    Raises:
        TypeError: the key is of a kind that can't sign.
    """
    key = identity.private_key
    digest = signatures.digest_for(key, digest)
    message_digest = der.octet_string(digest.of(content or b""))
    signed = der.set_of(
        _CONTENT_TYPE_ATTRIBUTE,
        der.sequence(MESSAGE_DIGEST, der.set_of(message_digest)),
        *attributes,
    )
    signature = signatures.sign(key, digest, signed)
    raw = identity.raw
    signer_info = der.sequence(
        _VERSION_1,
        raw.issuer_and_serial_der,
        digest.identifier,
        b"\xa0" + signed[1:],
        signatures.identifier_for(key, digest, combined=combined_identifier),
        der.octet_string(signature),
    )
    encapsulated = ID_DATA
    if content is not None:
        encapsulated += der.context(0, der.octet_string(content))
    bag = (raw.der,) if certificates is None else sorted(certificates)
    return der.sequence(
        ID_SIGNED_DATA,
        der.context(
            0,
            der.sequence(
                _VERSION_1,
                der.set_of(digest.identifier),
                der.sequence(encapsulated),
                der.context(0, *bag) if bag else b"",
                der.set_of(signer_info),
            ),
        ),
    )


def attribute(oid: bytes, value: bytes) -> bytes:
    """An encoded Attribute with one value."""
    return der.sequence(oid, der.set_of(value))
