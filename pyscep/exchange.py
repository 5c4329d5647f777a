"""What a client knows while it talks to one server, and how it judges the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from pyscep import trust
from pyscep.cms.algorithms import DIGESTS, AlgorithmPolicy, Algorithms
from pyscep.cms.certificates import extension, signed, tbs_certificate
from pyscep.cms.certs_only import CertsOnly
from pyscep.cms.signing import scheme_for
from pyscep.codec import der
from pyscep.enums import MessageType
from pyscep.errors import DecodeError, ProtocolError, SignatureError, TransportError
from pyscep.http import HttpResponse
from pyscep.identity import Identity, RawCertificate
from pyscep.messages import PKCSReq, RenewalReq, Success
from pyscep.paths import Paths
from pyscep.pkcs10 import CertificateRequest
from pyscep.transaction import PendingEnrollment, Transaction

_SELF_SIGNED_LIFE: Final = timedelta(days=7)
_CLOCK_SKEW: Final = timedelta(days=1)
# digitalSignature and keyEncipherment
_KEY_USAGE: Final = extension(
    der.oid("2.5.29.15"), der.tlv(der.BIT_STRING, b"\x05\xa0"), critical=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one request needs to know of its server, and who signs it."""

    ca: RawCertificate
    recipient: RawCertificate
    signers: tuple[RawCertificate, ...]
    authorities: tuple[RawCertificate, ...]
    algorithms: Algorithms
    post: bool
    identity: Identity = field(repr=False)

    @classmethod
    def of(
        cls,
        ca: trust.CaCertificates,
        identity: Identity,
        *,
        algorithms: Algorithms,
        post: bool,
    ) -> Session:
        """For one request to a server with these certificates."""
        raw = RawCertificate.from_certificate
        return cls(
            ca=raw(ca.ca),
            recipient=raw(ca.recipient),
            signers=tuple(raw(one) for one in ca.signers),
            authorities=tuple(raw(one) for one in ca.certificates if trust.is_ca(one)),
            algorithms=algorithms,
            post=post,
            identity=identity,
        )

    def about(self, certificate: RawCertificate, policy: AlgorithmPolicy) -> Session:
        """With the CA that issued a certificate, where that is another one that is trusted."""
        for one in self.authorities:
            if trust.may_issue(one, certificate):
                try:
                    trust.verify_issued_by(certificate, one, policy)
                except ProtocolError:
                    continue  # of the same name, before or after a rollover
                return replace(self, ca=one)
        return self

    def pending(
        self, url: str, message: PKCSReq | RenewalReq, transaction: Transaction, now: datetime
    ) -> PendingEnrollment:
        """What to keep of a request that was answered with PENDING."""
        trusted = dict.fromkeys((self.ca, *self.authorities, *self.signers))
        return PendingEnrollment(
            url=url,
            transaction_id=transaction.transaction_id,
            message_type=MessageType(message.message_type),
            spki=message.csr.spki,
            subject=message.csr.subject,
            signer=self.identity.raw.der,
            recipient=self.recipient.der,
            ca_certificates=tuple(one.der for one in trusted),
            digest=self.algorithms.digest,
            cipher=self.algorithms.cipher,
            post=self.post,
            requested_at=now,
        )


def self_signed(
    key: Any, csr: CertificateRequest, *, now: datetime, token_bytes: Callable[[int], bytes]
) -> Identity:
    """The certificate that signs a first request (RFC 8894 section 2.3).

    Raises:
        DecodeError: the subject of the CSR is malformed.
    """
    _ = csr.subject_name  # raises for a name that has no place in a certificate
    scheme = scheme_for(key, DIGESTS["sha256"], combined=True)
    tbs = tbs_certificate(
        serial_number=int.from_bytes(b"\x01" + token_bytes(15), "big"),
        algorithm=scheme.identifier,
        issuer=csr.subject,
        validity=der.time(now - _CLOCK_SKEW) + der.time(now + _SELF_SIGNED_LIFE),
        subject=csr.subject,
        spki=csr.spki,
        extensions=_KEY_USAGE,
    )
    return Identity.of(RawCertificate(signed(tbs, scheme, key)), key)


def require_rsa(key: Any) -> None:
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("the key must be RSA: SCEP encrypts the reply to it")


def body_of(response: HttpResponse, limit: int) -> bytes:
    """The body of a good answer.

    Raises:
        TransportError: another status, HTML, or too long.
    """
    if response.status != 200:
        text = response.body[:200].decode("utf-8", "replace").strip()
        said = f": {ascii(text)}" if text and response.media_type != "text/html" else ""
        raise TransportError(
            f"the server answered HTTP {response.status}{said}",
            status=response.status,
            retry_after=_seconds(response.header("retry-after")),
        )
    if response.media_type == "text/html":
        raise TransportError("the server answered with a web page: is the URL right?", status=200)
    if len(response.body) > limit:
        raise TransportError(f"the answer is longer than {limit} bytes", status=200)
    return response.body


def _seconds(text: str | None) -> float | None:
    whole = text is not None and text.isascii() and text.isdigit() and len(text) < 10
    return float(text) if text is not None and whole else None


def issued_certificates(
    found: CertsOnly, session: Session, spki: bytes, policy: AlgorithmPolicy
) -> Success:
    """The one certificate for our key, signed by the CA, then whatever came along."""
    certificates = [RawCertificate(one) for one in dict.fromkeys(found.certificates)]
    ours = [one for one in certificates if one.spki == spki]
    if len(ours) != 1:
        raise DecodeError(
            f"{len(ours)} certificates for our key among {len(certificates)} in the reply"
        )
    verify_issued(ours[0], session, found, policy)
    rest = (one.certificate for one in certificates if one is not ours[0])
    return Success(certificates=(ours[0].certificate, *rest))


def verify_issued(
    certificate: RawCertificate, session: Session, found: CertsOnly, policy: AlgorithmPolicy
) -> None:
    """Check that one of the server's CAs signed, directly or through one in the reply."""
    authorities: Iterable[RawCertificate] = session.authorities
    others = [one for one in map(RawCertificate, found.certificates) if one != certificate]
    subordinates = [one for one in others if trust.is_ca(one.certificate)]
    if subordinates:
        paths = Paths.through(authorities, policy)
        for _ in subordinates:  # a SET has no order: an issuer may stand behind what it issued
            for one in subordinates:
                if one not in paths:
                    paths.admit(one, policy)
        authorities = paths
    if not trust.verify_issued_by_any(certificate, authorities, policy):
        raise SignatureError("the issued certificate is not from the CA that was pinned")
