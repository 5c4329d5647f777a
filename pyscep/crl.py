"""Looking a certificate up in a CRL of any length, without reading the rest of it.

RFC 5280 section 5. A CRL of a million entries is scanned, not parsed: what is looked at besides
the entry that fits is each entry's length and serial number.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pyscep import codec
from pyscep.codec import der
from pyscep.codec.shapes import ShapeBuilder
from pyscep.errors import DecodeError

_ENUMERATED: Final = 0x0A
_REASON_CODE: Final = der.oid("2.5.29.21")
_REASONS: Final = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: "removeFromCRL",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
_HEAD: Final = (
    ShapeBuilder()
    .open(der.SEQUENCE)
    .open(der.SEQUENCE)
    .optional(der.INTEGER, lambda shape: shape.pass_over())
    .pass_over()
    .pass_over()
    .take_any("thisUpdate")
    .optional(der.UTC_TIME, lambda shape: shape.pass_over())
    .optional(der.GENERALIZED_TIME, lambda shape: shape.pass_over())
    .take_optional(der.SEQUENCE, "revokedCertificates")
    .leave()
    .pass_over()
    .pass_over()
    .close()
    .build()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What a CRL says of a certificate."""

    serial_number: int
    revoked_at: datetime
    reason: str
    """An RFC 5280 name such as ``keyCompromise``; ``unspecified`` where none is given."""


def find_revocation(crl: bytes, serial_number: int) -> Revocation | None:
    """Look up one certificate.

    The CRL's signature is not looked at: ``Client.get_crl`` has checked it, or
    ``pyscep.trust.verify_crl`` does.

    Args:
        crl: one CertificateList in DER.

    Returns:
        Its entry, or None if it is not revoked.

    Raises:
        DecodeError: it is no CRL, or an entry is malformed.
    """
    places = _HEAD.match(crl)
    if places is None or crl[places[0][0]] not in (der.UTC_TIME, der.GENERALIZED_TIME):
        raise DecodeError("not a CRL in DER")
    _, start, end = places[1]
    serial = der.content_of(der.integer(serial_number))
    at = codec.find_serial(crl, start, end, serial)
    if at is None:
        return None
    entry = der.split(crl, at, end, most=1)
    assert entry  # noqa: S101 - for type checkers: find_serial has read its length
    fields = entry[0].fields(der.SEQUENCE, 2, "CRL entry")
    return Revocation(
        serial_number=serial_number,
        revoked_at=fields[1].time("revocationDate"),
        reason=_reason(fields[2]) if len(fields) > 2 else "unspecified",
    )


def _reason(extensions: der.Node) -> str:
    for extension in extensions.fields(der.SEQUENCE, 0, "crlEntryExtensions"):
        parts = extension.fields(der.SEQUENCE, 2, "Extension")
        if parts[0].raw == _REASON_CODE:
            code = der.read(parts[-1].octets("extnValue")).expect(_ENUMERATED, "reasonCode")
            number = int.from_bytes(code.value, "big")
            return _REASONS.get(number, f"reason {number}")
    return "unspecified"
