"""What one certificate says, and who signed it (RFC 5280 sections 4.2 and 6.1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pyscep.cms import signatures
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.cms.keys import check_public_key
from pyscep.codec import der
from pyscep.errors import DecodeError, ProtocolError, SignatureError
from pyscep.identity import X509_FAULTS, RawCertificate

_CERTIFICATE_REQUEST_AGENT: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.1")
_CMC_RA: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
_CMC_CA: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.27")
_RA_PURPOSES: Final = frozenset({_CERTIFICATE_REQUEST_AGENT, _CMC_RA, _CMC_CA})


def is_ca(certificate: x509.Certificate) -> bool:
    """basicConstraints says CA; version 1 certificates never do."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *X509_FAULTS):
        return False


def acts_for_ca(certificate: x509.Certificate) -> bool:
    """A CA's certificate, or one that names a purpose of RAs: whatever else it is, no device's.

    An RA without extendedKeyUsage can't be told from a device by its certificate alone.
    """
    if is_ca(certificate):
        return True
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    except X509_FAULTS:
        return True
    return bool(set(usage) & _RA_PURPOSES)


def is_registration_authority(certificate: x509.Certificate) -> bool:
    """A certificate that may act for the CA.

    Devices have certificates of the same CA, and the answer that this one came in is not
    authenticated: a certificate for clientAuth or other purposes of devices is not an RA's
    unless it also names a purpose of RAs.
    """
    if is_ca(certificate):
        return False
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    except X509_FAULTS:
        return False
    purposes = set(usage)
    return bool(purposes & _RA_PURPOSES) or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes


def allows(certificate: x509.Certificate, usage: str) -> bool:
    """The keyUsage extension has that bit, or there is no such extension."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return True
    except X509_FAULTS:
        return False
    return bool(getattr(extension.value, usage))


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Raise ProtocolError for a certificate that is not valid now."""
    try:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except ValueError as error:
        raise DecodeError(f"validity of a certificate: {error}") from error
    if not start <= now <= end:
        raise ProtocolError(
            f"a certificate of the server is not valid now: valid from "
            f"{start:%Y-%m-%d} to {end:%Y-%m-%d}"
        )


def may_issue(issuer: RawCertificate, certificate: RawCertificate) -> bool:
    """The names fit and the issuer is a CA; says nothing about the signature."""
    if issuer.subject != certificate.issuer or not is_ca(issuer.certificate):
        return False
    return allows(issuer.certificate, "key_cert_sign")


def verify_issued_by(
    certificate: RawCertificate, issuer: RawCertificate, policy: AlgorithmPolicy
) -> None:
    """Check the signature of a certificate with its issuer's key.

    Raises:
        SignatureError: it does not verify.
        AlgorithmError: an algorithm or key that the policy refuses.
    """
    _verify_structure(certificate.der, issuer, policy)


def verify_issued_by_any(
    certificate: RawCertificate, authorities: Iterable[RawCertificate], policy: AlgorithmPolicy
) -> bool:
    """Check that one of the CAs of the issuer's name signed; a CA keeps its name in a rollover.

    Returns:
        False if none has that name.

    Raises:
        As ``verify_issued_by``, if none of them signed.
    """
    fault: ProtocolError | None = None
    for authority in authorities:
        if may_issue(authority, certificate):
            try:
                verify_issued_by(certificate, authority, policy)
                return True
            except ProtocolError as error:
                fault = error
    if fault is not None:
        raise fault
    return False


def verify_crl(crl: bytes, issuer: RawCertificate, policy: AlgorithmPolicy) -> None:
    """Check issuer name and signature of a CRL of any length.

    Raises:
        SignatureError: another issuer's, or the signature does not verify.
    """
    root = der.read(crl, leaf_depth=2)
    fields = root.fields(der.SEQUENCE, 3, "CertificateList")[0].fields(
        der.SEQUENCE, 3, "TBSCertList"
    )
    # version is optional, then come signature and issuer
    issuer_field = fields[2] if fields[0].tag == der.INTEGER else fields[1]
    if issuer_field.raw != issuer.subject:
        raise SignatureError("the CRL is another issuer's")
    _verify_structure(crl, issuer, policy)


def _verify_structure(data: bytes, issuer: RawCertificate, policy: AlgorithmPolicy) -> None:
    key = issuer.public_key
    check_public_key(key, min_rsa_bits=policy.min_rsa_bits, max_rsa_bits=policy.max_ca_rsa_bits)
    signatures.verify_structure(der.read(data, leaf_depth=2), key, policy.digests)
