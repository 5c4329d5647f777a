"""What an authority decides on, and what it may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from pyscep.cms.algorithms import Algorithms
from pyscep.identity import Identity, RawCertificate
from pyscep.messages import ClientMessage, Failure, GetCert, GetCRL, Outcome, Pending, Success
from pyscep.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class PkiRequest:
    """A verified request, for the authority to decide on."""

    message: ClientMessage
    signer: RawCertificate
    """Who signed: for a first enrollment a certificate that the device made itself and that
    proves nothing but possession of its key."""
    signer_holds_key: bool
    """The CSR asks for the signer's own key. Gateways and some Windows versions sign with
    another one; True where there is no CSR."""
    algorithms: Algorithms
    """Of the request; the reply mirrors them."""
    transaction: Transaction
    recipient: Identity
    """Which of our identities opened the envelope: tells the CAs of a rollover apart."""
    source: str | None = None
    """Address of the peer."""
    path: str = "/"
    signing_time: datetime | None = None
    """As the peer's clock had it; reported, not enforced."""
    raw: bytes = field(default=b"", repr=False)
    """The pkiMessage as received."""


Authority = Callable[[PkiRequest], Outcome]
AsyncAuthority = Callable[[PkiRequest], Awaitable[Outcome]]


class AuthorityUnavailable(Exception):
    """Raise this in an authority that can't decide now: the peer is told to try again (503).

    Any other exception has the same effect; devices give up on a FAILURE, so a fault of ours
    is never one.
    """


def check_outcome(message: ClientMessage, outcome: Outcome) -> None:
    """Refuse an outcome that an answer to this message can't have.

    Raises:
        ValueError: such as PENDING to GetCRL.
        TypeError: not an Outcome.
    """
    match message, outcome:
        case (_, Failure()):
            pass
        case (GetCert() | GetCRL(), Pending()):
            raise ValueError("GetCert and GetCRL are never PENDING (RFC 8894 section 4.5.1)")
        case (_, Pending()):
            pass
        case (GetCRL(), Success(certificates=(), crls=(_,))):
            pass
        case (GetCRL(), Success()):
            raise ValueError("a SUCCESS to GetCRL carries one CRL and no certificate")
        case (_, Success(certificates=(_, *_), crls=())):
            pass
        case (_, Success()):
            raise ValueError("this SUCCESS carries certificates and no CRL")
        case _:
            raise TypeError(f"{type(outcome).__name__} is not an Outcome")
