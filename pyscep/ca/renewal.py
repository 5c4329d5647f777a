"""What a certificate may be renewed to, and which certificates of other CAs may be.

RFC 8894 section 2.3. A CA is trusted for the devices it has certified. Its other CAs, its RAs,
and whoever else acts for it are no devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pyscep.ca import names
from pyscep.ca.names import Names
from pyscep.ca.profile import Profile
from pyscep.ca.refusal import Refusal
from pyscep.identity import X509_FAULTS
from pyscep.messages import PKCSReq, RenewalReq
from pyscep.pki_request import PkiRequest
from pyscep.trust import acts_for_ca, is_ca


def check_migrant(certificate: x509.Certificate, issuers: Sequence[x509.Certificate]) -> None:
    """See that a device's certificate is of one of these CAs.

    Args:
        certificate: signed the request.
        issuers: CAs; RA certificates among them say which RAs those CAs have, where these
            can't be told by their extendedKeyUsage.

    Raises:
        Refusal: nobody of them signed it, or it is not a device's.
    """
    authorities = [one for one in issuers if is_ca(one) or one.version is x509.Version.v1]
    if not any(_issued_by(certificate, issuer) for issuer in authorities):
        raise Refusal("renewal: the signer's certificate is of an unknown CA")
    if certificate in issuers or acts_for_ca(certificate):
        raise Refusal("renewal: the signer's certificate is not a device's, but a CA's or RA's")


def check_renewable(
    profile: Profile,
    certificate: x509.Certificate,
    request: PkiRequest,
    message: PKCSReq | RenewalReq,
    now: datetime,
) -> None:
    """See that the profile renews this certificate now, for this request.

    Raises:
        Refusal: it does not.
    """
    rules = profile.renewal
    if not rules.allowed:
        raise Refusal(f"renewal: the profile {profile.name!r} does not allow it")
    ends = certificate.not_valid_after_utc
    if now > ends + rules.grace or now < certificate.not_valid_before_utc:
        raise Refusal("renewal: the signer's certificate is not valid now")
    if rules.window is not None and now < ends - rules.window:
        raise Refusal("renewal: too early")
    if not rules.same_key and message.csr.spki == request.signer.spki:
        raise Refusal("renewal: the profile demands a new key")


def renewed_names(
    profile: Profile,
    message: PKCSReq | RenewalReq,
    certificate: x509.Certificate,
    originals: Sequence[x509.Name],
) -> Names:
    """The names of the old certificate, which the request must repeat or leave out.

    Its subject may be what the first request had, of which the profile has left something
    out since: Cisco's renewals differ from its certificates in that.

    Raises:
        Refusal: they are other names.
    """
    if profile.renewal.subject_change:
        return profile.take_names(message.csr)
    old = Names.of_certificate(certificate)
    subject = names.subject_of(message.csr)
    if len(subject.rdns) and not any(names.same_name(subject, one) for one in originals):
        raise Refusal("renewal: the subject differs from the certificate's")
    allowed = set(names.kept_san_texts(profile.name_rules, message.csr))
    if allowed and allowed != set(old.san_texts):
        raise Refusal("renewal: the alternative names differ from the certificate's")
    return profile.identify(old)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*X509_FAULTS, InvalidSignature):
        return False
    return True
