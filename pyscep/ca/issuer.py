"""The signing side of a CA: certificates and CRLs from what has been decided already.

What is signed has to be stored before it is signed, so this module writes the TBSCertificate
itself (RFC 5280 section 4.1) instead of having a builder write and sign it in one step. That
also keeps the subject of the request octet by octet; and the CRL is written likewise because
cryptography's builder needs time with the square of the entries. What comes out is read back with
cryptography before it leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from pyscep.ca.names import EMPTY_NAME, Names
from pyscep.ca.profile import ClientKey, Profile
from pyscep.ca.refusal import Refusal
from pyscep.ca.strong_mapping import SID_EXTENSION, sid_extension
from pyscep.cms.algorithms import DIGESTS
from pyscep.cms.certificates import extension, signed, tbs_certificate
from pyscep.cms.signing import scheme_for
from pyscep.codec import der
from pyscep.identity import Identity

_DIGESTS: Final = ("sha256", "sha384", "sha512")
SAN_OID: Final = "2.5.29.17"
_HTTP_URL: Final = re.compile(r"http://[!-~]+")
_oid: Final = lru_cache(maxsize=64)(der.oid)

REVOCATION_REASONS: Final = {
    flag.value: flag for flag in x509.ReasonFlags if flag is not x509.ReasonFlags.remove_from_crl
}
"""Reasons by their RFC 5280 names, such as ``keyCompromise``."""


class IssuerError(RuntimeError):
    """The CA can't issue at all: no request can help that, somebody has to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedEntry:
    """One line of a CRL."""

    serial_number: int
    revoked_at: datetime
    reason: str = "unspecified"


class Issuer:
    """Signs certificates and CRLs with the key of one CA.

    Args:
        identity: the CA's certificate and key (RSA or EC); its chain goes into GetCACert.
        digest: sha256, sha384 or sha512.
        crl_lifetime: from thisUpdate to nextUpdate.
        crl_urls: where the CRL can be had, by http: certificates name them (Windows refuses
            chains without), and the CRL says that it belongs there.
        issuer_urls: where the CA certificate can be had, by http (authorityInfoAccess).

    Raises:
        ValueError: not the certificate of a CA, a key that can't sign certificates, or a URL
            that is none.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        digest: str = "sha256",
        crl_lifetime: timedelta = timedelta(days=7),
        crl_urls: Iterable[str] = (),
        issuer_urls: Iterable[str] = (),
    ) -> None:
        self.identity = identity
        self.certificate = identity.certificate
        self.crl_lifetime = crl_lifetime
        if digest not in _DIGESTS:
            raise ValueError(f"digest {digest!r} is none of {', '.join(_DIGESTS)}")
        _check_is_ca(identity.certificate)
        if not isinstance(
            identity.certificate.public_key(), rsa.RSAPublicKey | ec.EllipticCurvePublicKey
        ):
            raise ValueError("the key of a CA is RSA or EC")
        self._scheme = scheme_for(identity.private_key, DIGESTS[digest], combined=True)
        self._not_before = identity.certificate.not_valid_before_utc
        self._not_after = identity.certificate.not_valid_after_utc
        crl_urls, issuer_urls = tuple(crl_urls), tuple(issuer_urls)
        for url in (*crl_urls, *issuer_urls):
            _check_url(url)
        self.crl_urls = crl_urls
        self._common = _common_extensions(identity.certificate, crl_urls, issuer_urls)
        self.crl_scope = _distribution_point(crl_urls)
        """The CRL's issuingDistributionPoint, DER; empty without URLs."""

    @cached_property
    def common_name(self) -> str:
        """The CN of the CA's subject, or the whole subject where there is none."""
        found = self.certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return str(found[0].value) if found else self.certificate.subject.rfc4514_string()

    @cached_property
    def id(self) -> str:
        """Names this issuer (name and key) in the store: 64 hexadecimal digits."""
        raw = self.identity.raw
        return sha256(raw.subject + raw.spki).hexdigest()

    def to_be_signed(
        self,
        *,
        serial_number: int,
        names: Names,
        key: ClientKey,
        spki: bytes,
        profile: Profile,
        now: datetime,
    ) -> tuple[bytes, datetime]:
        """The TBSCertificate for a decided request, DER, and its notAfter.

        Args:
            serial_number: positive, at most 20 octets.
            names: the profile's choice out of the request.
            key: to be certified.
            spki: the same key, DER, as the request had it.
            profile: says what else stands in the certificate.
            now: the time of issue.

        Raises:
            IssuerError: the CA certificate is not valid now.
            Refusal: the certificate would have ended already.
        """
        not_before, not_after = self._validity(profile, now)
        extensions = [_static_extensions(profile, isinstance(key, rsa.RSAPublicKey))]
        if names.sans:
            # RFC 5280 section 4.2.1.6: critical where the subject is empty.
            extensions.append(_encoded(SAN_OID, names.sans, names.subject == EMPTY_NAME))
        extensions.append(_extension(x509.SubjectKeyIdentifier.from_public_key(key)))
        extensions.append(self._common)
        if names.sid is not None:
            extensions.append(_encoded(SID_EXTENSION, sid_extension(names.sid), False))
        tbs = tbs_certificate(
            serial_number=serial_number,
            algorithm=self._scheme.identifier,
            issuer=self.identity.raw.subject,
            validity=der.time(not_before) + der.time(not_after),
            subject=names.subject,
            spki=spki,
            extensions=b"".join(extensions),
        )
        return tbs, not_after

    def sign(self, tbs: bytes) -> x509.Certificate:
        """Sign a stored TBSCertificate; what comes back holds exactly those octets.

        With RSA the same octets give the same certificate, whenever and wherever a crash
        interrupted.

        Raises:
            IssuerError: the result does not read back as what was to be signed.
        """
        certificate = x509.load_der_x509_certificate(self._signed(tbs))
        if certificate.tbs_certificate_bytes != tbs:
            raise IssuerError("the signed certificate differs from what was stored")
        return certificate

    def make_crl(self, entries: Iterable[RevokedEntry], *, number: int, now: datetime) -> bytes:
        """A complete CRL (RFC 5280 section 5), DER.

        Args:
            entries: every revoked certificate of this issuer.
            number: larger than that of every CRL before.
            now: thisUpdate; nextUpdate is ``crl_lifetime`` later.
        """
        revoked = [_revoked_entry(entry) for entry in entries]
        tbs = der.sequence(
            der.integer(1),
            self._scheme.identifier,
            self.identity.raw.subject,
            der.time(now),
            der.time(now + self.crl_lifetime),
            # RFC 5280 section 5.1.2.6: absent, not empty, when nothing is revoked.
            der.sequence(*revoked) if revoked else b"",
            der.context(
                0,
                der.sequence(
                    _extension(_authority_key_identifier(self.certificate)),
                    _extension(x509.CRLNumber(number)),
                    self.crl_scope,
                ),
            ),
        )
        return self._signed(tbs)

    def _signed(self, tbs: bytes) -> bytes:
        """What was to be signed, the algorithm and the signature, as one SEQUENCE."""
        return signed(tbs, self._scheme, self.identity.private_key)

    def _validity(self, profile: Profile, now: datetime) -> tuple[datetime, datetime]:
        """notBefore and notAfter, never outside of the CA's own."""
        if not self._not_before <= now < self._not_after:
            raise IssuerError("the CA certificate is not valid at this time")
        now = now.replace(microsecond=0)
        not_before = max(now - profile.backdate, self._not_before)
        not_after = min(now + profile.validity, self._not_after)
        if profile.not_after is not None:
            not_after = min(not_after, profile.not_after.replace(microsecond=0))
            if not_after <= now:
                raise Refusal("the end that the request or the profile wants is over")
        return not_before, not_after


