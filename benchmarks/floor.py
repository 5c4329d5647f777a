"""The cryptography that a task can't do without, on the very bytes of its messages.

A floor is a list of calls into cryptography and hashlib, with keys loaded once and warm. For
an enrollment on the server: verify the request, open its key, decrypt, hash, verify the CSR,
sign the certificate, and encrypt, hash and sign the reply.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

PKCS1 = padding.PKCS1v15()
SHA256 = hashes.SHA256()
KEY = bytes(range(16))
IV = bytes(16)

Work = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorInputs:
    """What the calls work on; sizes are those of the real messages."""

    ca_key: Any
    client_key: Any
    signed_attributes: bytes
    """Of the request, as they are signed."""
    envelope: bytes
    """eContent of the request: hashed."""
    ciphertext: bytes
    """encryptedContent of the request."""
    request_plaintext: bytes
    """What it decrypts to, padded."""
    csr_info: bytes
    certificate_tbs: bytes
    reply_plaintext: bytes
    """The padded certificates-only content of the reply."""
    reply_envelope: bytes
    """eContent of the reply: hashed."""
    reply_attributes: bytes


def server_floor(inputs: FloorInputs) -> Work:
    """The eleven calls of one PKCSReq to CertRep."""
    ca_key, client_key = inputs.ca_key, inputs.client_key
    client_public = client_key.public_key()
    encrypted_key = ca_key.public_key().encrypt(KEY, PKCS1)
    request_signature = client_key.sign(inputs.signed_attributes, PKCS1, SHA256)
    csr_signature = client_key.sign(inputs.csr_info, PKCS1, SHA256)

    def calls() -> None:
        client_public.verify(request_signature, inputs.signed_attributes, PKCS1, SHA256)
        hashlib.sha256(inputs.envelope).digest()
        decrypt(ca_key.decrypt(encrypted_key, PKCS1), inputs.ciphertext)
        client_public.verify(csr_signature, inputs.csr_info, PKCS1, SHA256)
        ca_key.sign(inputs.certificate_tbs, PKCS1, SHA256)
        client_public.encrypt(KEY, PKCS1)
        encrypt(KEY, inputs.reply_plaintext)
        hashlib.sha256(inputs.reply_envelope).digest()
        ca_key.sign(inputs.reply_attributes, PKCS1, SHA256)

    return calls


def client_build_floor(inputs: FloorInputs) -> Work:
    """A key to a PKCSReq: CSR, self-signed certificate and message are signed."""
    key, ca_public = inputs.client_key, inputs.ca_key.public_key()

    def calls() -> None:
        key.sign(inputs.csr_info, PKCS1, SHA256)
        key.sign(inputs.certificate_tbs, PKCS1, SHA256)
        ca_public.encrypt(KEY, PKCS1)
        encrypt(KEY, inputs.request_plaintext)
        hashlib.sha256(inputs.envelope).digest()
        key.sign(inputs.signed_attributes, PKCS1, SHA256)

    return calls


def client_reply_floor(inputs: FloorInputs) -> Work:
    """A CertRep to the verified certificate in it."""
    client_key, ca_key = inputs.client_key, inputs.ca_key
    ca_public = ca_key.public_key()
    signature = ca_key.sign(inputs.reply_attributes, PKCS1, SHA256)
    certificate_signature = ca_key.sign(inputs.certificate_tbs, PKCS1, SHA256)
    encrypted_key = client_key.public_key().encrypt(KEY, PKCS1)

    def calls() -> None:
        hashlib.sha256(inputs.reply_envelope).digest()
        ca_public.verify(signature, inputs.reply_attributes, PKCS1, SHA256)
        decrypt(client_key.decrypt(encrypted_key, PKCS1), inputs.reply_plaintext)
        ca_public.verify(certificate_signature, inputs.certificate_tbs, PKCS1, SHA256)

    return calls


def crl_server_floor(inputs: FloorInputs) -> Work:
    """A GetCRL request to its CertRep; the reply fields of ``inputs`` are those of the CRL."""
    ca_key, client_key = inputs.ca_key, inputs.client_key
    client_public = client_key.public_key()
    encrypted_key = ca_key.public_key().encrypt(KEY, PKCS1)
    signature = client_key.sign(inputs.signed_attributes, PKCS1, SHA256)

    def calls() -> None:
        client_public.verify(signature, inputs.signed_attributes, PKCS1, SHA256)
        hashlib.sha256(inputs.envelope).digest()
        decrypt(ca_key.decrypt(encrypted_key, PKCS1), inputs.ciphertext)
        client_public.encrypt(KEY, PKCS1)
        encrypt(KEY, inputs.reply_plaintext)
        hashlib.sha256(inputs.reply_envelope).digest()
        ca_key.sign(inputs.reply_attributes, PKCS1, SHA256)

    return calls


def crl_client_floor(inputs: FloorInputs, crl_tbs: bytes) -> Work:
    """A CertRep with a CRL to the CRL, its signature verified."""
    client_key, ca_key = inputs.client_key, inputs.ca_key
    ca_public = ca_key.public_key()
    signature = ca_key.sign(inputs.reply_attributes, PKCS1, SHA256)
    crl_signature = ca_key.sign(crl_tbs, PKCS1, SHA256)
    encrypted_key = client_key.public_key().encrypt(KEY, PKCS1)

    def calls() -> None:
        hashlib.sha256(inputs.reply_envelope).digest()
        ca_public.verify(signature, inputs.reply_attributes, PKCS1, SHA256)
        decrypt(client_key.decrypt(encrypted_key, PKCS1), inputs.reply_plaintext)
        ca_public.verify(crl_signature, crl_tbs, PKCS1, SHA256)

    return calls


def encrypt(key: bytes, padded: bytes) -> None:
    """AES-128-CBC over what is padded already."""
    encryptor = Cipher(AES(key), CBC(IV)).encryptor()
    encryptor.update(padded)
    encryptor.finalize()


def decrypt(key: bytes, ciphertext: bytes) -> None:
    """AES-128-CBC without looking at the result."""
    decryptor = Cipher(AES(key), CBC(IV)).decryptor()
    decryptor.update(ciphertext)
    decryptor.finalize()
