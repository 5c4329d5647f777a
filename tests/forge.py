"""An independent builder and reader of SCEP messages for the tests.

Nothing here imports the package under test. `Forge` builds any pkiMessage, right or wrong,
from knobs; `read_message` reads what the package writes, insists on its signature, and opens
its envelope. test_forge.py proves both against ``openssl cms``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests import forge_tlv as asn1
from tests.forge_envelope import DATA, ENVELOPED_DATA, SIGNED_DATA, Envelope, Recipient
from tests.forge_keys import (
    DIGEST_OIDS,
    ECDSA_OIDS,
    ED25519,
    HASHES,
    MGF1,
    RSA_ENCRYPTION,
    RSA_SIGNATURE_OIDS,
    RSASSA_PSS,
    Party,
    ca,
    client,
    csr,
    key_identifier,
    sign,
)
from tests.forge_reader import ATTRIBUTES, Message, Opened, open_envelope, read_message

__all__ = [
    "ATTRIBUTES",
    "DATA",
    "ENVELOPED_DATA",
    "SIGNED_DATA",
    "Envelope",
    "Forge",
    "Message",
    "Opened",
    "Recipient",
    "attribute",
    "cert_rep",
    "certs_only",
    "issuer_and_serial",
    "issuer_and_subject",
    "now",
    "open_envelope",
    "pkcs_req",
    "read_message",
]


def attribute(dotted_or_name: str, *values: bytes) -> bytes:
    """One Attribute with any number of values, each in its encoding."""
    dotted = ATTRIBUTES.get(dotted_or_name, dotted_or_name)
    return asn1.seq(asn1.oid(dotted), asn1.set_of(*values))


@dataclass(frozen=True, kw_only=True)
class Forge:
    """A pkiMessage as its sender would make it; every field is a knob.

    Text fields become PrintableStrings; bytes are the whole encoding of the value; None
    leaves the attribute out.
    """

    signer: Party = field(default_factory=client)
    envelope: Envelope | None = None
    content: bytes | None = None
    """The octets of eContent, where that is not the envelope's encoding."""
    no_content: bool = False
    econtent_type: str = DATA
    econtent: bytes | None = None
    """The whole of eContent with its [0], instead."""

    message_type: str | bytes | None = "19"
    transaction_id: str | bytes | None = "0123456789ABCDEF0123456789ABCDEF"
    transaction_id_tag: int = asn1.PRINTABLE
    sender_nonce: bytes | None = field(default_factory=lambda: os.urandom(16))
    recipient_nonce: bytes | None = None
    pki_status: str | bytes | None = None
    fail_info: str | bytes | None = None
    fail_info_text: str | bytes | None = None
    signing_time: bytes | None = None
    """A whole UTCTime or GeneralizedTime."""
    content_type_attribute: str | None = None
    message_digest: bytes | None = None
    algorithm_protection: bool = False

    drop: frozenset[str] = frozenset()
    """Names of attributes that are left out."""
    replace_values: tuple[tuple[str, tuple[bytes, ...]], ...] = ()
    """Pairs of an attribute's name and its values, each in its encoding."""
    extra: tuple[bytes, ...] = ()
    """Whole Attributes, as `attribute` makes them."""
    order: str = "sorted"
    """``sorted`` as DER wants it, or ``reversed``."""
    sign_over: str = "as sent"
    """``as sent`` (with tag 0x31), ``sorted``, ``A0`` (tag as sent) or ``content``."""
    no_signed_attributes: bool = False
    attributes_style: asn1.Style = asn1.DER
    after_signing: tuple[bytes, bytes] | None = None
    """Octets in the signed attributes, and what replaces them once they are signed."""

    digest: str = "sha256"
    digest_parameters: bytes | None = None
    """Parameters of the digest algorithms: absent, or an encoding."""
    attribute_digest: str | None = None
    """Digest that messageDigest is made with, where another is announced."""
    signature_digest: str | None = None
    """Digest under the signature, where another is announced."""
    signature: str | bytes = "rsaEncryption"
    """``rsaEncryption``, ``combined``, ``pss``, or the whole AlgorithmIdentifier."""
    combined_digest: str | None = None
    signature_value: bytes | None = None

    sid: str | bytes = "issuer"
    """``issuer``, ``ski``, or the whole encoding."""
    signer_info_version: int | None = None
    signer_infos: int = 1
    certificates: tuple[bytes, ...] | None = None
    """The bag; the signer's certificate alone if not given, and no field at all if empty."""
    digest_algorithms: tuple[str, ...] | None = None
    version: int = 1
    outer_type: str = SIGNED_DATA
    style: asn1.Style = asn1.DER
    chunks_swapped: bool = False
    """Swap the first two pieces of eContent behind the signer's back."""
    trailing: bytes = b""

    def but(self, **changes: Any) -> Forge:
        """The same message with some knobs turned."""
        return replace(self, **changes)

    @cached_property
    def octets(self) -> bytes:
        """The value octets of eContent, which are what is digested."""
        if self.content is not None:
            return self.content
        return b"" if self.envelope is None else self.envelope.build()

    def attributes(self) -> list[bytes]:
        """The signed attributes in the order they are sent."""
        overrides = dict(self.replace_values)
        listed = []
        for attribute_name, value in self._values():
            if attribute_name in self.drop:
                continue
            if attribute_name in overrides:
                listed.append(attribute(attribute_name, *overrides[attribute_name]))
            elif value is not None:
                listed.append(attribute(attribute_name, value))
        listed.extend(self.extra)
        return sorted(listed, reverse=self.order == "reversed")

    def _values(self) -> Iterable[tuple[str, bytes | None]]:
        digest = self.message_digest
        if digest is None:
            digest = hashlib.new(self.attribute_digest or self.digest, self.octets).digest()
        yield "content_type", asn1.oid(self.content_type_attribute or self.econtent_type)
        yield "message_digest", asn1.octets(digest)
        yield "message_type", _text(self.message_type)
        yield "transaction_id", _text(self.transaction_id, self.transaction_id_tag)
        yield "sender_nonce", _octets(self.sender_nonce)
        yield "recipient_nonce", _octets(self.recipient_nonce)
        yield "pki_status", _text(self.pki_status)
        yield "fail_info", _text(self.fail_info)
        yield "fail_info_text", _text(self.fail_info_text, asn1.UTF8)
        yield "signing_time", self.signing_time
        if self.algorithm_protection:
            # CMSAlgorithmProtection (RFC 6211): [1] is the signature algorithm.
            yield "algorithm_protection", asn1.seq(
                self._digest_algorithm(), asn1.tlv(0xA1, *_inner(self._signature_algorithm())))

    def _digest_algorithm(self, digest: str | None = None) -> bytes:
        return asn1.algorithm(DIGEST_OIDS[digest or self.digest], self.digest_parameters)

    def _signature_algorithm(self) -> bytes:
        if isinstance(self.signature, bytes):
            return self.signature
        digest = self.combined_digest or self.digest
        key = self.signer.key
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return asn1.algorithm(ED25519)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return asn1.algorithm(ECDSA_OIDS[digest])
        match self.signature:
            case "rsaEncryption":
                return asn1.algorithm(RSA_ENCRYPTION, asn1.null())
            case "combined":
                return asn1.algorithm(RSA_SIGNATURE_OIDS[digest], asn1.null())
            case "pss":
                inner = asn1.algorithm(DIGEST_OIDS[digest])
                size = HASHES[digest].digest_size
                return asn1.algorithm(RSASSA_PSS, asn1.seq(
                    asn1.tlv(0xA0, inner), asn1.tlv(0xA1, asn1.algorithm(MGF1, inner)),
                    asn1.tlv(0xA2, asn1.integer(size))))
        raise ValueError(self.signature)

    def _sid(self) -> bytes:
        if isinstance(self.sid, bytes):
            return self.sid
        if self.sid == "ski":
            return asn1.tlv(0x80, key_identifier(self.signer.key))
        return self.signer.issuer_and_serial

    def signer_info(self) -> bytes:
        """The whole SignerInfo."""
        style = self.style
        listed = self.attributes()
        sent = self.attributes_style.tlv(0xA0, *listed)
        match self.sign_over:
            case _ if self.no_signed_attributes:
                signed = self.octets
            case "as sent":
                signed = asn1.tlv(asn1.SET, *listed)
            case "sorted":
                signed = asn1.set_of(*listed)
            case "A0":
                signed = sent
            case "content":
                signed = self.octets
        if self.after_signing is not None:
            old, new = self.after_signing
            assert sent.count(old) == 1
            assert len(old) == len(new)
            sent = sent.replace(old, new)
        value = self.signature_value
        if value is None:
            value = sign(self.signer.key, signed, self.signature_digest or self.digest,
                         pss=self.signature == "pss")
        version = self.signer_info_version
        if version is None:
            version = 3 if self.sid == "ski" else 1
        return style.seq(
            asn1.integer(version), self._sid(), self._digest_algorithm(),
            b"" if self.no_signed_attributes else sent,
            self._signature_algorithm(), style.octets(value))

    def _econtent(self) -> bytes:
        if self.econtent is not None:
            return self.econtent
        if self.no_content or (self.envelope is None and self.content is None):
            return b""
        style, octets = self.style, self.octets
        if self.chunks_swapped:
            assert style.chunk
            parts = asn1.pieces(octets, style.chunk)
            parts[0], parts[1] = parts[1], parts[0]
            octets = b"".join(parts)
        return style.tlv(0xA0, style.octets(octets))

    def build(self) -> bytes:
        """The message's octets."""
        style = self.style
        digests = self.digest_algorithms
        if digests is None:
            digests = (self.digest,) if self.signer_infos else ()
        bag = (self.signer.der,) if self.certificates is None else self.certificates
        signed = style.seq(
            asn1.integer(self.version),
            style.set(*(self._digest_algorithm(digest) for digest in digests)),
            style.seq(asn1.oid(self.econtent_type), self._econtent()),
            style.tlv(0xA0, *bag) if bag else b"",
            style.set(*([self.signer_info()] * self.signer_infos)))
        return style.seq(asn1.oid(self.outer_type), style.tlv(0xA0, signed)) + self.trailing