def _check_is_ca(certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise ValueError(f"the issuer's certificate is not a CA's: {error}") from error
    if not (constraints.ca and usage.key_cert_sign and usage.crl_sign):
        raise ValueError(
            "the issuer's certificate needs CA:TRUE with the key usages keyCertSign and cRLSign"
        )


def _check_url(url: str) -> None:
    """Only http: checking the certificate of an https server would need the CRL first."""
    if not _HTTP_URL.fullmatch(url):
        raise ValueError(f"{ascii(url)} is no URL like http://pki.example/ca.crl")


def _distribution_point(urls: Iterable[str]) -> bytes:
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    if not names:
        return b""
    # RFC 5280 section 5.2.5: critical, and one of its names must be the certificate's.
    return _extension(
        x509.IssuingDistributionPoint(
            full_name=names,
            relative_name=None,
            only_contains_user_certs=False,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        ),
        critical=True,
    )


def _common_extensions(
    ca: x509.Certificate, crl_urls: Iterable[str], issuer_urls: Iterable[str]
) -> bytes:
    """The encoded extensions that depend on the issuer alone."""
    extensions = [_extension(_authority_key_identifier(ca))]
    points = [
        x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
        for url in crl_urls
    ]
    if points:
        extensions.append(_extension(x509.CRLDistributionPoints(points)))
    access = [
        x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url)
        )
        for url in issuer_urls
    ]
    if access:
        extensions.append(_extension(x509.AuthorityInformationAccess(access)))
    return b"".join(extensions)


def _authority_key_identifier(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        identifier = x509.SubjectKeyIdentifier.from_public_key(ca.public_key())
    return x509.AuthorityKeyIdentifier(identifier.digest, None, None)


@lru_cache(maxsize=64)
def _static_extensions(profile: Profile, encipher: bool) -> bytes:
    return b"".join(
        _extension(value, critical) for value, critical in profile.usages(encipher=encipher)
    )


def _extension(value: x509.ExtensionType, critical: bool = False) -> bytes:
    return _encoded(value.oid.dotted_string, value.public_bytes(), critical)


def _encoded(oid: str, value: bytes, critical: bool) -> bytes:
    return extension(_oid(oid), value, critical=critical)


def _revoked_entry(entry: RevokedEntry) -> bytes:
    extensions = b""
    if entry.reason != "unspecified":
        # RFC 5280 section 5.3.1: leave the reason out rather than say unspecified.
        reason = x509.CRLReason(REVOCATION_REASONS[entry.reason])
        extensions = der.sequence(_extension(reason))
    return der.sequence(der.integer(entry.serial_number), der.time(entry.revoked_at), extensions)
