"""What else reads and writes the same text and the same DER, done the way its users do it."""

from __future__ import annotations

import base64
from typing import Annotated, Any
from urllib.parse import quote, unquote

import pybase64
from cryptography import x509
from cryptography.hazmat import asn1
from pyasn1.codec.der.decoder import decode as pyasn1_decode
from pyasn1_modules import rfc5652

# --- query text -----------------------------------------------------------------------


def typical_decode(text: bytes) -> bytes:
    """The standard library: what most servers do."""
    return base64.b64decode(unquote(text.decode("ascii")))


def replace_decode(text: bytes) -> bytes:
    """The quickest that existing packages allow: three replacements and SIMD base64."""
    clean = text.replace(b"%2B", b"+").replace(b"%2F", b"/").replace(b"%3D", b"=")
    return pybase64.b64decode(clean, validate=True)


def typical_encode(data: bytes) -> str:
    """The standard library: what most clients do."""
    return quote(base64.b64encode(data).decode("ascii"), safe="")


def replace_encode(data: bytes) -> bytes:
    """SIMD base64 and three replacements."""
    text = pybase64.b64encode(data)
    return text.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D")


# --- cryptography's declarative ASN.1 -------------------------------------------------


@asn1.sequence
class _Algorithm:
    algorithm: x509.ObjectIdentifier
    parameters: asn1.Null | None


@asn1.sequence
class _Cipher:
    algorithm: x509.ObjectIdentifier
    iv: bytes


@asn1.sequence
class _IssuerAndSerial:
    issuer: asn1.TLV
    serial_number: int


@asn1.sequence
class _Attribute:
    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _SignerInfo:
    version: int
    sid: _IssuerAndSerial
    digest_algorithm: _Algorithm
    signed_attributes: Annotated[asn1.SetOf[_Attribute], asn1.Implicit(0)]
    signature_algorithm: _Algorithm
    signature: bytes


@asn1.sequence
class _Content:
    type: x509.ObjectIdentifier
    content: Annotated[bytes, asn1.Explicit(0)]


@asn1.sequence
class _SignedData:
    version: int
    digest_algorithms: asn1.SetOf[_Algorithm]
    content: _Content
    certificates: Annotated[asn1.SetOf[asn1.TLV], asn1.Implicit(0)]
    signer_infos: asn1.SetOf[_SignerInfo]


@asn1.sequence
class _SignedMessage:
    type: x509.ObjectIdentifier
    content: Annotated[_SignedData, asn1.Explicit(0)]


@asn1.sequence
class _Recipient:
    version: int
    rid: _IssuerAndSerial
    key_encryption_algorithm: _Algorithm
    encrypted_key: bytes


@asn1.sequence
class _EncryptedContent:
    type: x509.ObjectIdentifier
    algorithm: _Cipher
    content: Annotated[bytes, asn1.Implicit(0)]


@asn1.sequence
class _EnvelopedData:
    version: int
    recipients: asn1.SetOf[_Recipient]
    content: _EncryptedContent


@asn1.sequence
class _Envelope:
    type: x509.ObjectIdentifier
    content: Annotated[_EnvelopedData, asn1.Explicit(0)]


def hazmat_parse(message: bytes) -> tuple[Any, Any]:
    """Both layers of a PKCSReq with cryptography's declarative ASN.1 (Rust)."""
    signed = asn1.decode_der(_SignedMessage, message).content
    return signed, asn1.decode_der(_Envelope, signed.content.content).content


# --- pyasn1 ---------------------------------------------------------------------------


def pyasn1_parse(message: bytes) -> tuple[Any, Any]:
    """Both layers of a PKCSReq with pyasn1 and its RFC 5652 module."""
    info, _ = pyasn1_decode(message, asn1Spec=rfc5652.ContentInfo())
    signed, _ = pyasn1_decode(info["content"], asn1Spec=rfc5652.SignedData())
    content = signed["encapContentInfo"]["eContent"].asOctets()
    outer, _ = pyasn1_decode(content, asn1Spec=rfc5652.ContentInfo())
    enveloped, _ = pyasn1_decode(outer["content"], asn1Spec=rfc5652.EnvelopedData())
    return signed, enveloped
