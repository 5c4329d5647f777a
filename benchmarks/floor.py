"""The cryptography that an enrollment can't do without, on the very bytes of a request.

The floor is a list of calls: verify the request, open its key, decrypt, hash, verify the CSR,
sign the certificate, and encrypt, hash and sign the reply. Keys are loaded once and warm.
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
    csr_info: bytes
    certificate_tbs: bytes
    reply_plaintext: bytes
    """The padded certificates-only content of the reply."""
    reply_envelope: bytes
    """eContent of the reply: hashed."""
    reply_attributes: bytes


def server_floor(inputs: FloorInputs) -> Callable[[], None]:
    """The eleven calls of one PKCSReq to CertRep."""
    ca_key, client_key = inputs.ca_key, inputs.client_key
    client_public = client_key.public_key()
    key, iv = bytes(range(16)), bytes(16)
    encrypted_key = ca_key.public_key().encrypt(key, PKCS1)
    request_signature = client_key.sign(inputs.signed_attributes, PKCS1, SHA256)
    csr_signature = client_key.sign(inputs.csr_info, PKCS1, SHA256)

    def calls() -> None:
        client_public.verify(request_signature, inputs.signed_attributes, PKCS1, SHA256)
        hashlib.sha256(inputs.envelope).digest()
        opened = ca_key.decrypt(encrypted_key, PKCS1)
        decryptor = Cipher(AES(opened), CBC(iv)).decryptor()
        decryptor.update(inputs.ciphertext)
        decryptor.finalize()
        client_public.verify(csr_signature, inputs.csr_info, PKCS1, SHA256)
        ca_key.sign(inputs.certificate_tbs, PKCS1, SHA256)
        client_public.encrypt(key, PKCS1)
        encryptor = Cipher(AES(key), CBC(iv)).encryptor()
        encryptor.update(inputs.reply_plaintext)
        encryptor.finalize()
        hashlib.sha256(inputs.reply_envelope).digest()
        ca_key.sign(inputs.reply_attributes, PKCS1, SHA256)

    return calls
