"""Which certificates of a GetCACert answer a client believes, and for what.

RFC 8894 section 2.2 and 4.2. The answer is not authenticated: everything hangs on one
certificate that the caller pinned, and on what that certificate signed.
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypedDict

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.cms.certs_only import read_certs_only
from pyscep.cms.signed_data import MAX_CERTIFICATES
from pyscep.codec import der
from pyscep.errors import DecodeError, ProtocolError, SignatureError
from pyscep.identity import X509_FAULTS, RawCertificate
from pyscep.issuance import (
    acts_for_ca,
    allows,
    check_validity,
    is_ca,
    is_registration_authority,
    may_issue,
    verify_crl,
    verify_issued_by,
    verify_issued_by_any,
)
from pyscep.paths import Paths

__all__ = [
    "CaCertificates",
    "Selection",
    "acts_for_ca",
    "allows",
    "check_validity",
    "find_pinned",
    "is_ca",
    "is_registration_authority",
    "may_issue",
    "parse_ca_certificates",
    "parse_fingerprint",
    "roots_of",
    "select",
    "under_next",
    "verify_crl",
    "verify_issued_by",
    "verify_issued_by_any",
]


class Selection(TypedDict):
    """How certificates are judged; ``select`` says what each means."""

    now: datetime
    check_key_usage: bool
    agents: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaCertificates:
    """A server's certificates, verified, each with its part."""

    ca: x509.Certificate
    """Issues certificates."""
    recipient: x509.Certificate
    """Requests are encrypted to it: the RA for encryption, or the CA."""
    signers: tuple[x509.Certificate, ...]
    """Replies may be signed by these."""
    certificates: tuple[x509.Certificate, ...]
    """All that are trusted: the CA, its chain, its RAs."""
    ignored: tuple[x509.Certificate, ...] = ()
    """Sent by the server, but not signed by anything that is trusted."""


def parse_ca_certificates(body: bytes) -> tuple[RawCertificate, ...]:
    """Read the body of a GetCACert answer by what it is, not by its media type.

    One certificate in DER or PEM, or a certificates-only SignedData.

    Raises:
        DecodeError: it is none of these, or holds no certificate.
    """
    text = body.strip()
    if text.startswith(b"-----BEGIN CERTIFICATE-----"):
        try:
            certificates = x509.load_pem_x509_certificates(text)
        except X509_FAULTS as error:
            raise DecodeError(f"the CA certificate: {error}") from error
        if len(certificates) > MAX_CERTIFICATES:
            raise DecodeError("too many certificates")
        return tuple(RawCertificate.from_certificate(one) for one in certificates)
    root = der.read(body, leaf_depth=2, max_trailing=8)
    first = root.fields(der.SEQUENCE, 2, "the CA certificate")[0]
    # A Certificate starts with a SEQUENCE, a ContentInfo with its type.
    if first.tag != der.OID:
        return (RawCertificate(root.raw),)
    bag = read_certs_only(body).certificates
    if not bag:
        raise DecodeError("the server sent no CA certificate")
    return tuple(RawCertificate(one) for one in bag)


def parse_fingerprint(text: str) -> bytes:
    """``sha256:<64 hex digits>``, with or without prefix, colons and spaces.

    Raises:
        ValueError: another length: MD5 and SHA-1 fingerprints are not taken.
    """
    digits = text.strip().lower().removeprefix("sha256:").removeprefix("sha-256:")
    digits = digits.replace(":", "").replace(" ", "")
    try:
        fingerprint = binascii.unhexlify(digits)
    except ValueError:
        fingerprint = b""
    if len(fingerprint) != 32:
        raise ValueError(
            "a CA fingerprint is SHA-256 over the certificate: 64 hex digits, as printed by "
            "openssl x509 -noout -fingerprint -sha256"
        )
    return fingerprint


def find_pinned(certificates: Sequence[RawCertificate], fingerprint: bytes) -> RawCertificate:
    """The certificate with that SHA-256 fingerprint.

    Raises:
        SignatureError: none has it.
    """
    for one in certificates:
        if hmac.compare_digest(one.sha256, fingerprint):
            return one
    seen = ", ".join(one.sha256.hex() for one in certificates)
    raise SignatureError(
        f"no certificate of the server has the pinned fingerprint; the server sent {seen}"
    )


def roots_of(certificates: Sequence[RawCertificate]) -> tuple[RawCertificate, ...]:
    """What trust on first use starts from: the topmost CA certificates that were sent."""
    issuers = [one for one in certificates if is_ca(one.certificate)]
    tops = [
        one
        for one in issuers
        if one.is_self_issued or one.issuer not in {other.subject for other in issuers}
    ]
    if not tops:
        raise ProtocolError("the server sent no CA certificate, only others")
    return tuple(tops)


