"""What one certificate request must look like, field by field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pyscep.ca import names
from pyscep.ca.profile import EXTENDED_KEY_USAGES, KEY_USAGES
from pyscep.ca.refusal import Refusal
from pyscep.pkcs10 import CertificateRequest

T = TypeVar("T", bound=x509.ExtensionType)

MAX_SANS: Final = 100
_KEY: Final = re.compile(r"rsa-[1-9][0-9]{3,4}|ec-p(256|384|521)")
_CURVES: Final = {"secp256r1": "ec-p256", "secp384r1": "ec-p384", "secp521r1": "ec-p521"}
_USAGES: Final = KEY_USAGES | {
    "keyCertSign": "key_cert_sign",
    "cRLSign": "crl_sign",
}
_EXTENDED_NAMES: Final = {oid: name for name, oid in EXTENDED_KEY_USAGES.items()}

_COMPARED: Final = frozenset(
    (x509.SubjectAlternativeName.oid, x509.KeyUsage.oid, x509.ExtendedKeyUsage.oid)
)
# Devices ask for these of their own accord, and nothing of them gets into a certificate.
_HARMLESS: Final = frozenset(
    x509.ObjectIdentifier(oid)
    for oid in (
        "2.5.29.14",  # subjectKeyIdentifier
        "2.5.29.19",  # basicConstraints; a CA's is refused before
        "1.2.840.113549.1.9.15",  # S/MIME capabilities
        "1.3.6.1.4.1.311.20.2",  # name of a certificate template
        "1.3.6.1.4.1.311.21.7",  # certificate template
        "1.3.6.1.4.1.311.21.10",  # application policies
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The only request that a challenge is good for.

    Raises:
        ValueError: a value that no request can have.
    """

    subject: x509.Name
    """Exactly these attributes and values, in this order or, where no type comes twice, in
    the reverse one (RFC 4514 turns names round)."""
    sans: tuple[str, ...] = ()
    """Exactly these alternative names, as ``dns:a.example``, ``ip:``, ``email:``, ``uri:`` or
    ``upn:``. Empty: none."""
    key_usage: tuple[str, ...] | None = None
    """Exactly these, by their RFC 5280 names; None: what the request asks is not looked at,
    since the profile decides."""
    extended_key_usage: tuple[str, ...] | None = None
    """Exactly these, by name or dotted OID; None as for key_usage."""
    key: str | None = None
    """Kind and size of the key, such as ``rsa-2048`` or ``ec-p256``; None: the profile's."""
    profile: str | None = None
    """What is to be issued; None: the CA's first profile."""

    def __post_init__(self) -> None:
        if not self.subject.rdns and not self.sans:
            raise ValueError("a request needs a subject or an alternative name")
        for attribute in self.subject:
            value = attribute.value
            if not isinstance(value, str):
                raise ValueError(f"{attribute.oid.dotted_string} is not text")
            _check(attribute.oid.dotted_string, value)
        if len(self.sans) > MAX_SANS:
            raise ValueError(f"more than {MAX_SANS} alternative names")
        for san in self.sans:
            kind, _, text = san.partition(":")
            if kind not in names.SAN_TYPES:
                raise ValueError(
                    f"{ascii(san)} is no alternative name: begin it with one of "
                    + ", ".join(f"{known}:" for known in names.SAN_TYPES)
                )
            _check(kind, text)
        for usage in self.key_usage or ():
            if usage not in KEY_USAGES:
                raise ValueError(f"key usage {usage!r} is none of {', '.join(KEY_USAGES)}")
        if self.extended_key_usage is not None:
            _ = _extended(self.extended_key_usage)
        if self.key is not None and not _KEY.fullmatch(self.key):
            raise ValueError(f"key {self.key!r} is none like rsa-2048, ec-p256")

    def difference(self, csr: CertificateRequest) -> str | None:
        """The first field in which a request differs; None if it is the one.

        Raises:
            DecodeError: it can't be read; ``csr_check`` says so beforehand.
        """
        if not _same_name(self.subject, csr.subject_name):
            return "subject"
        asked = names.san_texts(_value(csr, x509.SubjectAlternativeName) or ())
        if sorted(self.sans) != sorted(asked):
            return "subject alternative names"
        usage = _value(csr, x509.KeyUsage)
        if self.key_usage is not None and set(self.key_usage) != _usages(usage):
            return "key usage"
        extended = set(_value(csr, x509.ExtendedKeyUsage) or ())
        if self.extended_key_usage is not None and _extended(self.extended_key_usage) != extended:
            return "extended key usage"
        if self.key is not None and self.key != _key_of(csr):
            return "key size"
        for extension in csr.extensions:
            if extension.oid not in _COMPARED | _HARMLESS:
                return f"extension {extension.oid.dotted_string}"
        return None


def _check(kind: str, text: str) -> None:
    try:
        names.check_text(kind, text, 255)
    except Refusal as refusal:
        raise ValueError(refusal.reason) from refusal
    if kind == "ip" and str(ip_address(text)) != text:
        raise ValueError(f"write the address as {ip_address(text)}")


def _same_name(expected: x509.Name, found: x509.Name) -> bool:
    one, other = _rdns(expected), _rdns(found)
    types = [attribute.oid for attribute in expected]
    return one == other or (len(set(types)) == len(types) and one == other[::-1])


def _rdns(name: x509.Name) -> list[frozenset[tuple[str, str | bytes]]]:
    """Without the string types, which devices choose."""
    return [
        frozenset((attribute.oid.dotted_string, attribute.value) for attribute in rdn)
        for rdn in name.rdns
    ]


def _value(csr: CertificateRequest, kind: type[T]) -> T | None:
    """An extension that is asked for."""
    try:
        return csr.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _usages(extension: x509.KeyUsage | None) -> set[str]:
    if extension is None:
        return set()
    return {name for name, attribute in _USAGES.items() if getattr(extension, attribute)}


def _extended(usages: tuple[str, ...]) -> set[x509.ObjectIdentifier]:
    found = set()
    for usage in usages:
        try:
            found.add(EXTENDED_KEY_USAGES.get(usage) or x509.ObjectIdentifier(usage))
        except ValueError as error:
            raise ValueError(f"unknown extended key usage {usage!r}") from error
    return found


def _key_of(csr: CertificateRequest) -> str:
    match csr.public_key:
        case rsa.RSAPublicKey() as key:
            return f"rsa-{key.key_size}"
        case ec.EllipticCurvePublicKey() as key:
            return _CURVES.get(key.curve.name, key.curve.name)
        case key:
            return type(key).__name__
