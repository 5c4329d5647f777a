"""What a server tells its operator: typed events, with the reasons that peers never see."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyscep.messages import Outcome
from pyscep.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected:
    """A request that did not reach the authority.

    Texts in it come from the network: escape them in logs.
    """

    error: Exception
    """The reason, precise; the peer got a uniform answer."""
    source: str | None
    """Address of the peer."""
    path: str
    http_status: int
    """400 and others where there was no transaction to answer; 200 for a signed FAILURE."""
    transaction: Transaction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered:
    """A verified request with the authority's outcome."""

    message_type: str
    outcome: Outcome = field(repr=False)
    source: str | None
    path: str
    transaction: Transaction
    signer_fingerprint: str
    """SHA-256 of the certificate that signed, hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityFailed:
    """The authority raised, or returned what can't be sent; the peer got 503."""

    error: Exception
    source: str | None
    path: str
    transaction: Transaction


ServerEvent = RequestRejected | RequestAnswered | AuthorityFailed
