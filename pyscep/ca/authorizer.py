"""Who may have a certificate: by a challenge, by the certificate that signed, or by approval.

``Authorized`` is the only key to issuing, and only this module can make one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sqlalchemy import Connection

from pyscep.ca import ledger
from pyscep.ca.challenge import (
    ChallengeProvider,
    ChallengeRequest,
    Granted,
    Notification,
)
from pyscep.ca.generations import Succession
from pyscep.ca.names import Names
from pyscep.ca.profile import ClientKey, Profile, choose
from pyscep.ca.records import Attempt, CertificateRecord
from pyscep.ca.refusal import Refusal
from pyscep.ca.renewal import check_migrant, check_renewable, renewed_names
from pyscep.ca.store import Store
from pyscep.errors import DecodeError
from pyscep.identity import X509_FAULTS
from pyscep.messages import PKCSReq, RenewalReq
from pyscep.server import PkiRequest

_logger = logging.getLogger("pyscep.ca")
_SEAL: Final = object()

NO_CREDENTIAL: Final = "none"
"""Credential of a request that brought none and waits for approval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorized:
    """The decision that a request may have a certificate, or may wait for approval.

    Raises:
        TypeError: made by anybody but the Authorizer.
    """

    credential: str
    profile: Profile
    names: Names
    key: ClientKey
    """To be certified."""
    window_ends: datetime
    """Until when the same request gets the same certificate."""
    waits: bool
    """Somebody has to approve it first."""
    notify: bool = False
    """The provider wants to know what became of its challenge."""
    claim: Callable[[Connection, str, datetime], bool] | None = field(default=None, repr=False)
    signer_id: int | None = None
    """The certificate of ours that signed a renewal."""
    wishes: Mapping[str, Any] | None = None
    """What the request narrows the profile to, for a request that waits."""
    _seal: object = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._seal is not _SEAL:
            raise TypeError("only the Authorizer authorizes")

    def still_holds(self, connection: Connection, issue_key: str, now: datetime) -> None:
        """Spend the challenge, or see that the signer hasn't been revoked meanwhile.

        Called inside the transaction that enters the certificate.

        Raises:
            Refusal: it does not hold any more.
        """
        if self.claim is not None and not self.claim(connection, issue_key, now):
            _logger.warning("a spent challenge was used again: %s", ascii(self.credential))
            raise Refusal(f"the challenge {self.credential} is spent for another key")
        if self.signer_id is not None:
            record = ledger.by_id(connection, self.signer_id)
            if record is None or record.state != "issued":
                raise Refusal("the signer's certificate has been revoked")


