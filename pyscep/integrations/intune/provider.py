"""Intune as a ChallengeProvider: validate before issuing, notify before the certificate leaves."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

from pyscep.ca import ChallengeRequest, Granted, Notification, Refused, Store
from pyscep.ca.made_elsewhere import MadeElsewhere
from pyscep.ca.single_use import SingleUse
from pyscep.integrations.csr_check import fault_of
from pyscep.integrations.intune.client import IntuneClient
from pyscep.integrations.web import ServiceUnavailable

REMEMBERED: Final = timedelta(minutes=65)
"""Intune's challenges are good for an hour."""
_logger = logging.getLogger("pyscep.intune")


class IntuneChallenges(MadeElsewhere):
    """Challenges that Intune put into a device's profile, and judges.

    Each is good for one key. The request that spent it is answered again without asking, so a
    device whose reply was lost does not depend on Intune granting the same challenge twice.

    Args:
        client: of the tenant.
        store: of the CA.
        issuer_name: what Intune is told as the issuing CA; the settings' name goes first.
        wait_for_success_notification: False lets a certificate leave before Intune has heard
            of it. That is against the letter of Microsoft's rules: Intune can then miss a
            certificate that it should have revoked one day.

    Raises:
        ValueError: no issuer name.
    """

    scheme = "intune"
    notifies = True
    no_challenge = "Intune makes the challenges: assign a SCEP profile to the device"

    def __init__(
        self,
        client: IntuneClient,
        store: Store,
        *,
        issuer_name: str = "",
        wait_for_success_notification: bool = True,
    ) -> None:
        self.issuer_name = client.settings.issuer_name or issuer_name
        if not self.issuer_name:
            raise ValueError("Intune asks for revocations by the issuer's name: give issuer_name")
        self._client = client
        self._uses = SingleUse(store)
        self._background: ThreadPoolExecutor | None = None
        if not wait_for_success_notification:
            self._background = ThreadPoolExecutor(1, thread_name_prefix="pyscep-intune")

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        if (fault := fault_of(request.csr)) is not None:
            return Refused(reason=f"intune: {fault}")
        credential = self._uses.credential(self.scheme, request.password)
        if (again := self._uses.again(credential, request)) is not None:
            return again
        result = self._client.validate(request.transaction_id, request.csr.der)
        if not result.success:
            return Refused(reason=f"{credential}: {result.text}")
        return self._uses.grant(credential, request.now + REMEMBERED)

    def notify(self, notification: Notification) -> None:
        """Tell Intune.

        Raises:
            ServiceUnavailable: Intune has to know of a certificate, and does not. The device's
                next attempt tells it again.
        """
        if notification.outcome != "issued":
            self._failure(notification)
        elif self._background is None:
            self._success(notification)
        else:
            self._background.submit(self._success_in_background, notification)

    def close(self) -> None:
        """Wait for notifications that are still on their way."""
        if self._background is not None:
            self._background.shutdown()

    def _success(self, notification: Notification) -> None:
        request, certificate = notification.request, notification.certificate
        if request is None or certificate is None:
            # Requests are not kept, because of the challenge in them.
            raise ServiceUnavailable("Intune hears of it when the device repeats its request")
        result = self._client.notify_success(
            notification.transaction_id, request.csr.der, certificate, self.issuer_name
        )
        if not result.success:
            raise ServiceUnavailable(result.text)

    def _success_in_background(self, notification: Notification) -> None:
        try:
            self._success(notification)
        except Exception as error:  # nobody else will see it
            _logger.error("%s: %s", notification.credential, ascii(str(error)))

    def _failure(self, notification: Notification) -> None:
        if notification.request is None:
            _logger.warning("%s: Intune was not told of the refusal", notification.credential)
            return
        # The reason has names of the profile and the request; Intune gets a short one.
        self._client.notify_failure(
            notification.transaction_id,
            notification.request.csr.der,
            f"the CA refused the request ({notification.outcome})",
        )
