"""Reading SignedData (RFC 5652 section 5): structure only, nothing is verified here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyscep.codec import der
from pyscep.codec.shapes import ShapeBuilder
from pyscep.codec.space import LONG_BYTES, Octets
from pyscep.errors import DecodeError

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


class SignerInfo:
    """One SignerInfo as received, not verified."""

    __slots__ = (
        "_attributes",
        "digest_algorithm",
        "sid",
        "signature",
        "signature_algorithm",
        "signed_attributes",
        "version",
    )

    def __init__(
        self,
        version: int,
        sid: der.Node,
        digest_algorithm: der.Node,
        signed_attributes: der.Node | None,
        signature_algorithm: der.Node,
        signature: bytes,
    ) -> None:
        self.version = version
        self.sid = sid
        self.digest_algorithm = digest_algorithm
        self.signed_attributes = signed_attributes
        self.signature_algorithm = signature_algorithm
        self.signature = signature
        self._attributes: Mapping[bytes, der.Node] | None = None

    @property
    def attributes(self) -> Mapping[bytes, der.Node]:
        """The single value of each signed attribute, by encoded OID; not verified.

        Raises:
            DecodeError: an attribute appears twice, or has no value or several.
        """
        attributes = self._attributes
        if attributes is None:
            node = self.signed_attributes
            attributes = self._attributes = {} if node is None else attributes_of(node)
        return attributes


_PARTS: Final = frozenset({"certificates", "content_type", "crls", "signers", "version"})


class SignedData:
    """A SignedData as received, not verified.

    Of a message of the usual form only the offsets are known at first; its parts are made when
    the first of them is asked for.
    """

    __slots__ = (
        "_content",
        "_data",
        "_places",
        "certificates",
        "content_type",
        "crls",
        "signers",
        "version",
    )
    version: int
    content_type: bytes
    certificates: tuple[der.Node, ...]
    crls: tuple[der.Node, ...]
    signers: tuple[SignerInfo, ...]

    _content: der.Node | None
    """What eContent holds, where ``_places`` is None."""

    def __init__(self, data: bytes, places: Sequence[int] | None) -> None:
        self._data = data
        self._places = places
        """Start, content and end of each slot of ``_USUAL``; None in any other form."""

    def __getattr__(self, name: str) -> Any:  # a part that has not been made yet
        if name not in _PARTS or self._places is None:
            raise AttributeError(name)
        data, at = self._data, self._places
        node = der.Node
        certificates = der.split(data, at[10], at[11])
        assert certificates is not None  # noqa: S101 - for the type checker: take_few has looked
        self.version = der.INTEGERS[data[at[1] : at[2]]]
        self.content_type = data[at[3] : at[5]]
        self.certificates = tuple(certificates)
        self.crls = ()
        self.signers = (
            SignerInfo(
                version=der.INTEGERS[data[at[13] : at[14]]],
                sid=node(data, at[15], at[16], at[17]),
                digest_algorithm=node(data, at[18], at[19], at[20]),
                signed_attributes=node(data, at[21], at[22], at[23]),
                signature_algorithm=node(data, at[24], at[25], at[26]),
                signature=data[at[28] : at[29]],
            ),
        )
        return object.__getattribute__(self, name)

    @property
    def content_node(self) -> der.Node | None:
        """What eContent holds; None if it is absent."""
        at = self._places
        if at is None:
            return self._content
        return der.Node(self._data, at[6], at[7], at[8]) if at[8] else None

    @property
    def content(self) -> bytes | None:
        """The octets that are signed; None if eContent is absent.

        The digest of a content that is not an OCTET STRING is over its value octets too
        (RFC 5652 section 5.4).
        """
        places = self._places
        if places is not None:
            end = places[8]
            return self._data[places[7] : end] if end else None
        node = self._content
        if node is None:
            return None
        if self.content_type != ID_DATA and node.tag == der.SEQUENCE:
            return node.value
        return node.octets("eContent")

    @property
    def content_in_place(self) -> Octets | None:
        """``content``, without a copy where it is long."""
        at = self._places
        if at is None:
            return self.content
        data: Octets = self._data
        if at[8] - at[7] >= LONG_BYTES:
            data = memoryview(data)
        return data[at[7] : at[8]] if at[8] else None

    @property
    def nested(self) -> bytes:
        """The encoding that the content is, within its octets or in their place (PKCS #7)."""
        node = self.content_node
        if node is not None and node.tag == der.SEQUENCE:
            return node.raw
        return self.content or b""


# What nearly all requests and replies look like: DER with one signer.
_USUAL: Final = (
    ShapeBuilder()
    .open(der.SEQUENCE)
    .same(ID_SIGNED_DATA)
    .open(0xA0)
    .open(der.SEQUENCE)
    .take(der.INTEGER, "version")
    .open(der.SET)
    .leave()
    .open(der.SEQUENCE)
    .take(der.OID, "content type")
    .optional(0xA0, lambda shape: shape.open(0xA0).take(der.OCTET_STRING, "content").close())
    .close()
    .optional(0xA0, lambda shape: shape.take_few(0xA0, "certificates", MAX_CERTIFICATES))
    .open(der.SET)
    .open(der.SEQUENCE)
    .take(der.INTEGER, "signer version")
    .take_any("sid")
    .take(der.SEQUENCE, "digest algorithm")
    .take(0xA0, "signed attributes")
    .take(der.SEQUENCE, "signature algorithm")
    .take(der.OCTET_STRING, "signature")
    .leave()
    .close()
    .close()
    .close()
    .close()
    .build()
)


def read_signed_data(data: bytes) -> SignedData:
    """Read a ContentInfo with SignedData, in BER; nothing is verified.

    Raises:
        DecodeError: it is not one.
    """
    places = _USUAL.read(data, MAX_TRAILING)
    return read_any_signed_data(data) if places is None else SignedData(data, places)


def read_any_signed_data(data: bytes) -> SignedData:
    """``read_signed_data`` for every form that BER and the RFC allow."""
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
    message = SignedData(node.data, None)
    message._content = content
    message.version = version
    message.content_type = encapsulated[0].expect(der.OID, "eContentType").raw
    message.certificates = certificates
    message.crls = crls
    message.signers = tuple(
        _signer_info(child) for child in rest[0].fields(der.SET, 0, "signerInfos")[:16]
    )
    return message


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
    usual = der.usual_attributes(node)
    if usual is not None:
        return usual
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
