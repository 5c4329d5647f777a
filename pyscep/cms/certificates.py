"""Writing certificates and other signed structures (RFC 5280 section 4.1), from what is encoded."""

from __future__ import annotations

from typing import Any, Final

from pyscep.cms.signing import Scheme
from pyscep.codec import der
from pyscep.codec.templates import Template

_TBS_CERTIFICATE: Final = Template(
    (
        der.SEQUENCE,
        der.context(0, der.integer(2)),
        (der.INTEGER, "serialNumber"),
        "signature",
        "issuer",
        (der.SEQUENCE, "validity"),
        "subject",
        "subjectPublicKeyInfo",
        (0xA3, (der.SEQUENCE, "extensions")),
    )
)
_SIGNED: Final = Template(
    (der.SEQUENCE, "toBeSigned", "algorithm", (der.BIT_STRING, b"\x00", "signature"))
)


def tbs_certificate(
    *,
    serial_number: int,
    algorithm: bytes,
    issuer: bytes,
    validity: bytes,
    subject: bytes,
    spki: bytes,
    extensions: bytes,
) -> bytes:
    """A TBSCertificate of version 3 in DER; every argument but the number is encoded.

    Args:
        serial_number: positive.
        algorithm: the AlgorithmIdentifier of the signature to come.
        validity: notBefore and notAfter, one behind the other.
        extensions: at least one, one behind the other.
    """
    number = serial_number.to_bytes(serial_number.bit_length() // 8 + 1, "big")
    return _TBS_CERTIFICATE.fill(number, algorithm, issuer, validity, subject, spki, extensions)


def signed(to_be_signed: bytes, scheme: Scheme, key: Any) -> bytes:
    """A certificate, CRL or CSR: what is signed, the algorithm, the signature."""
    return _SIGNED.fill(to_be_signed, scheme.identifier, scheme.sign(key, to_be_signed))


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    """An Extension around its encoded value."""
    return _EXTENSION.fill(oid, _TRUE if critical else b"", value)


_EXTENSION: Final = Template((der.SEQUENCE, "extnID", "critical", (der.OCTET_STRING, "extnValue")))
_TRUE: Final = der.tlv(der.BOOLEAN, b"\xff")