def select(
    certificates: Sequence[RawCertificate],
    anchors: Sequence[RawCertificate],
    policy: AlgorithmPolicy,
    *,
    now: datetime,
    check_key_usage: bool,
    agents: frozenset[bytes] = frozenset(),
) -> CaCertificates:
    """Verify a server's certificates against the anchors, and give each its part.

    Args:
        agents: SHA-256 of the certificates that may be RAs; empty lets their extensions say.

    Raises:
        ProtocolError: nothing fits, or a certificate is expired.
        SignatureError: a certificate claims an issuer that did not sign it.
        PathError: its issuers may not have issued it.
    """
    trusted = Paths(anchors)
    waiting = [one for one in certificates if one not in trusted]
    for anchor in anchors:
        check_validity(anchor.certificate, now)
    progress = True
    while progress and waiting:
        progress = False
        for one in list(waiting):
            if one.is_self_issued or not trusted.admit(one, policy):
                continue
            check_validity(one.certificate, now)
            waiting.remove(one)
            progress = True
    authorities = [one for one in trusted if is_ca(one.certificate)]
    if not authorities:
        raise ProtocolError("the pinned certificate is not a CA's")
    deputies = [one for one in trusted if _is_deputy(one, agents)]
    issuing = _issuing_ca(authorities, deputies)
    signers = [one for one in deputies if allows(one.certificate, "digital_signature")]
    for one in authorities:
        if not check_key_usage or allows(one.certificate, "digital_signature"):
            signers.append(one)
    if not signers:
        raise ProtocolError(
            "no certificate of the server may sign: none has the key usage digitalSignature; "
            "check_key_usage=False overlooks that, and so does the policy 'legacy'"
        )
    return CaCertificates(
        ca=issuing.certificate,
        recipient=_recipient(deputies, issuing, check_key_usage=check_key_usage).certificate,
        signers=tuple(one.certificate for one in signers),
        certificates=tuple(one.certificate for one in (*authorities, *deputies)),
        ignored=tuple(one.certificate for one in waiting),
    )


def under_next(
    present: CaCertificates,
    following: Sequence[RawCertificate],
    policy: AlgorithmPolicy,
    *,
    now: datetime,
    check_key_usage: bool,
    agents: frozenset[bytes] = frozenset(),
) -> CaCertificates:
    """The parts for a request under the next CA (RFC 8894 section 5.1, figure 9).

    Requests are encrypted to the next CA, which issues; the present one still signs replies.

    Args:
        present: of ``select``.
        following: what GetNextCACert gave, verified; may begin later than now.

    Raises:
        As ``select``.
    """
    tops = roots_of(following)
    starts = (one.certificate.not_valid_before_utc for one in following)
    chosen = select(
        following,
        tops,
        policy,
        now=max(now, *starts),
        check_key_usage=check_key_usage,
        agents=agents,
    )
    return replace(chosen, signers=tuple(dict.fromkeys((*present.signers, *chosen.signers))))


def _is_deputy(certificate: RawCertificate, agents: frozenset[bytes]) -> bool:
    """Whether an end-entity certificate acts for the CA."""
    if agents:
        return certificate.sha256 in agents and not is_ca(certificate.certificate)
    return is_registration_authority(certificate.certificate)


def _issuing_ca(authorities: list[RawCertificate], agents: list[RawCertificate]) -> RawCertificate:
    """The CA that issued the RA certificates, or the lowest one."""
    for agent in agents:
        for authority in authorities:
            if authority.subject == agent.issuer:
                return authority
    issuers = {one.issuer for one in authorities if not one.is_self_issued}
    lowest = [one for one in authorities if one.subject not in issuers]
    return (lowest or authorities)[0]


def _recipient(
    agents: list[RawCertificate], issuing: RawCertificate, *, check_key_usage: bool
) -> RawCertificate:
    """RA with keyEncipherment, RA with dataEncipherment, CA: the first that there is."""
    able = [one for one in agents if isinstance(one.public_key, rsa.RSAPublicKey)]
    for usage in ("key_encipherment", "data_encipherment"):
        for one in able:
            if allows(one.certificate, usage):
                return one
    if check_key_usage and not allows(issuing.certificate, "key_encipherment"):
        raise ProtocolError(
            "no certificate of the server may encrypt: none has the key usage "
            "keyEncipherment; check_key_usage=False overlooks that, and so does the policy 'legacy'"
        )
    return issuing
