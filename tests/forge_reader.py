"""The reading half of forge.py: pkiMessages and envelopes, strictly checked.

Nothing here imports the package under test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests import forge_tlv as asn1
from tests.forge_envelope import (
    CIPHER_NAMES,
    ENVELOPED_DATA,
    RSAES_OAEP,
    SIGNED_DATA,
    decrypt,
)
from tests.forge_keys import DIGEST_OIDS, HASHES, Party, key_identifier

ATTRIBUTES = {
    "message_type": "2.16.840.1.113733.1.9.2",
    "pki_status": "2.16.840.1.113733.1.9.3",
    "fail_info": "2.16.840.1.113733.1.9.4",
    "sender_nonce": "2.16.840.1.113733.1.9.5",
    "recipient_nonce": "2.16.840.1.113733.1.9.6",
    "transaction_id": "2.16.840.1.113733.1.9.7",
    "fail_info_text": "1.3.6.1.5.5.7.24.1",
    "content_type": "1.2.840.113549.1.9.3",
    "message_digest": "1.2.840.113549.1.9.4",
    "signing_time": "1.2.840.113549.1.9.5",
    "algorithm_protection": "1.2.840.113549.1.9.52",
    "microsoft_error": "1.3.6.1.4.1.311.21.33",
}
DIGEST_NAMES = {dotted: digest for digest, dotted in DIGEST_OIDS.items()}


@dataclass(frozen=True, kw_only=True)
class Message:
    """A pkiMessage that was read; the signature was verified unless that was declined."""

    raw: bytes = field(repr=False)
    version: int
    digest_algorithms: tuple[str, ...]
    content: bytes | None = field(repr=False)
    """The value octets of eContent; None if it is absent."""
    econtent_type: str
    bag: tuple[bytes, ...] = field(repr=False)
    signer_info: asn1.Element = field(repr=False)
    signer_certificate: bytes = field(repr=False)
    attributes: tuple[tuple[str, tuple[asn1.Element, ...]], ...] = field(repr=False)
    """Pairs of dotted OID and values, in the order sent."""

    def value(self, attribute_name: str) -> asn1.Element | None:
        """The single value of an attribute, or None if the attribute is absent."""
        dotted = ATTRIBUTES[attribute_name]
        found = [values for kind, values in self.attributes if kind == dotted]
        assert len(found) <= 1, f"{attribute_name} stands twice"
        if not found:
            return None
        assert len(found[0]) == 1, f"{attribute_name} has {len(found[0])} values"
        return found[0][0]

    def text(self, attribute_name: str) -> str | None:
        value = self.value(attribute_name)
        return None if value is None else value.text

    @property
    def message_type(self) -> str | None:
        return self.text("message_type")

    @property
    def status(self) -> str | None:
        return self.text("pki_status")

    @property
    def fail_info(self) -> str | None:
        return self.text("fail_info")

    @property
    def transaction_id(self) -> str | None:
        return self.text("transaction_id")

    @property
    def sender_nonce(self) -> bytes | None:
        value = self.value("sender_nonce")
        return None if value is None else value.content

    @property
    def recipient_nonce(self) -> bytes | None:
        value = self.value("recipient_nonce")
        return None if value is None else value.content

    @property
    def digest(self) -> str:
        return DIGEST_NAMES[self.signer_info[2][0].oid]

    @property
    def signature_algorithm(self) -> str:
        return self.signer_info[4][0].oid

    @property
    def signer_public_key(self) -> Any:
        return load_der_public_key(_public_key_info(self.signer_certificate))

    def open(self, *parties: Party) -> Opened:
        """Decrypt the envelope with the first of `parties` that it names."""
        assert self.content is not None, "no eContent, so no envelope"
        return open_envelope(self.content, *parties)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What stood in an envelope, and how it was sealed."""

    plaintext: bytes = field(repr=False)
    cipher: str
    oaep: bool
    version: int
    recipients: tuple[asn1.Element, ...] = field(repr=False)
    content_type: str
    ciphertext: bytes = field(repr=False)

    @property
    def certificates(self) -> list[x509.Certificate]:
        """The certificates of a certificates-only messageData, in their order."""
        return [x509.load_der_x509_certificate(part) for part in _degenerate(self.plaintext)[0]]

    @property
    def crls(self) -> list[bytes]:
        return _degenerate(self.plaintext)[1]