def _text(value: str | bytes | None, tag: int = asn1.PRINTABLE) -> bytes | None:
    return asn1.text(value, tag) if isinstance(value, str) else value


def _octets(value: bytes | None) -> bytes | None:
    return None if value is None else asn1.octets(value)


def _inner(element: bytes) -> tuple[bytes, ...]:
    return tuple(child.raw for child in asn1.read(element))


def pkcs_req(
    recipient: Party,
    *,
    signer: Party | None = None,
    key: Any = None,
    subject: str = "CN=device,O=Lab",
    challenge: str | None = "secret",
    request: bytes | None = None,
    cipher: str = "aes128-cbc",
    envelope: dict[str, Any] | None = None,
    to: dict[str, Any] | None = None,
    **knobs: Any,
) -> Forge:
    """A PKCSReq as a well-behaved client sends it, with knobs.

    Args:
        recipient: who opens the envelope.
        key: of the CSR, if not the signer's.
        request: the messageData, instead of a CSR made here.
        envelope: knobs of Envelope.
        to: knobs of Recipient.
    """
    signer = signer or client()
    if request is None:
        request = csr(key or signer.key, subject, challenge=challenge)
    shape = {"recipients": (Recipient(party=recipient, **(to or {})),), "cipher": cipher,
             "style": knobs.get("style", asn1.DER), "plaintext": request} | (envelope or {})
    return Forge(signer=signer, envelope=Envelope(**shape), **knobs)


