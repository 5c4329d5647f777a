"""Policy modules: any callable, or an object with the three methods of NDES's INDESPolicy.

Both judge a challenge by code of whoever runs the CA. This module sees to the rest: the
request is sound, a challenge is reserved atomically before anything is signed, and what
became of it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import IntEnum
from typing import Final, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.ca import ChallengeRequest, Granted, Notification, Refused, Store
from pyscep.ca.challenge import LIFETIME
from pyscep.ca.single_use import SingleUse
from pyscep.integrations.csr_check import fault_of

Verdict = bool | Granted | Refused
"""What a callable may answer; True and False stand for granted and refused."""

E_FAIL: Final = -2147467259
"""HRESULT 0x80004005, as a signed number: an unspecified failure."""


class CallableChallenges:
    """A function that judges challenges.

    Args:
        judge: gets the request with its challenge; what it raises becomes HTTP 503. Where it
            returns a Granted with a claim of its own, that claim counts.
        store: of the CA; with it every challenge is good for one key, once. None: the
            function decides how often a challenge counts.
        scheme: the part of credentials before the colon.
        lifetime: how long the same request gets the same certificate, and how long the
            function would grant the challenge at most.
        generate: makes a challenge; None: they come from elsewhere.
        notify: learns what became of a request. While it raises, the certificate is kept
            back.
    """

    def __init__(
        self,
        judge: Callable[[ChallengeRequest], Verdict],
        *,
        store: Store | None = None,
        scheme: str = "module",
        lifetime: timedelta = LIFETIME,
        generate: Callable[[], str] | None = None,
        notify: Callable[[Notification], None] | None = None,
    ) -> None:
        if ":" in scheme or not scheme or len(scheme) > 20:
            raise ValueError("a scheme has 1 to 20 characters and no colon")
        self.scheme = scheme
        self.notifies = notify is not None
        self._judge = judge
        self._uses = None if store is None else SingleUse(store)
        self._lifetime = lifetime
        self._generate = generate
        self._notify = notify

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        if self._generate is None:
            raise ValueError("challenges of this kind are made elsewhere")
        if subject is not None or tuple(sans) or profile is not None or lifetime is not None:
            raise ValueError("these challenges can't be bound to names, profiles or times")
        return self._generate()

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        if (fault := fault_of(request.csr)) is not None:
            return Refused(reason=f"{self.scheme}: {fault}")
        if self._uses is None:
            return _verdict(self._judge(request), self.scheme)
        credential = self._uses.credential(self.scheme, request.password)
        if (again := self._uses.again(credential, request)) is not None:
            return again
        verdict = _verdict(self._judge(request), credential)
        if isinstance(verdict, Refused) or verdict.claim is not None:
            return verdict
        ends = verdict.expires_at or request.now + self._lifetime
        return self._uses.grant(credential, ends, verdict.profile)

    def notify(self, notification: Notification) -> None:
        if self._notify is not None:
            self._notify(notification)


def _verdict(answer: Verdict, credential: str) -> Granted | Refused:
    """Only True grants: a function that forgets to return something must not let everybody in."""
    if isinstance(answer, Granted | Refused):
        return answer
    if answer is True:
        return Granted(credential=credential)
    return Refused(reason=f"{credential}: the policy module refused")


class Disposition(IntEnum):
    """What NDES tells a policy module (the values of its SDK)."""

    UNKNOWN = -1
    SUCCESS = 0
    FAILURE = 2
    PENDING = 3
    PENDING_CHALLENGE = 11


class PolicyModule(Protocol):
    """INDESPolicy in Python. Errors may be raised: the device is then told to come again."""

    def generate_challenge(self, template: str, parameters: str) -> str:
        """A challenge for a certificate template."""

    def verify_request(
        self, request: bytes, signer: bytes | None, template: str, transaction_id: str
    ) -> bool:
        """Whether a PKCS #10 (DER, with its challengePassword) may have a certificate.

        ``signer`` is None: renewals don't come here, the certificate that signs them decides.
        Must not spend the challenge.
        """

    def notify(
        self,
        challenge: str,
        transaction_id: str,
        disposition: Disposition,
        last_hresult: int,
        certificate: bytes | None,
    ) -> None:
        """What became of it: spend the challenge on SUCCESS. The certificate is DER."""


def ndes_policy(
    module: PolicyModule,
    store: Store,
    *,
    template: str = "",
    lifetime: timedelta = LIFETIME,
) -> CallableChallenges:
    """A provider that asks a policy module in the terms of NDES.

    NDES verifies first and lets the module spend the challenge in Notify, which leaves a gap for a
    second request. Here the store reserves the challenge in between, in the transaction that
    enters the certificate.

    Args:
        module: judges.
        store: of the CA.
        template: the certificate template that the module is told.
        lifetime: of its challenges.
    """

    def judge(request: ChallengeRequest) -> bool:
        return module.verify_request(request.csr.der, None, template, request.transaction_id)

    def notify(notification: Notification) -> None:
        request, certificate = notification.request, notification.certificate
        issued = notification.outcome == "issued"
        module.notify(
            "" if request is None else request.password,
            notification.transaction_id,
            Disposition.SUCCESS if issued else Disposition.FAILURE,
            0 if issued else E_FAIL,
            None if certificate is None else certificate.public_bytes(Encoding.DER),
        )

    return CallableChallenges(
        judge,
        store=store,
        scheme="ndes-module",
        lifetime=lifetime,
        generate=lambda: module.generate_challenge(template, ""),
        notify=notify,
    )
