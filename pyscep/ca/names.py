"""The names in a request: which of them a profile takes over, and whether they are sound.

Only these names and the public key go from a request into a certificate. Kinds of names
that a profile does not allow are left out; an allowed name with a bad value is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cryptography import x509

from pyscep.ca.refusal import Refusal
from pyscep.errors import DecodeError
from pyscep.pkcs10 import CertificateRequest

SUBJECT_TYPES: Final = {
    "commonName": "2.5.4.3",
    "surname": "2.5.4.4",
    "serialNumber": "2.5.4.5",
    "countryName": "2.5.4.6",
    "localityName": "2.5.4.7",
    "stateOrProvinceName": "2.5.4.8",
    "streetAddress": "2.5.4.9",
    "organizationName": "2.5.4.10",
    "organizationalUnitName": "2.5.4.11",
    "title": "2.5.4.12",
    "givenName": "2.5.4.42",
    "dnQualifier": "2.5.4.46",
    "userId": "0.9.2342.19200300.100.1.1",
    "domainComponent": "0.9.2342.19200300.100.1.25",
    "emailAddress": "1.2.840.113549.1.9.1",
    "unstructuredName": "1.2.840.113549.1.9.2",
    "unstructuredAddress": "1.2.840.113549.1.9.8",
}
"""Attribute types by the names that profiles use; a dotted OID works too."""

SAN_TYPES: Final = ("dns", "ip", "email", "uri", "upn")
EMPTY_NAME: Final = b"\x30\x00"
UPN_OID: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")

_NAME_OF_OID: Final = {oid: name for name, oid in SUBJECT_TYPES.items()}
_LABEL: Final = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_EMAIL_LOCAL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_BAD_CATEGORIES: Final = frozenset(("Cc", "Cf", "Cs", "Cn", "Zl", "Zp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The names that go into a certificate."""

    subject: bytes
    """Name, DER; as the request had it, octet by octet, unless something was left out."""
    sans: bytes = b""
    """The value of the subjectAltName extension, DER; empty for none."""
    subject_text: str = ""
    """RFC 4514, for people."""
    san_texts: tuple[str, ...] = ()
    """Such as ``dns:a.example``, for people and for comparing."""
    sid: str | None = None
    """The security identifier that a trusted source has for the holder; never the request's."""

    @classmethod
    def of_certificate(cls, certificate: x509.Certificate) -> Names:
        """The names of a certificate, for one that takes its place."""
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            sans: tuple[x509.GeneralName, ...] = tuple(extension.value)
        except x509.ExtensionNotFound:
            sans = ()
        return _names(certificate.subject, certificate.subject.public_bytes(), sans)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRules:
    """What names a profile takes from a request."""

    subject_types: tuple[str, ...]
    san_types: tuple[str, ...]
    patterns: tuple[tuple[str, str], ...] = ()
    """Pairs of a kind (of subject_types or san_types) and a regular expression that the
    whole of every such value must match."""
    uri_schemes: tuple[str, ...] = ("http", "https", "urn", "spiffe")
    """URIs with other schemes are left out."""
    wildcards: bool = False
    """Allow ``*.`` at the start of a DNS name."""
    max_sans: int = 20
    max_subject_attributes: int = 16
    max_length: int = 128
    """Of one subject value, in characters; other names may have 255."""

    def __post_init__(self) -> None:
        for kind in self.subject_types:
            _oid_of(kind)
        for kind in self.san_types:
            if kind not in SAN_TYPES:
                raise ValueError(f"{kind!r} is none of the SAN types {', '.join(SAN_TYPES)}")
        known = (*self.subject_types, *self.san_types)
        for kind, pattern in self.patterns:
            if kind not in known:
                raise ValueError(f"a pattern for {kind!r}, which the profile does not allow")
            re.compile(pattern)


def take(rules: NameRules, csr: CertificateRequest) -> Names:
    """The allowed names of a request.

    Raises:
        Refusal: nothing is left, there are too many, or a value is bad.
    """
    subject = subject_of(csr)
    subject_der = _take_subject(rules, subject, csr.subject)
    sans = _take_sans(rules, csr)
    if subject_der == EMPTY_NAME and not sans:
        raise Refusal("the request has no name that the profile allows")
    return _names(subject, subject_der, sans)


def _names(subject: x509.Name, subject_der: bytes, sans: tuple[x509.GeneralName, ...]) -> Names:
    return Names(
        subject=subject_der,
        sans=x509.SubjectAlternativeName(sans).public_bytes() if sans else b"",
        subject_text=subject.rfc4514_string(),
        san_texts=san_texts(sans),
    )


def _take_subject(rules: NameRules, subject: x509.Name, encoded: bytes) -> bytes:
    allowed = _allowed_oids(rules.subject_types)
    kept: list[x509.RelativeDistinguishedName] = []
    dropped = False
    count = 0
    for rdn in subject.rdns:
        members = list(rdn)
        attributes = [attribute for attribute in members if attribute.oid.dotted_string in allowed]
        for attribute in attributes:
            _check_value(rules, attribute)
        count += len(attributes)
        dropped = dropped or len(attributes) != len(members)
        if attributes:
            kept.append(x509.RelativeDistinguishedName(attributes))
    if count > rules.max_subject_attributes:
        raise Refusal(f"more than {rules.max_subject_attributes} subject attributes")
    return x509.Name(kept).public_bytes() if dropped else encoded


def _take_sans(rules: NameRules, csr: CertificateRequest) -> tuple[x509.GeneralName, ...]:
    sans = []
    for name in sans_of(csr):
        kind, text = describe_san(name)
        if kind in rules.san_types and _wants_scheme(rules, kind, text):
            _check_san(rules, kind, text)
            sans.append(name)
    if len(sans) > rules.max_sans:
        raise Refusal(f"more than {rules.max_sans} subject alternative names")
    return tuple(sans)


