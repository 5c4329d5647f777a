"""Names for what stands in messages: object identifiers, distinguished names, keys."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from pyscep import attributes, pkcs10
from pyscep.cms import signed_data
from pyscep.codec import der
from pyscep.errors import DecodeError

OLD_FAIL_INFO_TEXT: Final = der.oid("1.3.6.1.5.5.7.24")
"""failInfoText under the number that a draft had; one server still sends it."""

ATTRIBUTES: Final = {
    attributes.MESSAGE_TYPE: "messageType",
    attributes.PKI_STATUS: "pkiStatus",
    attributes.FAIL_INFO: "failInfo",
    attributes.FAIL_INFO_TEXT: "failInfoText",
    attributes.SENDER_NONCE: "senderNonce",
    attributes.RECIPIENT_NONCE: "recipientNonce",
    attributes.TRANSACTION_ID: "transactionID",
    signed_data.CONTENT_TYPE: "contentType",
    signed_data.MESSAGE_DIGEST: "messageDigest",
    signed_data.SIGNING_TIME: "signingTime",
    signed_data.ALGORITHM_PROTECTION: "CMSAlgorithmProtection",
}
"""Signed attributes that are known, by encoded OID."""

_OTHERS: Final = {
    pkcs10.CHALLENGE_PASSWORD: "challengePassword",
    pkcs10.EXTENSION_REQUEST: "extensionRequest",
    **{
        der.oid(dotted): name
        for dotted, name in (
            ("1.2.840.113549.1.9.1", "E"),
            ("1.2.840.113549.1.9.2", "unstructuredName"),
            ("1.2.840.113549.1.9.8", "unstructuredAddress"),
            ("1.2.840.113549.1.9.15", "SMIMECapabilities"),
            ("1.2.840.113549.1.9.20", "friendlyName"),
            ("0.9.2342.19200300.100.1.1", "UID"),
            ("0.9.2342.19200300.100.1.25", "DC"),
            ("2.5.4.3", "CN"),
            ("2.5.4.4", "SN"),
            ("2.5.4.5", "serialNumber"),
            ("2.5.4.6", "C"),
            ("2.5.4.7", "L"),
            ("2.5.4.8", "ST"),
            ("2.5.4.9", "street"),
            ("2.5.4.10", "O"),
            ("2.5.4.11", "OU"),
            ("2.5.4.12", "title"),
            ("2.5.4.42", "GN"),
            ("2.5.29.14", "subjectKeyIdentifier"),
            ("2.5.29.15", "keyUsage"),
            ("2.5.29.17", "subjectAltName"),
            ("2.5.29.19", "basicConstraints"),
            ("2.5.29.20", "cRLNumber"),
            ("2.5.29.31", "cRLDistributionPoints"),
            ("2.5.29.32", "certificatePolicies"),
            ("2.5.29.35", "authorityKeyIdentifier"),
            ("2.5.29.37", "extKeyUsage"),
            ("1.3.6.1.5.5.7.1.1", "authorityInfoAccess"),
            ("1.3.6.1.4.1.311.20.2", "microsoftCertificateTemplateName"),
            ("1.3.6.1.4.1.311.21.7", "microsoftCertificateTemplate"),
            ("1.3.6.1.4.1.311.21.20", "microsoftClientInformation"),
            ("1.3.6.1.4.1.311.25.2", "microsoftSecurityIdentifier"),
            ("1.3.6.1.4.1.311.13.2.3", "microsoftOSVersion"),
            ("2.16.840.1.113733.1.9.8", "extensionReq (VeriSign)"),
            ("1.2.840.113549.1.7.1", "data"),
            ("1.2.840.113549.1.7.2", "signedData"),
            ("1.2.840.113549.1.7.3", "envelopedData"),
            ("1.2.840.113549.1.7.6", "encryptedData"),
        )
    },
}
_ALL: Final = {**ATTRIBUTES, **_OTHERS}


def oid_name(node: der.Node) -> str:
    """The usual name of an object identifier, or its dotted form."""
    encoded = node.expect(der.OID, "object identifier").raw
    return _ALL.get(encoded) or der.oid_text(encoded)


def name_text(name: bytes) -> str:
    """A distinguished Name in one line, most significant part first, as it is encoded.

    Values that are no proper strings appear in hex; nothing in a name makes this fail.
    """
    try:
        return ", ".join(
            " + ".join(_pair(pair) for pair in part.expect(der.SET, "part of a Name").children())
            for part in der.read(name).expect(der.SEQUENCE, "Name").children()
        )
    except DecodeError:
        return f"(not a Name: {name[:64].hex()})"


def _pair(pair: der.Node) -> str:
    kind, value = pair.fields(der.SEQUENCE, 2, "AttributeTypeAndValue")[:2]
    try:
        text = value.text("value")
    except DecodeError:
        text = "#" + value.raw.hex()
    return f"{oid_name(kind)}={text}"


def key_text(key: PublicKeyTypes) -> str:
    """Kind and size of a public key: ``RSA 2048``, ``EC secp256r1``."""
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")
