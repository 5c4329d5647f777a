"""Making EnvelopedData for one recipient with RSA key transport (RFC 5652 section 6)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from pyscep.cms.algorithms import CIPHERS, Algorithms, key_encryption
from pyscep.cms.enveloped_data import ID_ENVELOPED_DATA, TokenBytes
from pyscep.cms.keys import KINDS
from pyscep.cms.signed_data import ID_DATA
from pyscep.codec import der
from pyscep.codec.templates import Template
from pyscep.errors import AlgorithmError
from pyscep.identity import RawCertificate

SPARE_BYTES: Final = 16
"""Room that a cipher asks for behind what it writes: one block."""
_VERSION_0: Final = der.integer(0)
_TEMPLATE: Final = Template(
    (
        der.SEQUENCE,
        ID_ENVELOPED_DATA,
        (
            0xA0,
            (
                der.SEQUENCE,
                _VERSION_0,
                (
                    der.SET,
                    (
                        der.SEQUENCE,
                        _VERSION_0,
                        (der.SEQUENCE, "issuer", "serialNumber"),
                        "keyEncryptionAlgorithm",
                        (der.OCTET_STRING, "encryptedKey"),
                    ),
                ),
                (
                    der.SEQUENCE,
                    ID_DATA,
                    (der.SEQUENCE, "contentEncryption", (der.OCTET_STRING, "iv")),
                    (0x80, "encryptedContent"),
                ),
            ),
        ),
    )
)


class Sealer:
    """Encrypts one content of known size to one recipient.

    Args:
        size: of the content, in bytes.

    Raises:
        AlgorithmError: the recipient's key can't encrypt.
    """

    def __init__(
        self,
        size: int,
        recipient: RawCertificate,
        algorithms: Algorithms,
        token_bytes: TokenBytes,
    ) -> None:
        key: Any = recipient.public_key
        if KINDS[type(key)] != "rsa":
            raise AlgorithmError("the recipient's key can't encrypt: an RSA key is needed")
        cipher = CIPHERS[algorithms.cipher]
        algorithm, padding = key_encryption(
            algorithms.key_transport, algorithms.oaep_digest, algorithms.oaep_mgf_digest
        )
        block = cipher.block_size
        random = token_bytes(cipher.key_size + block)
        content_key, iv = random[:-block], random[-block:]
        self._encryptor = cipher.encryptor(content_key, iv)
        missing = block - size % block
        self._padding = b"%c" % missing * missing
        self._values = (
            recipient.issuer,
            recipient.serial_der,
            algorithm,
            key.encrypt(content_key, padding),
            cipher.oid,
            iv,
        )
        self._size = size + missing

    def seal(self, content: bytes) -> bytes:
        """The ContentInfo around the encrypted content."""
        encryptor = self._encryptor
        encrypted = encryptor.update(content + self._padding) + encryptor.finalize()
        return _TEMPLATE.fill(*self._values, encrypted)

    @cached_property
    def head(self) -> bytes:
        """The ContentInfo up to the encrypted content, which is the last in it."""
        return _TEMPLATE.around("encryptedContent", self._size, *self._values)[0]

    @property
    def size(self) -> int:
        """Of the whole ContentInfo, in bytes."""
        return len(self.head) + self._size

    def seal_into(self, target: memoryview, *content: bytes) -> None:
        """As ``seal``, where it will stand.

        Args:
            target: ``size`` octets, and SPARE_BYTES more that are written to meanwhile.
            content: in pieces.
        """
        at = len(self.head)
        target[:at] = self.head
        for piece in (*content, self._padding):
            at += self._encryptor.update_into(piece, target[at:])
        self._encryptor.finalize()


def encrypt(
    content: bytes,
    recipient: RawCertificate,
    algorithms: Algorithms,
    *,
    token_bytes: TokenBytes,
) -> bytes:
    """Make a ContentInfo with EnvelopedData for one recipient, in DER.

    Raises:
        AlgorithmError: the recipient's key can't encrypt.
    """
    return Sealer(len(content), recipient, algorithms, token_bytes).seal(content)
