"""EnvelopedData for forge.py: every form that peers send, and the broken ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tests import forge_tlv as asn1
from tests.forge_keys import DIGEST_OIDS, HASHES, MGF1, RSA_ENCRYPTION, Party, key_identifier

DATA = "1.2.840.113549.1.7.1"
SIGNED_DATA = "1.2.840.113549.1.7.2"
ENVELOPED_DATA = "1.2.840.113549.1.7.3"
ENCRYPTED_DATA = "1.2.840.113549.1.7.6"
RSAES_OAEP = "1.2.840.113549.1.1.7"
P_SPECIFIED = "1.2.840.113549.1.1.9"

CIPHERS = {
    # name: OID, octets of the key, octets of a block
    "des-cbc": ("1.3.14.3.2.7", 8, 8),
    "des-ede3-cbc": ("1.2.840.113549.3.7", 24, 8),
    "aes128-cbc": ("2.16.840.1.101.3.4.1.2", 16, 16),
    "aes192-cbc": ("2.16.840.1.101.3.4.1.22", 24, 16),
    "aes256-cbc": ("2.16.840.1.101.3.4.1.42", 32, 16),
    "rc2-cbc": ("1.2.840.113549.3.2", 16, 8),
    "rc4": ("1.2.840.113549.3.4", 16, 1),
    "aes128-gcm": ("2.16.840.1.101.3.4.1.6", 16, 16),
    "unknown": ("1.2.3.4.5.6", 16, 16),
}
CIPHER_NAMES = {dotted: cipher for cipher, (dotted, _, _) in CIPHERS.items()}


def _cbc(cipher: str, key: bytes, iv: bytes) -> Cipher[modes.CBC]:
    if CIPHERS[cipher][2] == 16:
        return Cipher(AES(key), modes.CBC(iv))
    return Cipher(TripleDES(key * 3 if len(key) == 8 else key), modes.CBC(iv))


def pkcs7_pad(data: bytes, block: int) -> bytes:
    count = block - len(data) % block
    return data + bytes([count]) * count


def zero_count_pad(data: bytes, block: int) -> bytes:
    """Ends in an octet 0: no valid padding."""
    return data + bytes(block - len(data) % block)


def oversized_pad(data: bytes, block: int) -> bytes:
    """One octet more than a block has, consistently, if `data` ends one short of a block."""
    count = -(len(data) + block + 1) % block + block + 1
    return data + bytes([block + 1]) * count


def inconsistent_pad(data: bytes, block: int) -> bytes:
    """The last octet claims a padding that the octets before it don't have."""
    count = block - len(data) % block
    if count == 1:
        data, count = data + b"x", block
    return data + b"\xee" * (count - 1) + bytes([max(count, 2)])


def no_pad(data: bytes, block: int) -> bytes:
    """Ends in a letter where the count should stand; whole blocks."""
    return data + b"A" * (-len(data) % block)


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """One KeyTransRecipientInfo."""

    party: Party
    rid: str | bytes = "issuer"
    """``issuer`` (issuerAndSerialNumber), ``ski``, or the rid's whole encoding."""
    oaep: tuple[str, str] | None = None
    """Names of hash and MGF hash for RSAES-OAEP."""
    oaep_parameters: str | bytes = "full"
    """``full``, ``empty`` (an empty SEQUENCE), ``absent``, or a whole encoding."""
    algorithm: bytes | None = None
    """The whole keyEncryptionAlgorithm, instead."""
    encrypted_key: bytes | None = None
    """These octets instead of the encrypted key."""
    version: int | None = None
    null_parameters: bool = True

    def build(self, cek: bytes, style: asn1.Style) -> bytes:
        version = 0 if self.rid == "issuer" else 2
        match self.rid:
            case "issuer":
                rid = self.party.issuer_and_serial
            case "ski":
                rid = asn1.tlv(0x80, key_identifier(self.party.key))
            case bytes() as rid:
                pass
        return style.seq(
            asn1.integer(version if self.version is None else self.version),
            rid, self._algorithm(),
            style.octets(self._encrypt(cek)))

    def _encrypt(self, cek: bytes) -> bytes:
        if self.encrypted_key is not None:
            return self.encrypted_key
        public = self.party.key.public_key()
        if self.oaep is None:
            return public.encrypt(cek, padding.PKCS1v15())
        digest, mgf = (HASHES[part] for part in self.oaep)
        return public.encrypt(cek, padding.OAEP(padding.MGF1(mgf), digest, None))

    def _algorithm(self) -> bytes:
        if self.algorithm is not None:
            return self.algorithm
        if self.oaep is None:
            return asn1.algorithm(RSA_ENCRYPTION, asn1.null() if self.null_parameters else None)
        match self.oaep_parameters:
            case "full":
                parameters = oaep_parameters(*self.oaep)
            case "empty":
                parameters = asn1.seq()
            case "absent":
                parameters = b""
            case bytes() as parameters:
                pass
        return asn1.algorithm(RSAES_OAEP, parameters)


