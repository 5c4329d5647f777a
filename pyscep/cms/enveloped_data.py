"""Opening EnvelopedData with RSA key transport (RFC 5652 section 6): pkcsPKIEnvelopes.

Opening is where an attacker asks questions. A wrong recipient key, a wrong key length and
wrong padding all take the same way (RFC 3218): a random key stands in, the whole content is
decrypted, and one flag at the end says that it was not sound.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from pyscep import codec
from pyscep.cms.algorithms import (
    AlgorithmPolicy,
    ContentCipher,
    KeyTransport,
    cipher_from,
    key_encryption,
    key_transport_from,
)
from pyscep.cms.signed_data import ID_DATA, find_certificate
from pyscep.codec import der
from pyscep.codec.shapes import ShapeBuilder
from pyscep.codec.space import Octets, Space
from pyscep.errors import DecodeError, DecryptionError
from pyscep.identity import Identity

ID_ENVELOPED_DATA: Final = der.oid("1.2.840.113549.1.7.3")
ID_ENCRYPTED_DATA: Final = der.oid("1.2.840.113549.1.7.6")
MAX_RECIPIENTS: Final = 16

TokenBytes = Callable[[int], bytes]
"""A cryptographic random source: so many bytes, such as secrets.token_bytes."""


class Recipient:
    """One KeyTransRecipientInfo as received."""

    __slots__ = ("encrypted_key", "key_encryption_algorithm", "rid", "version")

    def __init__(
        self, version: int, rid: der.Node, key_encryption_algorithm: der.Node, encrypted_key: bytes
    ) -> None:
        self.version = version
        self.rid = rid
        self.key_encryption_algorithm = key_encryption_algorithm
        self.encrypted_key = encrypted_key


_PARTS: Final = frozenset(
    {"content_algorithm", "content_type", "recipient_count", "recipients", "version"}
)


class EnvelopedData:
    """An EnvelopedData as received.

    Of an envelope of the usual form only the offsets are known at first; its parts are made when
    the first of them is asked for.
    """

    __slots__ = (
        "_content",
        "_data",
        "_places",
        "content_algorithm",
        "content_type",
        "recipient_count",
        "recipients",
        "version",
    )
    version: int
    recipients: tuple[Recipient, ...]
    """Those by key transport; other kinds are passed over (RFC 5652 section 6.2)."""
    recipient_count: int
    content_type: bytes
    content_algorithm: der.Node
    _content: der.Node
    """encryptedContent, where ``_places`` is None."""

    def __init__(self, data: Octets, places: Sequence[int] | None) -> None:
        self._data = data
        self._places = places
        """Start, content and end of each slot of ``_USUAL``; None in any other form."""

    def __getattr__(self, name: str) -> Any:  # a part that has not been made yet
        if name not in _PARTS or self._places is None:
            raise AttributeError(name)
        at = self._places
        head = bytes(self._data[: at[21]])  # all but the content, which may be long
        node = der.Node
        recipient = Recipient(
            version=der.INTEGERS[head[at[4] : at[5]]],
            rid=node(head, at[6], at[7], at[8]),
            key_encryption_algorithm=node(head, at[9], at[10], at[11]),
            encrypted_key=head[at[13] : at[14]],
        )
        self.version = der.INTEGERS[head[at[1] : at[2]]]
        self.recipients = (recipient,)
        self.recipient_count = 1
        self.content_type = head[at[15] : at[17]]
        self.content_algorithm = node(head, at[18], at[19], at[20])
        return object.__getattribute__(self, name)

    @property
    def encrypted_node(self) -> der.Node:
        at = self._places
        if at is not None:
            return der.Node(bytes(self._data), at[21], at[22], at[23])
        return self._content

    @property
    def encrypted_content(self) -> Octets:
        at = self._places
        if at is not None:
            return self._data[at[22] : at[23]]
        return self.encrypted_node.octets("encryptedContent", tag=0x80)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedEnvelope:
    """The plaintext of an envelope, and whether it can be one."""

    plaintext: bytes = field(repr=False)
    """Empty where ``space`` holds it."""
    sound: bool
    """False: nothing of ``plaintext`` means anything. Judge it last, after all else."""
    cipher: str
    key_transport: KeyTransport
    recipient: Identity
    space: Space | None = field(default=None, repr=False)
    """Where a long plaintext stands instead, in the first ``size`` octets."""
    size: int = 0


_USUAL: Final = (
    ShapeBuilder()
    .open(der.SEQUENCE)
    .same(ID_ENVELOPED_DATA)
    .open(0xA0)
    .open(der.SEQUENCE)
    .take(der.INTEGER, "version")
    .open(der.SET)
    .open(der.SEQUENCE)
    .take(der.INTEGER, "recipient version")
    .take_any("rid")
    .take(der.SEQUENCE, "keyEncryptionAlgorithm")
    .take(der.OCTET_STRING, "encryptedKey")
    .close()
    .close()
    .open(der.SEQUENCE)
    .take(der.OID, "contentType")
    .take(der.SEQUENCE, "contentEncryptionAlgorithm")
    .take(0x80, "encryptedContent")
    .close()
    .close()
    .close()
    .close()
    .build()
)


_OTHER_TAGS: Final = [f"ContentInfo has tag 0x{tag:02x}" for tag in range(256)]


def read_enveloped_data(data: Octets) -> EnvelopedData:
    """Read a ContentInfo with EnvelopedData, in BER; nothing is decrypted.

    Raises:
        DecodeError: it is not one.
    """
    if data and data[0] != der.SEQUENCE:  # what is nothing of the kind is not worth an index
        raise DecodeError.at(0, _OTHER_TAGS[data[0]])
    places = _USUAL.read(codec.window(data) if type(data) is memoryview else data, 0)
    return read_any_enveloped_data(bytes(data)) if places is None else EnvelopedData(data, places)


def read_any_enveloped_data(data: bytes) -> EnvelopedData:
    """``read_enveloped_data`` for every form that BER and the RFC allow."""
    info = der.read(data).fields(der.SEQUENCE, 2, "ContentInfo")
    if info[0].raw != ID_ENVELOPED_DATA:
        raise DecodeError("the content is not envelopedData", offset=info[0].start)
    node = info[1].fields(0xA0, 1, "content")[0]
    fields = node.fields(der.SEQUENCE, 3, "EnvelopedData")
    rest = fields[1:]
    if rest[0].tag == 0xA0:  # originatorInfo
        rest = rest[1:]
    if len(rest) < 2:
        raise DecodeError("EnvelopedData is too short", offset=node.start)
    infos = rest[0].fields(der.SET, 1, "recipientInfos")
    if len(infos) > MAX_RECIPIENTS:
        raise DecodeError("too many recipients", offset=rest[0].start)
    content = rest[1].fields(der.SEQUENCE, 3, "encryptedContentInfo")
    envelope = EnvelopedData(data, None)
    envelope._content = content[2]
    envelope.version = fields[0].integer("EnvelopedData.version")
    envelope.recipients = tuple(_recipient(info) for info in infos if info.tag == der.SEQUENCE)
    envelope.recipient_count = len(infos)
    envelope.content_type = content[0].expect(der.OID, "contentType").raw
    envelope.content_algorithm = content[1]
    return envelope


def _recipient(node: der.Node) -> Recipient:
    fields = node.fields(der.SEQUENCE, 4, "KeyTransRecipientInfo")
    return Recipient(
        version=fields[0].integer("KeyTransRecipientInfo.version"),
        rid=fields[1],
        key_encryption_algorithm=fields[2],
        encrypted_key=fields[3].octets("encryptedKey"),
    )


def decrypt(
    envelope: EnvelopedData,
    identities: Sequence[Identity],
    policy: AlgorithmPolicy,
    *,
    token_bytes: TokenBytes,
    in_place: bool = False,
) -> OpenedEnvelope:
    """Open an envelope with the identity that its first fitting recipient names.

    Keys are never tried in turn.

    Args:
        in_place: into a Space, for a long content of which a part is wanted.

    Raises:
        AlgorithmError: an algorithm that is unknown or that the policy refuses; all of this
            stands in the clear.
        DecryptionError: no recipient is ours, or the ciphertext has an impossible length.
    """
    # One known peer calls the content encryptedData; the bytes are the same.
    if envelope.content_type not in (ID_DATA, ID_ENCRYPTED_DATA):
        raise DecodeError("the encrypted content type is not id-data")
    cipher, iv = cipher_from(envelope.content_algorithm)
    if cipher.name not in policy.ciphers:
        policy.require_cipher(cipher.name)
    recipient, identity = _ours(envelope, identities)
    transport = key_transport_from(recipient.key_encryption_algorithm)
    if transport.name not in policy.key_transports:
        policy.require_key_transport(transport.name)
    ciphertext = envelope.encrypted_content
    block, size = cipher.block_size, len(ciphertext)
    if not size or size % block:
        raise DecryptionError("the ciphertext is not whole blocks")
    key = _content_key(recipient, identity, transport, cipher, token_bytes)
    decryptor = cipher.decryptor(key, iv)
    space = None
    if in_place:
        space = Space(size + block)  # a block more, which the cipher asks for
        decryptor.update_into(ciphertext, space.view)
        padded = bytes(space.view[size - block : size])
    else:
        padded = decryptor.update(ciphertext)
    decryptor.finalize()
    plaintext, sound = _unpad(padded, block)
    whole = len(plaintext)
    if in_place:
        plaintext, whole = b"", size - block + whole
    return OpenedEnvelope(
        plaintext=plaintext,
        sound=sound,
        cipher=cipher.name,
        key_transport=transport,
        recipient=identity,
        space=space,
        size=whole,
    )


_RAW: Final = attrgetter("raw")


def _ours(envelope: EnvelopedData, identities: Sequence[Identity]) -> tuple[Recipient, Identity]:
    for recipient in envelope.recipients:
        found = find_certificate(recipient.rid, [*map(_RAW, identities)])
        for identity in identities if found is not None else ():
            if identity.raw is found:
                return recipient, identity
    raise DecryptionError("no recipient of the envelope is ours")


def _content_key(
    recipient: Recipient,
    identity: Identity,
    transport: KeyTransport,
    cipher: ContentCipher,
    token_bytes: TokenBytes,
) -> bytes:
    """The content-encryption key, or a random one in its place (RFC 3218)."""
    substitute = token_bytes(cipher.key_size)
    _, padding = key_encryption(transport.name, transport.digest, transport.mgf_digest)
    try:
        key: bytes = identity.private_key.decrypt(recipient.encrypted_key, padding)
    except Exception:  # a token's own errors must look like any other wrong ciphertext
        key = b""
    return key if len(key) == cipher.key_size else substitute


def _unpad(padded: bytes, block_size: int) -> tuple[bytes, bool]:
    """Take PKCS padding off without an early exit."""
    count = padded[-1]
    sane = 1 <= count <= block_size
    count = count if sane else block_size
    expected = bytes((count,)) * count
    sound = sane & hmac.compare_digest(padded[-count:], expected)
    return (padded[:-count] if sound else padded), sound