def issuer_and_subject(issuer: bytes, subject: bytes) -> bytes:
    """messageData of CertPoll, from two Names."""
    return asn1.seq(issuer, subject)


def issuer_and_serial(issuer: bytes, serial: int) -> bytes:
    """messageData of GetCert and GetCRL."""
    return asn1.seq(issuer, asn1.integer(serial))


def certs_only(
    certificates: Sequence[bytes] = (),
    *,
    crls: Sequence[bytes] = (),
    version: int = 1,
    signer: Party | None = None,
    econtent: bytes = b"",
    wrap: bool = True,
    style: asn1.Style = asn1.DER,
) -> bytes:
    """The degenerate SignedData, in the order given (RFC 8894 section 3.4).

    Args:
        signer: signs it, which some servers do.
        econtent: the whole of eContent with its [0].
    """
    infos: tuple[bytes, ...] = ()
    digests: tuple[bytes, ...] = ()
    if signer is not None:
        template = Forge(signer=signer, message_type=None, transaction_id=None,
                         sender_nonce=None)
        infos, digests = (template.signer_info(),), (asn1.algorithm(DIGEST_OIDS["sha256"]),)
    signed = style.seq(
        asn1.integer(version), style.set(*digests),
        style.seq(asn1.oid(DATA), econtent),
        style.tlv(0xA0, *certificates) if certificates else b"",
        style.tlv(0xA1, *crls) if crls else b"",
        style.set(*infos))
    if not wrap:
        return signed
    return style.seq(asn1.oid(SIGNED_DATA), style.tlv(0xA0, signed))


def cert_rep(
    request: Message,
    *,
    server: Party | None = None,
    certificates: Sequence[bytes] = (),
    data: bytes | None = None,
    status: str | None = "0",
    to: Party | None = None,
    envelope: dict[str, Any] | None = None,
    **knobs: Any,
) -> Forge:
    """A CertRep that answers `request`, with knobs.

    Args:
        certificates: the certificates of a SUCCESS.
        data: the messageData, instead of those certificates.
        to: whom the envelope is for, if not the request's signer.
    """
    knobs = {"signer": server or ca(), "message_type": "3", "pki_status": status,
             "transaction_id": request.transaction_id,
             "recipient_nonce": request.sender_nonce} | knobs
    if status == "0":
        plain = certs_only(certificates) if data is None else data
        party = to or Party(_PublicOnly(request.signer_public_key), request.signer_certificate)
        shape = {"plaintext": plain, "recipients": (Recipient(party=party),),
                 "style": knobs.get("style", asn1.DER)} | (envelope or {})
        knobs.setdefault("envelope", Envelope(**shape))
    elif status == "2":
        knobs.setdefault("fail_info", "2")
    return Forge(**knobs)


@dataclass(frozen=True)
class _PublicOnly:
    """Stands for a key whose private half somebody else has."""

    public: Any

    def public_key(self) -> Any:
        return self.public


def now() -> datetime:
    return datetime.now(UTC)
