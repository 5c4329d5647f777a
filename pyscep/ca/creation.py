"""Makes a CA's own certificates: root or intermediate, and the RA certificates under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from pyscep.ca.profile import key_usage
from pyscep.identity import Identity

CaKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

Topology = Literal["ra", "ra-split", "ca", "ndes"]
"""Who talks to clients: an RA certificate for signing and decryption (``ra``), one for each
(``ra-split``), the CA's own key (``ca``), or one for each as NDES has them (``ndes``)."""

TOPOLOGIES: Final = ("ra", "ra-split", "ca", "ndes")
REQUEST_AGENT: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.1")
"""Extended key usage of Microsoft's enrollment agents."""
BACKDATE: Final = timedelta(hours=48)
"""More than the profiles', so that leaves are not cut short on a device with a slow clock."""

KEY_TYPES: Final[dict[str, Callable[[], CaKey]]] = {
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa-3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa-4096": lambda: rsa.generate_private_key(65537, 4096),
    "ec-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where CRL and certificate of an issuer can be had, by http.

    Windows refuses chains without.
    """

    crl: tuple[str, ...] = ()
    certificate: tuple[str, ...] = ()

    @property
    def extensions(self) -> tuple[x509.ExtensionType, ...]:
        """What its certificates say about that: CRLDistributionPoints, authorityInfoAccess."""
        found: list[x509.ExtensionType] = []
        if self.crl:
            found.append(
                x509.CRLDistributionPoints(
                    x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
                    for url in self.crl
                )
            )
        if self.certificate:
            issuers = AuthorityInformationAccessOID.CA_ISSUERS
            found.append(
                x509.AuthorityInformationAccess(
                    x509.AccessDescription(issuers, x509.UniformResourceIdentifier(url))
                    for url in self.certificate
                )
            )
        return tuple(found)


NOWHERE: Final = Addresses()


def generate_key(key_type: str) -> CaKey:
    """A new key of one of KEY_TYPES.

    Raises:
        ValueError: an unknown type.
    """
    if key_type not in KEY_TYPES:
        raise ValueError(f"key type {key_type!r} is none of {', '.join(KEY_TYPES)}")
    return KEY_TYPES[key_type]()


def make_ca(
    key: CaKey,
    *,
    common_name: str,
    organization: str | None,
    validity: timedelta,
    now: datetime,
    serial_number: int,
    decrypts: bool,
    parent: Identity | None = None,
    parent_addresses: Addresses = NOWHERE,
    starts: datetime | None = None,
) -> x509.Certificate:
    """A CA certificate: self-signed, or signed by ``parent`` and then no longer valid than it.

    Args:
        key: of the new CA.
        common_name: of its subject.
        organization: of its subject, or None.
        validity: from now on, or from ``starts`` on.
        now: the time of issue.
        serial_number: positive, at most 20 octets.
        decrypts: whether clients encrypt to this key, for lack of an RA (adds
            keyEncipherment, RFC 8894 section 3.5.2).
        parent: the CA above; None makes a root.
        parent_addresses: where its CRL and its certificate are published.
        starts: notBefore, for a CA that is to follow another one; None: now, for slow clocks
            two days ago.
    """
    subject = _name(common_name, organization)
    issuer = parent.certificate.subject if parent else subject
    not_after = (starts or now) + validity
    if parent:
        not_after = min(not_after, parent.certificate.not_valid_after_utc)
    usages = ["digitalSignature", "keyEncipherment"] if decrypts else ["digitalSignature"]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(starts or now - BACKDATE)
        .not_valid_after(not_after)
        # An intermediate issues to devices only; a root may have an intermediate below.
        .add_extension(x509.BasicConstraints(True, 0 if parent else None), critical=True)
        .add_extension(key_usage(usages, ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if parent:
        builder = builder.add_extension(_issuer_key_identifier(parent.certificate), False)
        for extension in parent_addresses.extensions:
            builder = builder.add_extension(extension, False)
    signing_key = parent.private_key if parent else key
    return builder.sign(signing_key, hashes.SHA256())


def make_ra(
    key: CaKey,
    ca: Identity,
    *,
    usages: tuple[str, ...],
    now: datetime,
    serial_number: int,
    request_agent: bool = False,
    addresses: Addresses = NOWHERE,
) -> x509.Certificate:
    """An RA certificate, valid as long as its CA.

    Args:
        key: of the RA; RSA where it decrypts.
        ca: who signs it.
        usages: digitalSignature for one that signs, keyEncipherment for one that decrypts.
        now: the time of issue.
        serial_number: positive, at most 20 octets.
        request_agent: add the extended key usage Certificate Request Agent, which the two
            certificates of NDES have.
        addresses: where the CA's CRL and certificate are published.
    """
    names = ca.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    base = str(names[0].value) if names else "pyscep CA"
    suffix = " RA" if len(usages) > 1 else f" RA {_PURPOSES[usages[0]]}"
    name = _name(base[: 64 - len(suffix)] + suffix, None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(max(now - BACKDATE, ca.certificate.not_valid_before_utc))
        .not_valid_after(ca.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .add_extension(key_usage(usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(_issuer_key_identifier(ca.certificate), False)
    )
    if request_agent:
        builder = builder.add_extension(x509.ExtendedKeyUsage([REQUEST_AGENT]), False)
    for extension in addresses.extensions:
        builder = builder.add_extension(extension, False)
    return builder.sign(ca.private_key, hashes.SHA256())


_PURPOSES: Final = {"digitalSignature": "signing", "keyEncipherment": "encryption"}


def _name(common_name: str, organization: str | None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _issuer_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
