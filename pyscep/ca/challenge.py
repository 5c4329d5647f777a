"""Challenges: what lets a device without a certificate enroll.

A provider has the three parts of an NDES policy module. ``generate`` makes a challenge for
somebody who hands it to a device. ``verify`` checks one when a request brings it, and
reserves it. ``notify`` says what became of the request, so that it is spent or free again.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol

from cryptography import x509
from sqlalchemy import Connection, bindparam, insert, or_, select, update

from pyscep.ca import names
from pyscep.ca.prepared import Prepared
from pyscep.ca.schema import challenges
from pyscep.ca.store import Store
from pyscep.messages import PKCSReq, RenewalReq
from pyscep.pkcs10 import CertificateRequest
from pyscep.pki_request import PkiRequest

LIFETIME: Final = timedelta(minutes=60)
"""As long as a challenge of NDES."""
MAX_FAILURES: Final = 5
"""How many wrong secrets with a known id burn a challenge."""


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRequest:
    """What a provider may look at when it verifies."""

    password: str = field(repr=False)
    csr: CertificateRequest
    """Its own signature has been verified."""
    endpoint: str
    transaction_id: str
    source: str | None
    """The peer's address, where it is known."""
    now: datetime
    issuer_id: str = ""
    """The CA that was asked, as the store names it: of a rollover there are two."""

    @classmethod
    def of(
        cls,
        request: PkiRequest,
        message: PKCSReq | RenewalReq,
        endpoint: str,
        now: datetime,
        issuer_id: str,
    ) -> ChallengeRequest | None:
        """What a provider gets to see of a request; None if it has no challenge."""
        if not message.challenge_password:
            return None
        return cls(
            password=message.challenge_password,
            csr=message.csr,
            endpoint=endpoint,
            transaction_id=request.transaction.transaction_id,
            source=request.source,
            now=now,
            issuer_id=issuer_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The challenge is right."""

    credential: str
    """What the challenge is known as: ``scheme:id``, or the scheme alone. Not a secret."""
    expires_at: datetime | None = None
    """Until then the same request gets the same certificate; None: the CA's own limit."""
    profile: str | None = None
    """The profile that the challenge is for; None: the CA's first."""
    claim: Callable[[Connection, str, datetime], bool] | None = field(default=None, repr=False)
    """Spends the challenge for one issue key, inside the transaction that enters the
    certificate; False if it is spent for another one. None: nothing to spend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The challenge is wrong, spent, expired or for something else."""

    reason: str
    """For events and logs; must not contain the challenge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """What became of a request whose challenge had been granted."""

    credential: str
    outcome: Literal["issued", "denied", "refused"]
    transaction_id: str
    certificate: x509.Certificate | None = None
    reason: str | None = None
    request: ChallengeRequest | None = None
    """What the challenge was granted to; None where a decision came later than the request,
    which is not kept."""


class ChallengeProvider(Protocol):
    """What the CA needs of a source of challenges."""

    @property
    def scheme(self) -> str:
        """The part of a credential before the colon."""

    @property
    def notifies(self) -> bool:
        """Whether ``notify`` does something.

        Then a certificate is not released before ``notify`` has returned, and a retry calls
        it again.
        """

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        """A challenge to hand to a device.

        Args:
            subject: RFC 4514; the request's subject must have exactly these attributes.
            sans: the request's alternative names must be exactly these, as ``dns:a.example``.
            profile: what is to be issued.
            lifetime: how long it can be used.

        Raises:
            ValueError: the provider has no such challenges.
        """

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        """Check a challenge and reserve it. Errors of the provider are raised: HTTP 503."""

    def notify(self, notification: Notification) -> None:
        """Learn what became of it. If this raises, the certificate is kept back."""


class StaticChallenge:
    """One secret for every device. Whoever has it can have any name the profile allows.

    Args:
        secret: what devices send as challengePassword.
    """

    scheme = "static"
    notifies = False

    def __init__(self, secret: str) -> None:
        if not secret:
            raise ValueError("an empty static challenge would let everybody enroll")
        self._secret = secret.encode()

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        """The secret itself, which can't be bound to anything."""
        if subject is not None or tuple(sans) or profile is not None or lifetime is not None:
            raise ValueError("a static challenge is for every name, profile and time")
        return self._secret.decode()

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        word = request.password.encode("utf-8", "surrogatepass")
        if hmac.compare_digest(word, self._secret):
            return Granted(credential=self.scheme)
        return Refused(reason="wrong static challenge")

    def notify(self, notification: Notification) -> None:
        """Nothing to spend."""


class OneTimeChallenges:
    """Challenges that enroll one key once, and then expire. No challenge, no enrollment.

    A challenge is ``<id>-<secret>``: 64 bits to find it by and 160 bits of secret, of which
    the store has an HMAC only.

    Args:
        store: of the CA.
        key: for the HMAC; drawn and kept in the store if there is none.
        lifetime: unless ``generate`` says otherwise.
        now: the clock.
        token_bytes: the source of randomness.
    """

    scheme = "once"
    notifies = False

    def __init__(
        self,
        store: Store,
        *,
        key: bytes | None = None,
        lifetime: timedelta = LIFETIME,
        now: Callable[[], datetime] = utc_now,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._key = key or store.secret("challenge_hmac")
        self._lifetime = lifetime
        self._now = now
        self._token_bytes = token_bytes

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        lifetime = self._lifetime if lifetime is None else lifetime
        if lifetime <= timedelta(0):
            raise ValueError("the lifetime of a challenge must be positive")
        if subject is not None:
            parse_subject(subject)
        number, secret = _text(self._token_bytes(8)), _text(self._token_bytes(20))
        now = self._now()
        values = {
            "id": number,
            "mac": self._mac(number, secret),
            "created_at": now,
            "expires_at": now + lifetime,
            "bound": {"subject": subject, "sans": list(sans) or None, "profile": profile},
            "failures": 0,
        }
        self._store.write(
            lambda connection: connection.execute(insert(challenges), values), "challenge"
        )
        return f"{number}-{secret}"

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        match = _SHAPE.fullmatch(request.password)
        number, secret = match.groups() if match else ("", "")
        # What has not even the shape of a challenge may be another provider's: nothing to find.
        row = self._store.first(_BY_ID, {"number": number}) if match else None
        # The same work with and without a row.
        known = bytes(row["mac"]) if row else b"-" * 32
        right = hmac.compare_digest(self._mac(number, secret), known)
        if row is None:
            return Refused(reason="unknown one-time challenge")
        if not right:
            self._store.write(lambda connection: connection.execute(_count_failure(number)))
            return Refused(reason=f"wrong secret for one-time challenge {number}")
        if row["failures"] >= MAX_FAILURES:
            return Refused(reason=f"one-time challenge {number} had too many wrong secrets")
        if row["expires_at"] <= request.now:
            return Refused(reason=f"one-time challenge {number} has expired")
        if reason := differs(row["bound"], request.csr):
            return Refused(reason=f"one-time challenge {number} is for another {reason}")

        def claim(connection: Connection, issue_key: str, now: datetime) -> bool:
            values = {"number": number, "key": issue_key, "now": now}
            return SPEND.change(connection, values) == 1

        return Granted(
            credential=f"{self.scheme}:{number}",
            expires_at=row["expires_at"],
            profile=row["bound"]["profile"],
            claim=claim,
        )

    def notify(self, notification: Notification) -> None:
        """Nothing: it is spent in the transaction that enters the certificate."""

    def _mac(self, number: str, secret: str) -> bytes:
        return hmac.digest(self._key, f"{number}-{secret}".encode(), "sha256")


class FirstOf:
    """Several kinds of challenge at one CA; the first that grants counts.

    Args:
        providers: at least one; ``generate`` is the first one's.
    """

    scheme = "first-of"

    def __init__(self, *providers: ChallengeProvider) -> None:
        if not providers:
            raise ValueError("give at least one provider")
        self._providers = providers
        self.notifies = any(provider.notifies for provider in providers)

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        return self._providers[0].generate(
            subject=subject, sans=sans, profile=profile, lifetime=lifetime
        )

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        reasons = []
        for provider in self._providers:
            verdict = provider.verify(request)
            if isinstance(verdict, Granted):
                return verdict
            reasons.append(verdict.reason)
        return Refused(reason="; ".join(reasons))

    def notify(self, notification: Notification) -> None:
        scheme = notification.credential.partition(":")[0]
        for provider in self._providers:
            if provider.scheme == scheme:
                provider.notify(notification)


_BY_ID: Final = Prepared(select(challenges).where(challenges.c.id == bindparam("number")))
SPEND: Final = Prepared(
    update(challenges)
    .where(
        challenges.c.id == bindparam("number"),
        or_(challenges.c.reserved_by.is_(None), challenges.c.reserved_by == bindparam("key")),
    )
    .values(reserved_by=bindparam("key"), spent_at=bindparam("now"))
)
"""Gives a challenge to one issue key; changes one row if it is free, or that key's already."""
_SHAPE: Final = re.compile(r"([a-z2-7]{13})-([a-z2-7]{32})")


def _text(data: bytes) -> str:
    """Base32 in lower case: PrintableString, and easy to type."""
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def parse_subject(text: str) -> x509.Name:
    """A name from RFC 4514 text.

    Raises:
        ValueError: it is none.
    """
    try:
        return x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise ValueError(f"{ascii(text)} is no name like CN=printer-7,O=Example") from error


def _count_failure(number: str) -> Any:
    counted = challenges.c.failures + 1
    return update(challenges).where(challenges.c.id == number).values(failures=counted)


def differs(bound: dict[str, Any], csr: CertificateRequest) -> str | None:
    """What the request has otherwise than the challenge was made for."""
    subject, sans = bound["subject"], bound["sans"]
    if subject is not None and not names.same_name(parse_subject(subject), names.subject_of(csr)):
        return "subject"
    if sans is not None and set(sans) != set(names.san_texts(names.sans_of(csr))):
        return "set of alternative names"
    return None
