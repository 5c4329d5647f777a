"""Envelopes: to whom, with which algorithms, and the plaintext where a key opens them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from pyscep.cms.algorithms import (
    ContentCipher,
    KeyTransport,
    cipher_from,
    key_transport_from,
    split_identifier,
)
from pyscep.cms.enveloped_data import (
    ID_ENCRYPTED_DATA,
    EnvelopedData,
    Recipient,
    read_enveloped_data,
)
from pyscep.cms.signed_data import ID_DATA, find_certificate
from pyscep.codec import der
from pyscep.codec.space import Octets
from pyscep.errors import AlgorithmError, ProtocolError
from pyscep.identity import RawCertificate
from pyscep.inspect import encoding
from pyscep.inspect.names import name_text
from pyscep.inspect.report import Draft

_WEAK_CIPHERS: Final = {
    "des-cbc": "single DES: 56 bits, forbidden by RFC 8894 section 2.9",
    "des-ede3-cbc": "3DES: an old cipher with 64-bit blocks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningKey:
    """A private key to open envelopes with, and its certificate where that is known."""

    private_key: Any = field(repr=False)
    certificate: RawCertificate | None = None


def opening_keys(keys: Sequence[Any]) -> tuple[OpeningKey, ...]:
    """Keys, or pairs of certificate and key, in one form.

    Raises:
        TypeError: something else.
    """
    found = []
    for key in keys:
        match key:
            case (x509.Certificate() as certificate, private_key):
                raw = RawCertificate.from_certificate(certificate)
                found.append(OpeningKey(private_key=private_key, certificate=raw))
            case _ if hasattr(key, "public_key"):
                found.append(OpeningKey(private_key=key))
            case _:
                raise TypeError("keys are private keys, or pairs of certificate and private key")
    return tuple(found)


def open_envelope(data: bytes, keys: Sequence[OpeningKey], draft: Draft) -> bytes | None:
    """Describe an EnvelopedData and decrypt it if one of the keys does.

    Unlike the server this tries every key on every recipient: the one who asks has the keys.

    Returns:
        The plaintext, or None.
    """
    try:
        envelope = read_enveloped_data(data)
    except ProtocolError as error:
        draft.fields["problem"] = str(error)
        draft.remark("bad-envelope", f"the content is no envelope that can be read: {error}")
        return None
    ber = encoding.features(der.read(data), encrypted=envelope.encrypted_node)
    draft.fields["envelope_ber_features"] = ber
    if ber:
        draft.remark("ber-envelope", f"the envelope is BER: {', '.join(ber)}")
    if envelope.content_type != ID_DATA:
        name = "encryptedData" if envelope.content_type == ID_ENCRYPTED_DATA else "another"
        draft.remark("content-type", f"the encrypted content type is {name}, not data")
    cipher, iv = _cipher(envelope, draft)
    transports = _recipients(envelope, draft)
    plaintext, reason = None, "no key was given"
    if keys:
        plaintext, reason = _try_keys(envelope, transports, keys, cipher, iv)
    draft.fields["decrypted"] = {"value": plaintext is not None, "reason": reason}
    if plaintext is not None:
        draft.fields["plaintext_bytes"] = len(plaintext)
    return plaintext


def _cipher(envelope: EnvelopedData, draft: Draft) -> tuple[ContentCipher | None, bytes]:
    try:
        cipher, iv = cipher_from(envelope.content_algorithm)
    except ProtocolError as error:
        draft.fields["cipher"] = _dotted(envelope.content_algorithm)
        draft.remark("unknown-cipher", error.reason)
        return None, b""
    draft.fields["cipher"] = cipher.name
    if cipher.name in _WEAK_CIPHERS:
        draft.remark("weak-cipher", _WEAK_CIPHERS[cipher.name])
    if len(envelope.content_algorithm.children()) != 2 or not any(iv):
        draft.remark("no-iv", "the content is encrypted without an IV, or with one of zeros")
    return cipher, iv


def _recipients(envelope: EnvelopedData, draft: Draft) -> list[KeyTransport | None]:
    draft.fields["recipients"] = envelope.recipient_count
    if envelope.recipient_count > 1:
        draft.remark("several-recipients", f"{envelope.recipient_count} recipients")
    if len(envelope.recipients) != envelope.recipient_count:
        draft.remark("other-recipients", "a recipient is reached by other means than key transport")
    transports = [_transport(recipient, draft) for recipient in envelope.recipients]
    if envelope.recipients:
        first = transports[0]
        draft.fields["key_transport"] = (
            first.name if first else _dotted(envelope.recipients[0].key_encryption_algorithm)
        )
    draft.fields["recipient_ids"] = [_recipient_text(one, draft) for one in envelope.recipients]
    return transports


def _transport(recipient: Recipient, draft: Draft) -> KeyTransport | None:
    try:
        transport = key_transport_from(recipient.key_encryption_algorithm)
    except ProtocolError as error:
        draft.remark("unknown-key-transport", error.reason)
        return None
    if transport.name != "rsaEncryption":
        draft.remark(
            "oaep",
            f"the key travels by RSAES-OAEP with {transport.digest} and {transport.mgf_digest}",
        )
    elif len(recipient.key_encryption_algorithm.children()) == 1:
        draft.remark("no-null", "rsaEncryption without its NULL in the recipient")
    return transport


def _recipient_text(recipient: Recipient, draft: Draft) -> str:
    text = identifier_text(recipient.rid)
    if text.startswith("subjectKeyIdentifier"):
        draft.remark("recipient-by-key", "a recipient is named by its subjectKeyIdentifier")
    return text


def identifier_text(identifier: der.Node) -> str:
    """A SignerIdentifier or RecipientIdentifier in one line."""
    try:
        if identifier.tag == der.SEQUENCE:
            issuer, serial = identifier.fields(der.SEQUENCE, 2, "IssuerAndSerialNumber")[:2]
            return f"serial {serial.value.hex()} of {name_text(issuer.raw)}"
        key = identifier.octets("subjectKeyIdentifier", tag=0x80)
        return f"subjectKeyIdentifier {key.hex()}"
    except ProtocolError as error:
        return f"(unreadable: {error})"


def _try_keys(
    envelope: EnvelopedData,
    transports: Sequence[KeyTransport | None],
    keys: Sequence[OpeningKey],
    cipher: ContentCipher | None,
    iv: bytes,
) -> tuple[bytes | None, str]:
    if cipher is None:
        return None, "the cipher is unknown"
    try:
        ciphertext = envelope.encrypted_content
    except ProtocolError as error:
        return None, f"the encrypted content: {error}"
    if not ciphertext or len(ciphertext) % cipher.block_size:
        return None, f"the encrypted content is not whole blocks: {len(ciphertext)} bytes"
    unclear: tuple[bytes | None, str] = (None, "none of the keys opens it")
    for recipient, transport in zip(envelope.recipients, transports, strict=True):
        if transport is None:
            continue
        for key in keys:
            plaintext = _decrypt(recipient, transport, key, cipher, iv, ciphertext)
            if plaintext is None:
                continue
            if _is_structure(plaintext):
                return plaintext, f"opened as {identifier_text(recipient.rid)}"
            unclear = (plaintext, "padding and key fit, but the plaintext is no ASN.1")
    return unclear


def _decrypt(
    recipient: Recipient,
    transport: KeyTransport,
    key: OpeningKey,
    cipher: ContentCipher,
    iv: bytes,
    ciphertext: Octets,
) -> bytes | None:
    """The plaintext if the key fits; a wrong one gives random bytes, seldom well padded."""
    if key.certificate is not None and find_certificate(recipient.rid, [key.certificate]) is None:
        return None
    if not isinstance(key.private_key, rsa.RSAPrivateKey):
        return None
    try:
        content_key = key.private_key.decrypt(recipient.encrypted_key, transport.padding())
    except ValueError:
        return None
    if len(content_key) != cipher.key_size:
        return None
    decryptor = cipher.decryptor(content_key, iv)
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    count = padded[-1]
    if not 1 <= count <= cipher.block_size or padded[-count:] != bytes((count,)) * count:
        return None
    return padded[:-count]


def _is_structure(plaintext: bytes) -> bool:
    try:
        der.read(plaintext, leaf_depth=1)
    except ProtocolError:
        return False
    return True


def _dotted(identifier: der.Node) -> str | None:
    """The OID of an AlgorithmIdentifier that nothing here knows."""
    try:
        return der.oid_text(split_identifier(identifier)[0])
    except (ProtocolError, AlgorithmError):
        return None
