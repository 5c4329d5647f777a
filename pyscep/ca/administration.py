"""What the people who run a CA do with it: challenges, decisions, revocation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pyscep.ca import ledger
from pyscep.ca.authorizer import Authorized, Authorizer
from pyscep.ca.challenge import ChallengeProvider
from pyscep.ca.generations import Generation, Succession
from pyscep.ca.issuer import Issuer
from pyscep.ca.profile import Profile
from pyscep.ca.records import Attempt, CertificateRecord
from pyscep.ca.refusal import Refusal
from pyscep.ca.registrar import Registrar
from pyscep.ca.revocation import RevocationList
from pyscep.ca.store import Store

APPROVED_DELIVERY: Final = timedelta(days=7)
"""How long after its approval a request can be repeated instead of polled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCa:
    """What is published of one generation."""

    generation: Generation
    revocation: RevocationList
    now: Callable[[], datetime]

    @property
    def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The CA's certificate, then its chain."""
        return self.generation.ca_certificates

    def crl(self) -> bytes:
        """The current CRL, DER."""
        return self.revocation.current(self.now())


class Administration:
    """The part of a CertificateAuthority that clients don't see."""

    issuer: Issuer
    succession: Succession
    store: Store
    profiles: dict[str, Profile]
    _endpoint: str
    _redelivery: timedelta
    _now: Callable[[], datetime]
    _challenge: ChallengeProvider
    _authorizer: Authorizer
    _registrar: Registrar
    _revocation: Mapping[str, RevocationList]

    @property
    def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """The CA's certificate, then its chain."""
        return self.issuer.certificate, *self.issuer.identity.chain

    @property
    def fingerprint(self) -> str:
        """``sha256:<hex>`` of the CA's certificate, for clients to pin."""
        return "sha256:" + self.issuer.certificate.fingerprint(hashes.SHA256()).hex()

    def new_challenge(
        self,
        *,
        subject: str | None = None,
        sans: Sequence[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        """A challenge to hand to a device; see ChallengeProvider.generate.

        Raises:
            ValueError: an unknown profile, or what the provider can't do.
        """
        if profile is not None and profile not in self.profiles:
            raise ValueError(f"profile {profile!r} is none of {', '.join(self.profiles)}")
        return self._challenge.generate(
            subject=subject, sans=sans, profile=profile, lifetime=lifetime
        )

    def pending(self) -> tuple[Attempt, ...]:
        """The requests that wait for a decision, oldest first, each once."""
        self.store.write(lambda connection: ledger.expire_pending(connection, self._now()))
        with self.store.read() as connection:
            attempts = ledger.pending_attempts(connection, self._endpoint)
        first: dict[str, Attempt] = {}
        for attempt in attempts:
            first.setdefault(attempt.issue_key, attempt)
        return tuple(first.values())

    def approve(self, attempt_id: int) -> x509.Certificate:
        """Grant a pending request; the client gets the certificate when it polls.

        Raises:
            LookupError: no such attempt is pending, or it is the renewal of a certificate
                that has been revoked since.
        """
        now = self._now()

        def authorize(attempt: Attempt) -> Authorized:
            ends = max(attempt.window_ends, now + APPROVED_DELIVERY)
            return self._authorizer.approved(attempt, ends)

        try:
            record = self._registrar.approve(attempt_id, authorize, now)
        except Refusal as refusal:
            raise LookupError(f"attempt {attempt_id}: {refusal.reason}") from refusal
        return self._registrar.finish(record, now).certificate

    def deny(self, attempt_id: int, reason: str = "") -> None:
        """Refuse a pending request.

        Args:
            attempt_id: of the request.
            reason: for the log; the client does not get it.

        Raises:
            LookupError: no such attempt is pending.
        """
        attempt = self._registrar.deny(attempt_id, reason, self._now(), self._redelivery)
        self._authorizer.report(attempt.credential, "denied", attempt.transaction_id, reason=reason)

    def certificates(self, limit: int = 1000) -> tuple[CertificateRecord, ...]:
        """What has been issued by any generation, newest first."""
        with self.store.read() as connection:
            found = [
                record
                for issuer_id in self.succession.issuers
                for record in ledger.newest(connection, issuer_id, limit)
            ]
        return tuple(sorted(found, key=lambda record: record.id, reverse=True)[:limit])

    def find(self, serial_number: int) -> CertificateRecord | None:
        """A certificate of any generation, by its serial number; None if none was issued.

        Serial numbers have 158 random bits: there are no two of one number in practice.
        """
        with self.store.read() as connection:
            for issuer_id in self.succession.issuers:
                record = ledger.by_serial(connection, issuer_id, serial_number)
                if record is not None and record.state != "signing":
                    return record
        return None

    def revoke(self, serial_number: int, reason: str = "unspecified") -> None:
        """Revoke a certificate of any generation; the next CRL of its CA has it at once.

        Args:
            serial_number: of the certificate.
            reason: an RFC 5280 name such as ``keyCompromise``.

        Raises:
            LookupError: no issued certificate has that serial number.
            ValueError: an unknown reason.
        """
        record = self.find(serial_number)
        issuer_id = self.issuer.id if record is None else record.issuer_id
        self._revocation[issuer_id].revoke(serial_number, reason, self._now())

    def published(self) -> dict[str, PublishedCa]:
        """What to publish over HTTP, by the name in the addresses: every generation.

        Raises:
            ValueError: two generations have one name.
        """
        found = {
            one.name: PublishedCa(
                generation=one, revocation=self._revocation[one.issuer.id], now=self._now
            )
            for one in self.succession.all
        }
        if len(found) != len(self.succession.all):
            raise ValueError("CAs of a rollover need names of their own to be published")
        return found

    def crl(self, issuer: Issuer | None = None) -> bytes:
        """The current CRL, DER.

        Args:
            issuer: of another generation than the present one.
        """
        return self._revocation[(issuer or self.issuer).id].current(self._now())