def oaep_parameters(digest: str, mgf: str) -> bytes:
    """RSAES-OAEP-params (RFC 4055 section 4.1); defaults are left out."""
    parts = []
    if digest != "sha1":
        parts.append(asn1.tlv(0xA0, asn1.algorithm(DIGEST_OIDS[digest], asn1.null())))
    if mgf != "sha1":
        inner = asn1.algorithm(DIGEST_OIDS[mgf], asn1.null())
        parts.append(asn1.tlv(0xA1, asn1.algorithm(MGF1, inner)))
    return asn1.seq(*parts)


def raw_rsa(party: Party, block: bytes) -> bytes:
    """RSA without padding of ours: `block` is the whole padded message."""
    numbers = party.key.public_key().public_numbers()
    size = (numbers.n.bit_length() + 7) // 8
    assert len(block) == size
    return pow(int.from_bytes(block, "big"), numbers.e, numbers.n).to_bytes(size, "big")


def kek_recipient() -> bytes:
    """A KEKRecipientInfo, which SCEP has no use for."""
    kekid = asn1.seq(asn1.octets(b"a shared key"))
    return asn1.tlv(0xA2, asn1.integer(4), kekid,
                    asn1.algorithm("2.16.840.1.101.3.4.1.5"), asn1.octets(bytes(24)))


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """EnvelopedData around `plaintext`, in a ContentInfo."""

    plaintext: bytes
    recipients: tuple[Recipient | bytes, ...]
    """Recipients, or whole RecipientInfos in their encoding."""
    cipher: str = "aes128-cbc"
    cek: bytes | None = None
    """The key that goes to the recipients; of the wrong length if that is the test."""
    iv: bytes | None = None
    algorithm: bytes | None = None
    """The whole contentEncryptionAlgorithm, instead."""
    pad: Callable[[bytes, int], bytes] = pkcs7_pad
    ciphertext: bytes | None = None
    """These octets instead of the encrypted plaintext."""
    encrypted_content: str = "style"
    """``style``, ``absent``, or ``definite``: constructed with a definite length, as Go does."""
    version: int | None = None
    content_type: str = DATA
    wrap: bool = True
    """False leaves the ContentInfo out."""
    style: asn1.Style = asn1.DER

    def build(self) -> bytes:
        _, key_size, block = CIPHERS[self.cipher]
        cek = os.urandom(key_size) if self.cek is None else self.cek
        # DES keys with even parity are refused by nobody; CEKs of a wrong length can't encrypt.
        content_key = cek if len(cek) == key_size else os.urandom(key_size)
        iv = os.urandom(block) if self.iv is None else self.iv
        style = self.style
        infos = [part if isinstance(part, bytes) else part.build(cek, style)
                 for part in self.recipients]
        enveloped = style.seq(
            asn1.integer(self._version() if self.version is None else self.version),
            style.set(*infos),
            style.seq(
                asn1.oid(self.content_type),
                self._algorithm(iv) if self.algorithm is None else self.algorithm,
                self._content(content_key, iv, block)))
        if not self.wrap:
            return enveloped
        return style.seq(asn1.oid(ENVELOPED_DATA), style.tlv(0xA0, enveloped))

    def _version(self) -> int:
        simple = all(isinstance(part, Recipient) and part.rid == "issuer"
                     for part in self.recipients)
        return 0 if simple else 2

    def _algorithm(self, iv: bytes) -> bytes:
        dotted = CIPHERS[self.cipher][0]
        match self.cipher:
            case "rc2-cbc":
                parameters = asn1.seq(asn1.integer(58), asn1.octets(iv))
            case "rc4":
                parameters = asn1.null()
            case "aes128-gcm":
                parameters = asn1.seq(asn1.octets(bytes(12)), asn1.integer(16))
            case _:
                parameters = asn1.octets(iv)
        return asn1.algorithm(dotted, parameters)

    def _content(self, key: bytes, iv: bytes, block: int) -> bytes:
        if self.encrypted_content == "absent":
            return b""
        data = self.ciphertext
        if data is None:
            data = self.encrypt(key, iv if len(iv) == block else bytes(block), block)
        if self.encrypted_content == "definite":
            return asn1.tlv(0xA0, asn1.octets(data))
        return self.style.octets(data, 0x80)

    def encrypt(self, key: bytes, iv: bytes, block: int) -> bytes:
        if self.cipher in ("rc2-cbc", "rc4", "aes128-gcm", "unknown"):
            return os.urandom(len(pkcs7_pad(self.plaintext, 16)))
        encryptor = _cbc(self.cipher, key, iv).encryptor()
        return encryptor.update(self.pad(self.plaintext, block)) + encryptor.finalize()


def decrypt(cipher: str, key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """CBC decryption with the padding checked and taken off."""
    _, key_size, block = CIPHERS[cipher]
    assert len(key) == key_size, "wrong length of the content key"
    assert len(iv) == block, "wrong length of the IV"
    decryptor = _cbc(cipher, key, iv).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    count = padded[-1]
    assert 1 <= count <= block
    assert padded.endswith(bytes([count]) * count), "bad padding"
    return padded[:-count]
