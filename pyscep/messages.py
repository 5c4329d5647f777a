"""The messages of SCEP as values, and the three outcomes of a request.

RFC 8894 section 3.3. Values know nothing of encryption, signatures or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from cryptography import x509

from pyscep.enums import FailInfo, MessageType
from pyscep.identity import IssuerAndSerial
from pyscep.pkcs10 import CertificateRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PKCSReq:
    """A request for a certificate, authorised by a challenge (RFC 8894 section 3.3.1)."""

    message_type: ClassVar[MessageType] = MessageType.PKCS_REQ
    csr: CertificateRequest

    @property
    def challenge_password(self) -> str | None:
        """The challengePassword inside the CSR: a secret, keep it out of logs."""
        return self.csr.challenge_password


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalReq:
    """A request authorised by the certificate that signs it (RFC 8894 section 3.3.1)."""

    message_type: ClassVar[MessageType] = MessageType.RENEWAL_REQ
    csr: CertificateRequest

    @property
    def challenge_password(self) -> str | None:
        """The challengePassword inside the CSR, which a renewal need not have."""
        return self.csr.challenge_password


@dataclass(frozen=True, slots=True, kw_only=True)
class CertPoll:
    """Asks again for a pending certificate (RFC 8894 section 3.3.3).

    Servers go by transactionID and signer key; peers fill these two names carelessly.
    """

    message_type: ClassVar[MessageType] = MessageType.CERT_POLL
    issuer: bytes
    """Name of the issuing CA, DER."""
    subject: bytes
    """Subject of the CSR, DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCert:
    """Asks for an issued certificate (RFC 8894 section 3.3.4)."""

    message_type: ClassVar[MessageType] = MessageType.GET_CERT
    target: IssuerAndSerial


@dataclass(frozen=True, slots=True, kw_only=True)
class GetCRL:
    """Asks for the CRL that covers a certificate (RFC 8894 section 3.3.4)."""

    message_type: ClassVar[MessageType] = MessageType.GET_CRL
    target: IssuerAndSerial


ClientMessage = PKCSReq | RenewalReq | CertPoll | GetCert | GetCRL


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """The request is granted (RFC 8894 section 3.3.2.1).

    To an enrollment: the issued certificate alone, or first. To GetCert: the certificate.
    To GetCRL: one CRL in DER and no certificate.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    crls: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The request waits for somebody's decision (RFC 8894 section 3.3.2.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The request is refused (RFC 8894 section 3.3.2.2)."""

    fail_info: FailInfo | int | None = FailInfo.BAD_REQUEST
    """A number outside FailInfo, or None, only in what a server sent to us."""
    text: str | None = None
    """failInfoText, sent to the peer; from the peer it is untrusted text."""
    reason: str | None = None
    """Why, for logs and events; never sent."""


Outcome = Success | Pending | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class CertRep:
    """A server's answer (RFC 8894 section 3.3.2): an outcome with its transaction."""

    message_type: ClassVar[MessageType] = MessageType.CERT_REP
    outcome: Outcome