def kept_san_texts(rules: NameRules, csr: CertificateRequest) -> tuple[str, ...]:
    """The alternative names of the kinds that are taken over, in their order, unchecked.

    Raises:
        Refusal: the request's extensions can't be read.
    """
    described = [describe_san(name) for name in sans_of(csr)]
    return tuple(
        f"{kind}:{text}"
        for kind, text in described
        if kind in rules.san_types and _wants_scheme(rules, kind, text)
    )


def subject_of(csr: CertificateRequest) -> x509.Name:
    """The subject in cryptography's form.

    Raises:
        Refusal: it can't be read.
    """
    try:
        return csr.subject_name
    except DecodeError as error:
        raise Refusal(error.reason) from error


def sans_of(csr: CertificateRequest) -> tuple[x509.GeneralName, ...]:
    """The alternative names that the request asks for.

    Raises:
        Refusal: its extensions can't be read.
    """
    try:
        extension = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    except DecodeError as error:
        raise Refusal(error.reason) from error
    return tuple(extension.value)


def describe_san(name: x509.GeneralName) -> tuple[str, str]:
    """Kind and text, such as ``("dns", "a.example")``; kind ``other`` is in no profile."""
    match name:
        case x509.DNSName(value=text):
            return "dns", text
        case x509.RFC822Name(value=text):
            return "email", text
        case x509.UniformResourceIdentifier(value=text):
            return "uri", text
        case x509.IPAddress(value=IPv4Address() | IPv6Address() as address):
            return "ip", str(address)
        case x509.OtherName(type_id=type_id, value=value) if type_id == UPN_OID:
            return "upn", _utf8_string(value)
        case _:
            return "other", repr(name)


def san_texts(sans: Iterable[x509.GeneralName]) -> tuple[str, ...]:
    """Alternative names as ``kind:text``, in their order."""
    return tuple(":".join(describe_san(name)) for name in sans)


def same_name(one: x509.Name, other: x509.Name) -> bool:
    """Whether two names have the same attributes and values in either order.

    String types don't count, nor does the order, which tools turn round (RFC 4514).
    """
    return _attributes(one) == _attributes(other)


def _attributes(name: x509.Name) -> list[tuple[str, str | bytes]]:
    return sorted(
        ((attribute.oid.dotted_string, attribute.value) for attribute in name),
        key=repr,
    )


@lru_cache(maxsize=64)
def _allowed_oids(kinds: tuple[str, ...]) -> frozenset[str]:
    return frozenset(_oid_of(kind) for kind in kinds)


def _oid_of(kind: str) -> str:
    """Raises ValueError for a name that is neither known nor a dotted OID."""
    oid = SUBJECT_TYPES.get(kind, kind)
    try:
        return x509.ObjectIdentifier(oid).dotted_string
    except ValueError as error:
        raise ValueError(f"unknown subject attribute type {kind!r}") from error


def _check_value(rules: NameRules, attribute: x509.NameAttribute[str | bytes]) -> None:
    oid = attribute.oid.dotted_string
    kind = _NAME_OF_OID.get(oid, oid)
    value = attribute.value
    if not isinstance(value, str):
        raise Refusal(f"{kind} is not text")
    check_text(kind, value, rules.max_length)
    _check_pattern(rules, kind, value)


def _check_san(rules: NameRules, kind: str, text: str) -> None:
    check_text(kind, text, 255)
    sound = True
    if kind == "dns":
        host = text[2:] if rules.wildcards and text.startswith("*.") else text
        sound = _is_host(host)
    elif kind == "email":
        local, _, domain = text.rpartition("@")
        sound = _EMAIL_LOCAL.fullmatch(local) is not None and _is_host(domain)
    elif kind == "uri":
        sound = _URI.fullmatch(text) is not None
    elif kind == "upn":
        local, _, domain = text.rpartition("@")
        sound = bool(local) and _is_host(domain)
    if not sound:
        raise Refusal(f"alternative name {kind}:{ascii(text)} is not allowed")
    _check_pattern(rules, kind, text)


def _wants_scheme(rules: NameRules, kind: str, text: str) -> bool:
    """Windows sends ``ID:Microsoft Endpoint Manager:GUID:...``: such URIs are left out."""
    return kind != "uri" or text.partition(":")[0].lower() in rules.uri_schemes


def _is_host(text: str) -> bool:
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def check_text(kind: str, text: str, limit: int) -> None:
    """Refuse text that is empty, too long, or shows otherwise than it is.

    Raises:
        Refusal: says which.
    """
    if not 0 < len(text) <= limit:
        raise Refusal(f"{kind} has {len(text)} characters: 1 to {limit} are allowed")
    if not (text.isascii() and text.isprintable()) and any(
        unicodedata.category(character) in _BAD_CATEGORIES for character in text
    ):
        # NUL, line breaks, terminal control and bidirectional overrides.
        raise Refusal(f"{kind} has control characters: {ascii(text)}")


def _check_pattern(rules: NameRules, kind: str, text: str) -> None:
    for pattern_kind, pattern in rules.patterns:
        if pattern_kind == kind and re.fullmatch(pattern, text) is None:
            raise Refusal(f"{kind} {ascii(text)} does not match the profile's pattern")


def _utf8_string(value: bytes) -> str:
    """The text of a UTF8String in short form; what is longer or different has no text."""
    if len(value) < 2 or value[0] != 0x0C or value[1] != len(value) - 2 or value[1] > 127:
        return ""
    return value[2:].decode("utf-8", "replace")
