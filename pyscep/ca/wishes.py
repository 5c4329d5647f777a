"""What a request asks for besides names: the use of its key, and how long.

Nothing of this gets into a certificate on its own; a profile decides what it follows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Literal, TypeVar

from cryptography import x509

from pyscep.ca.refusal import Refusal
from pyscep.errors import DecodeError
from pyscep.pkcs10 import CertificateRequest

Purpose = Literal["signature", "encryption", "both"]

T = TypeVar("T", bound=x509.ExtensionType)

_UNITS: Final = {
    "seconds": timedelta(seconds=1),
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
    "years": timedelta(days=365),
}
_MOST_UNITS: Final = 100_000


def purpose_of(csr: CertificateRequest) -> Purpose:
    """What the key is for, as NDES chooses a template by it.

    Only signing: signature. Only enciphering or key agreement: encryption. Both, neither or no
    keyUsage at all: both.

    Raises:
        Refusal: its extensions can't be read.
    """
    usage = asked(csr, x509.KeyUsage)
    if usage is None:
        return "both"
    signs = usage.digital_signature or usage.content_commitment
    encrypts = usage.key_encipherment or usage.data_encipherment or usage.key_agreement
    if signs == encrypts:
        return "both"
    return "signature" if signs else "encryption"


def validity_of(csr: CertificateRequest) -> timedelta | None:
    """The validity that is asked for, as AD CS takes it (EDITF_ATTRIBUTEENDDATE).

    Windows puts a pair of the attributes ``ValidityPeriod`` (such as Days) and
    ``ValidityPeriodUnits`` (a number) into its requests. None: not asked for.

    Raises:
        Refusal: it can't be read.
    """
    found = _attributes(csr)
    unit, number = found.get("validityperiod"), found.get("validityperiodunits")
    if unit is None and number is None:
        return None
    step = _UNITS.get((unit or "").strip().lower())
    text = (number or "").strip()
    if step is None or not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(f"a validity of {ascii(number)} {ascii(unit)} can't be read")
    count = int(text)
    if not 1 <= count <= _MOST_UNITS:
        raise Refusal(f"a validity of {count} {ascii(unit)} makes no sense")
    return step * count


def end_of(csr: CertificateRequest) -> datetime | None:
    """The end that is asked for with the attribute ``ExpirationDate``; None: not asked for.

    A date as in HTTP, such as ``Tue, 21 Nov 2028 01:06:53 GMT``, after the documentation of
    AD CS; no request that has one was seen.

    Raises:
        Refusal: it can't be read.
    """
    text = _attributes(csr).get("expirationdate")
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text.strip())
    except (ValueError, OverflowError) as error:
        raise Refusal(f"an end of {ascii(text)} can't be read") from error
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _attributes(csr: CertificateRequest) -> dict[str, str]:
    """Windows' enrollment name-value pairs; names in lower case."""
    try:
        return {name.lower(): value for name, value in csr.name_value_pairs}
    except DecodeError as error:
        raise Refusal(error.reason) from error


def asked(csr: CertificateRequest, kind: type[T]) -> T | None:
    """The value of an extension that is asked for; None: not asked for.

    Raises:
        Refusal: the request's extensions can't be read, or one is there twice.
    """
    try:
        return csr.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except DecodeError as error:
        raise Refusal(error.reason) from error
