"""SignedData with exactly one signer (RFC 5652 section 5): verifying and signing."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pyscep.cms import signatures, signing
from pyscep.cms.algorithms import DIGESTS, AlgorithmPolicy, Digest, digest_from
from pyscep.cms.keys import check_public_key
from pyscep.cms.signed_reader import (
    ALGORITHM_PROTECTION,
    CONTENT_TYPE,
    ID_DATA,
    ID_SIGNED_DATA,
    MAX_ATTRIBUTES,
    MAX_CERTIFICATE_BYTES,
    MAX_CERTIFICATES,
    MAX_TRAILING,
    MESSAGE_DIGEST,
    SIGNING_TIME,
    SignedData,
    SignerInfo,
    attributes_of,
    read_any_signed_data,
    read_signed_data,
    signed_data_from,
)
from pyscep.codec import der
from pyscep.codec.space import Octets, Space
from pyscep.codec.templates import Template
from pyscep.errors import DecodeError, SignatureError
from pyscep.identity import Identity, RawCertificate

__all__ = [
    "ALGORITHM_PROTECTION",
    "CONTENT_TYPE",
    "ID_DATA",
    "ID_SIGNED_DATA",
    "MAX_ATTRIBUTES",
    "MAX_CERTIFICATES",
    "MAX_CERTIFICATE_BYTES",
    "MAX_TRAILING",
    "MESSAGE_DIGEST",
    "SIGNING_TIME",
    "SignedData",
    "SignerInfo",
    "VerifiedMessage",
    "attribute",
    "attributes_of",
    "find_certificate",
    "read_any_signed_data",
    "read_signed_data",
    "sign",
    "sign_in_place",
    "signed_data_from",
    "verify",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedMessage:
    """What a verified SignedData says."""

    content: Octets | None
    attributes: Mapping[bytes, der.Node]
    """The single value of each signed attribute, by encoded OID."""
    signer: RawCertificate
    digest: str
    signature_algorithm: str
    certificates: tuple[der.Node, ...]
    """The bag of certificates: not covered by the signature, never to be trusted."""


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
    if digest.name not in policy.digests:
        policy.require_digest(digest.name)
    algorithm = signatures.signature_algorithm_from(info.signature_algorithm)
    signer = find_certificate(
        info.sid,
        _bag_of(message) if signers is None else signers,
    )
    if signer is None:
        raise SignatureError("the certificate that the signature names is not there")
    key = signer.public_key
    check_public_key(key, min_rsa_bits=policy.min_rsa_bits, max_rsa_bits=max_rsa_bits)
    attributes = info.attributes
    content = message.content_in_place
    _check_content(attributes, message.content_type, content or b"", digest)
    if ALGORITHM_PROTECTION in attributes:
        _check_protection(info, attributes[ALGORITHM_PROTECTION])
    _check_signature(key, algorithm, digest, info.signed_attributes, info.signature)
    return VerifiedMessage(
        content=content,
        attributes=attributes,
        signer=signer,
        digest=digest.name,
        signature_algorithm=algorithm.name,
        certificates=message.certificates,
    )


def _bag_of(message: SignedData) -> list[RawCertificate]:
    """The X.509 certificates of the bag that are of a sane size and shape."""
    certificates = []
    for node in message.certificates:
        if node.tag == der.SEQUENCE and node.end - node.start <= MAX_CERTIFICATE_BYTES:
            try:
                certificates.append(RawCertificate.from_node(node))
            except DecodeError:  # nobody signed the bag: rubbish in it is no fault
                continue
    return certificates


def find_certificate(sid: der.Node, candidates: Sequence[RawCertificate]) -> RawCertificate | None:
    """The certificate that a SignerIdentifier or RecipientIdentifier names.

    By issuer and serial number, or by subjectKeyIdentifier; never by position.
    """
    if sid.tag == der.SEQUENCE:
        parts = sid.data[sid.content : sid.end]
        for candidate in candidates:
            if candidate.issuer + candidate.serial_der == parts:
                return candidate
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
    attributes: Mapping[bytes, der.Node], content_type: bytes, content: Octets, digest: Digest
) -> None:
    if CONTENT_TYPE not in attributes:
        raise SignatureError("the contentType attribute is missing")
    kind = attributes[CONTENT_TYPE]
    if kind.data[kind.start : kind.end] != content_type:
        raise SignatureError("the contentType attribute is not the eContentType")
    if MESSAGE_DIGEST not in attributes:
        raise SignatureError("the messageDigest attribute is missing")
    message_digest = attributes[MESSAGE_DIGEST]
    if message_digest.tag != der.OCTET_STRING:
        raise SignatureError("the messageDigest attribute is no OCTET STRING")
    if not hmac.compare_digest(message_digest.value, digest.new(content).digest()):
        raise SignatureError("messageDigest is not the digest of the content")


def _check_signature(
    key: Any,
    algorithm: signatures.SignatureAlgorithm,
    digest: Digest,
    attributes: der.Node,
    signature: bytes,
) -> None:
    received = None
    data, start = attributes.data, attributes.start
    if data[start + 1] != 0x80:
        received = b"\x31" + data[start + 1 : attributes.end]
        try:
            signatures.verify(key, algorithm, digest, signature, received)
            return
        except SignatureError:
            pass
    # Signed as DER but sent in another form or order (RFC 5652 section 5.4).
    canonical = der.set_of(*(der.reencode(child) for child in attributes.children()))
    if canonical == received:
        raise SignatureError("the signature does not verify")
    signatures.verify(key, algorithm, digest, signature, canonical)


def _check_protection(info: SignerInfo, protection: der.Node) -> None:
    """CMSAlgorithmProtection must name the algorithms of the SignerInfo (RFC 6211)."""
    parts = protection.fields(der.SEQUENCE, 2, "CMSAlgorithmProtection")
    digest = parts[0].fields(der.SEQUENCE, 1, "digestAlgorithm")[0].raw
    if digest != info.digest_algorithm.children()[0].raw:
        raise SignatureError("CMSAlgorithmProtection names another digest")
    if parts[1].tag == 0xA1:
        signature = parts[1].fields(0xA1, 1, "signatureAlgorithm")[0].raw
        if signature != info.signature_algorithm.children()[0].raw:
            raise SignatureError("CMSAlgorithmProtection names another signature algorithm")


attribute = der.attribute
_CONTENT_TYPE_ATTRIBUTE: Final = attribute(CONTENT_TYPE, ID_DATA)
_VERSION_1: Final = der.integer(1)
_MESSAGE_DIGEST_HEADS: Final = {
    digest.name: attribute(MESSAGE_DIGEST, der.octet_string(bytes(digest.size)))[: -digest.size]
    for digest in DIGESTS.values()
}


def _template(*, content: bool, bag: bool) -> Template:
    """A ContentInfo with SignedData by one signer, with and without its optional parts."""
    econtent = (0xA0, (der.OCTET_STRING, "content"))
    certificates = (0xA0, "certificates")
    signer_info = (
        der.SEQUENCE,
        _VERSION_1,
        (der.SEQUENCE, "issuer", "serialNumber"),
        "digestAlgorithm",
        (0xA0, "signedAttrs"),
        "signatureAlgorithm",
        (der.OCTET_STRING, "signature"),
    )
    signed_data = (
        der.SEQUENCE,
        _VERSION_1,
        (der.SET, "digestAlgorithms"),
        (der.SEQUENCE, ID_DATA, *([econtent] if content else [])),
        *([certificates] if bag else []),
        (der.SET, signer_info),
    )
    return Template((der.SEQUENCE, ID_SIGNED_DATA, (0xA0, signed_data)))


_TEMPLATES: Final = {
    (content, bag): _template(content=content, bag=bag)
    for content in (True, False)
    for bag in (True, False)
}


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
    scheme = signing.scheme_for(key, digest, combined=combined_identifier)
    signed = _signed_attributes(attributes, scheme.digest, content or b"")
    raw = identity.raw
    bag = raw.der if certificates is None else b"".join(sorted(certificates))
    optional: tuple[bytes, ...] = () if content is None else (content,)
    if bag:
        optional += (bag,)
    return _TEMPLATES[content is not None, bag != b""].fill(
        scheme.digest.identifier,
        *optional,
        raw.issuer,
        raw.serial_der,
        scheme.digest.identifier,
        signed,
        scheme.identifier,
        scheme.sign(key, der.tlv(der.SET, signed)),
    )


def sign_in_place(
    size: int,
    write: Callable[[memoryview], None],
    attributes: Sequence[bytes],
    identity: Identity,
    digest: Digest,
) -> bytes:
    """``sign`` for a content of many megabytes, which is written where it will stand.

    Args:
        size: of the content, in bytes.
        write: writes it to the start of what it is given. There is more room behind it, for the
            certificate and the signature, which may be written to meanwhile.
    """
    key = identity.private_key
    scheme = signing.scheme_for(key, digest, combined=False)
    raw = identity.raw

    def around(signed: bytes, signature: bytes) -> tuple[bytes, bytes]:
        return _TEMPLATES[True, True].around(
            "content",
            size,
            scheme.digest.identifier,
            raw.der,
            raw.issuer,
            raw.serial_der,
            scheme.digest.identifier,
            signed,
            scheme.identifier,
            signature,
        )

    # Only lengths matter before the content is there; an ECDSA signature may get shorter.
    signature = bytes(signing.longest_signature(raw.public_key))
    before, after = around(_signed_attributes(attributes, scheme.digest, b""), signature)
    space = Space(len(before) + size + len(after))
    start, end = len(before), len(before) + size
    write(space.view[start:])
    signed = _signed_attributes(attributes, scheme.digest, space.view[start:end])
    before, after = around(signed, scheme.sign(key, der.tlv(der.SET, signed)))
    start -= len(before)
    space.view[start : start + len(before)] = before
    space.view[end : end + len(after)] = after
    return space.cut(start, end + len(after))


def _signed_attributes(attributes: Sequence[bytes], digest: Digest, content: Octets) -> bytes:
    """The content octets of signedAttrs: a SET OF, so sorted (RFC 5652 section 5.3)."""
    message_digest = _MESSAGE_DIGEST_HEADS[digest.name] + digest.new(content).digest()
    return b"".join(sorted((_CONTENT_TYPE_ATTRIBUTE, message_digest, *attributes)))