def _degenerate(data: bytes) -> tuple[list[bytes], list[bytes]]:
    info = asn1.read(data)
    assert info[0].oid == SIGNED_DATA
    parts = {element.tag: [child.raw for child in element] for element in info[1][0]
             if element.tag in (0xA0, 0xA1)}
    return parts.get(0xA0, []), parts.get(0xA1, [])


def read_message(
    data: bytes, *, der: bool = False, known: Sequence[bytes] = (), verify: bool = True
) -> Message:
    """Read a pkiMessage.

    Args:
        der: insist on DER from the first octet to the last.
        known: certificates among which the signer's may stand if the message brings none.
        verify: insist on messageDigest and signature.
    """
    if der:
        asn1.assert_der(data)
    outer = asn1.read(data)
    assert outer[0].oid == SIGNED_DATA
    signed = list(outer[1][0])
    version, digests, encap, *rest = signed
    bag = next((element for element in rest if element.tag == 0xA0), None)
    certificates = tuple(child.raw for child in bag) if bag else ()
    assert rest[-1].tag == asn1.SET
    assert len(rest[-1]) == 1, "one SignerInfo is expected"
    info = rest[-1][0]
    content = encap[1][0].octets if len(encap) > 1 else None
    attributes = tuple((part[0].oid, tuple(part[1])) for part in info[3])
    message = Message(
        raw=data, version=version.integer,
        digest_algorithms=tuple(part[0].oid for part in digests),
        content=content, econtent_type=encap[0].oid, bag=certificates, signer_info=info,
        signer_certificate=_by_sid(info[1], (*certificates, *known)), attributes=attributes)
    if verify:
        _verify(message)
    return message


def _by_sid(sid: asn1.Element, certificates: Sequence[bytes]) -> bytes:
    for der in certificates:
        party = Party(None, der)
        if sid.tag == asn1.SEQUENCE and sid.raw == party.issuer_and_serial:
            return der
        if sid.tag == 0x80:
            public = load_der_public_key(_public_key_info(der))
            if key_identifier(public) == sid.content:
                return der
    raise AssertionError("the signer's certificate is not there")


def _public_key_info(certificate: bytes) -> bytes:
    parts = list(asn1.read(certificate)[0])
    return parts[6 if parts[0].tag == 0xA0 else 5].raw


def _verify(message: Message) -> None:
    digest = hashlib.new(message.digest, message.content or b"").digest()
    value = message.value("message_digest")
    assert value is not None
    assert value.content == digest, "messageDigest"
    content_type = message.value("content_type")
    assert content_type is not None
    assert content_type.oid == message.econtent_type
    signed = b"\x31" + message.signer_info[3].raw[1:]
    signature = message.signer_info[5].octets
    key = message.signer_public_key
    algorithm = HASHES[message.digest]
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(algorithm))
    else:
        key.verify(signature, signed, padding.PKCS1v15(), algorithm)


def open_envelope(content: bytes, *parties: Party) -> Opened:
    """Open EnvelopedData in its ContentInfo with RSA and CBC."""
    outer = asn1.read(content)
    assert outer[0].oid == ENVELOPED_DATA
    version, infos, encrypted = (part for part in outer[1][0] if part.tag != 0xA1)
    party, info = _addressed(infos, parties)
    oaep = info[2][0].oid == RSAES_OAEP
    key = party.key.decrypt(info[3].octets, _oaep(info[2]) if oaep else padding.PKCS1v15())
    cipher = CIPHER_NAMES[encrypted[1][0].oid]
    ciphertext = encrypted[2].octets
    return Opened(
        plaintext=decrypt(cipher, key, encrypted[1][1].content, ciphertext), cipher=cipher,
        oaep=oaep, version=version.integer, recipients=tuple(infos),
        content_type=encrypted[0].oid, ciphertext=ciphertext)


def _addressed(infos: asn1.Element, parties: Sequence[Party]) -> tuple[Party, asn1.Element]:
    for info in infos:
        for party in parties:
            named = (party.issuer_and_serial, asn1.tlv(0x80, key_identifier(party.key)))
            if info.tag == asn1.SEQUENCE and info[1].raw in named:
                return party, info
    raise AssertionError("the envelope is for somebody else")


def _oaep(algorithm: asn1.Element) -> padding.OAEP:
    digest = mgf = "sha1"
    for part in algorithm[1]:
        if part.tag == 0xA0:
            digest = DIGEST_NAMES[part[0][0].oid]
        elif part.tag == 0xA1:
            mgf = DIGEST_NAMES[part[0][1][0].oid]
    return padding.OAEP(padding.MGF1(HASHES[mgf]), HASHES[digest], None)