class Authorizer:
    """Decides on requests for one CA.

    Args:
        store, succession: of the CA; what any generation issued can be renewed.
        profiles: by name; the first is the default.
        challenge: checks challenges.
        redelivery: how long a request with a reusable credential counts as the same.
        trusted_renewal_issuers: CAs whose certificates can be renewed here (migration,
            RFC 8894 section 2.3).
        legacy_renewal: whether a PKCSReq that a certificate of ours signed is a renewal.
    """

    def __init__(
        self,
        *,
        store: Store,
        succession: Succession,
        profiles: Mapping[str, Profile],
        challenge: ChallengeProvider,
        redelivery: timedelta,
        trusted_renewal_issuers: Sequence[x509.Certificate],
        legacy_renewal: bool,
    ) -> None:
        self._store = store
        self._succession = succession
        self._profiles = profiles
        self._challenge = challenge
        self._redelivery = redelivery
        self._trusted = tuple(trusted_renewal_issuers)
        self._legacy_renewal = legacy_renewal

    def enrollment(
        self,
        request: PkiRequest,
        message: PKCSReq,
        now: datetime,
        asked: ChallengeRequest | None,
    ) -> Authorized:
        """Decide on a PKCSReq (RFC 8894 section 2.4).

        A valid challenge makes it a new enrollment, whoever signed. Without one, the
        certificate that signed it can make it a renewal, as older clients do.

        Raises:
            Refusal: neither.
        """
        reason = "the request has no challenge"
        if asked is not None:
            verdict = self._challenge.verify(asked)
            if isinstance(verdict, Granted):
                return self._by_challenge(request, message, verdict, asked)
            reason = verdict.reason
        if self._legacy_renewal and not request.signer.is_self_issued:
            # A self-signed certificate proves possession of a key and nothing else.
            try:
                return self.renewal(request, message, now)
            except Refusal as refusal:
                reason = f"{reason}, and as a renewal: {refusal.reason}"
        if asked is None and self._choose(message).challenge == "optional":
            return self._by_approval(request, message, now)
        raise Refusal(reason)

    def renewal(
        self, request: PkiRequest, message: PKCSReq | RenewalReq, now: datetime
    ) -> Authorized:
        """Decide by the certificate that signed (RFC 8894 section 2.3).

        Raises:
            Refusal: the signer can't renew, or asks for something else than it has.
        """
        record = self._own_signer(request)
        if record is None:
            return self._migration(request, message, now)
        profile = self._profiles.get(record.profile)
        if profile is None:
            # Issued at another endpoint of this CA, for other purposes.
            raise Refusal(f"renewal: the profile {record.profile!r} is none of this endpoint's")
        check_renewable(profile, record.certificate, request, message, now)
        originals = [record.certificate.subject, _name(record.requested_subject)]
        wishes = profile.narrowing(message.csr)
        return Authorized(
            credential=_credential(request),
            profile=profile.narrowed(wishes),
            wishes=wishes,
            key=profile.check_key(message.csr),
            names=renewed_names(profile, message, record.certificate, originals),
            window_ends=now + self._redelivery,
            waits=profile.renewal.approval == "manual",
            signer_id=record.id,
            _seal=_SEAL,
        )

    def approved(self, attempt: Attempt, window_ends: datetime) -> Authorized:
        """Somebody approved a pending attempt; its names were checked when it came."""
        profile = self._profiles.get(attempt.profile)
        if profile is None:
            raise Refusal(f"there is no profile {attempt.profile!r} any more")
        return Authorized(
            credential=attempt.credential,
            profile=profile.narrowed(attempt.wishes),
            names=profile.identify(attempt.names),
            key=_load_key(attempt.spki or b""),
            window_ends=window_ends,
            waits=False,
            notify=self.notifies(attempt.credential),
            signer_id=attempt.signer_id,
            _seal=_SEAL,
        )

    def report(
        self,
        credential: str,
        outcome: Literal["issued", "denied", "refused"],
        transaction_id: str,
        *,
        certificate: x509.Certificate | None = None,
        reason: str | None = None,
        request: ChallengeRequest | None = None,
    ) -> None:
        """Tell the challenge's provider what became of it, if it wants to know."""
        if not self.notifies(credential):
            return
        notification = Notification(
            credential=credential,
            outcome=outcome,
            transaction_id=transaction_id,
            certificate=certificate,
            reason=reason,
            request=request,
        )
        try:
            self._challenge.notify(notification)
        except Exception as error:
            if outcome == "issued":
                raise
            # A refusal stands, whoever could not be told of it.
            _logger.warning("%s: nobody to tell: %s", ascii(credential), ascii(str(error)))

    def notifies(self, credential: str) -> bool:
        """Whether the challenge's provider wants to know what becomes of a request."""
        by_challenge = credential != NO_CREDENTIAL and not credential.startswith("cert:")
        return by_challenge and self._challenge.notifies

    def _by_challenge(
        self, request: PkiRequest, message: PKCSReq, granted: Granted, asked: ChallengeRequest
    ) -> Authorized:
        try:
            profile = self._profile_of(granted, message)
            _check_signer_key(profile, request)
            wishes = profile.narrowing(message.csr)
            return Authorized(
                credential=granted.credential,
                profile=profile.narrowed(wishes),
                wishes=wishes,
                key=profile.check_key(message.csr),
                names=profile.take_names(message.csr),
                window_ends=granted.expires_at or asked.now + self._redelivery,
                waits=profile.approval == "manual",
                notify=self.notifies(granted.credential),
                claim=granted.claim,
                _seal=_SEAL,
            )
        except Refusal as refusal:
            self.report(
                granted.credential,
                "refused",
                asked.transaction_id,
                reason=refusal.reason,
                request=asked,
            )
            raise

    def _profile_of(self, granted: Granted, message: PKCSReq) -> Profile:
        if granted.profile is None:
            return self._choose(message)
        if granted.profile not in self._profiles:
            raise Refusal(f"the challenge is for the unknown profile {granted.profile!r}")
        return self._profiles[granted.profile]

    def _choose(self, message: PKCSReq | RenewalReq) -> Profile:
        return choose(self._profiles.values(), message.csr)

    def _by_approval(self, request: PkiRequest, message: PKCSReq, now: datetime) -> Authorized:
        profile = self._choose(message)
        _check_signer_key(profile, request)
        wishes = profile.narrowing(message.csr)
        return Authorized(
            credential=NO_CREDENTIAL,
            profile=profile.narrowed(wishes),
            wishes=wishes,
            key=profile.check_key(message.csr),
            names=profile.take_names(message.csr),
            window_ends=now + self._redelivery,
            waits=True,
            _seal=_SEAL,
        )

    def _own_signer(self, request: PkiRequest) -> CertificateRecord | None:
        """The certificate of ours that signed, octet for octet."""
        signer = request.signer
        if signer.is_self_issued:
            raise Refusal("renewal: the signer's certificate is self-signed")
        # Without cryptography's idea of names: certificates of ours have ours octet for octet.
        issuers = [
            one.id
            for one in self._succession.issuers.values()
            if one.identity.raw.subject == signer.issuer
        ]
        if not issuers:
            return None
        with self._store.read() as connection:
            for issuer_id in issuers:
                record = ledger.by_serial(connection, issuer_id, signer.serial_number)
                if record is not None and record.der == signer.der:
                    return record
        # Also what an RA certificate gets: it is not among the issued ones.
        raise Refusal("renewal: the signer's certificate was not issued to a client here")

    def _migration(
        self, request: PkiRequest, message: PKCSReq | RenewalReq, now: datetime
    ) -> Authorized:
        try:
            return self._migrate(request, message, request.signer.certificate, now)
        except (*X509_FAULTS, DecodeError) as error:
            # A certificate that somebody else made: cryptography reads it bit by bit.
            raise Refusal(f"renewal: {error}") from error

    def _migrate(
        self,
        request: PkiRequest,
        message: PKCSReq | RenewalReq,
        certificate: x509.Certificate,
        now: datetime,
    ) -> Authorized:
        check_migrant(certificate, self._trusted)
        profile = self._choose(message)
        check_renewable(profile, certificate, request, message, now)
        wishes = profile.narrowing(message.csr)
        return Authorized(
            credential=_credential(request),
            profile=profile.narrowed(wishes),
            wishes=wishes,
            key=profile.check_key(message.csr),
            names=renewed_names(profile, message, certificate, [certificate.subject]),
            window_ends=now + self._redelivery,
            waits=profile.renewal.approval == "manual",
            _seal=_SEAL,
        )


def _check_signer_key(profile: Profile, request: PkiRequest) -> None:
    if profile.signer_key == "csr" and not request.signer_holds_key:
        raise Refusal("the request is signed with another key than the one to be certified")


def _credential(request: PkiRequest) -> str:
    return f"cert:{request.signer.sha256.hex()}"


def _load_key(spki: bytes) -> ClientKey:
    """The key of a stored request, which the profile has accepted before."""
    key = load_der_public_key(spki)
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise TypeError("the store holds a key that was never accepted")
    return key


def _name(encoded: bytes) -> x509.Name:
    return x509.Name.from_bytes(encoded)
