"""Webhooks: a service is asked about challenges, or asks for them.

Asked: the shape of smallstep's ``SCEPCHALLENGE`` and ``NOTIFYING`` webhooks, so a receiver that
was written for step-ca works here. Asks: the shape of Jamf Pro's ``SCEPChallenge`` webhook,
whose answer is the bare challenge.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.ca import ChallengeRequest, Notification, Store
from pyscep.ca.challenge import LIFETIME, utc_now
from pyscep.http import HttpRequest, HttpResponse, text_response
from pyscep.integrations.policy_module import CallableChallenges
from pyscep.integrations.web import ServiceUnavailable, Web, check_url

RETRY_AFTER: Final = 1.0
MAX_EVENT: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One receiver.

    Raises:
        ValueError: a URL that is neither https nor of this machine, or two authorizations.
    """

    url: str
    secret: bytes | None = field(default=None, repr=False)
    """The key of the HMAC in ``X-Smallstep-Signature``, decoded from its base64."""
    id: str = ""
    """Sent as ``X-Smallstep-Webhook-ID``."""
    bearer_token: str | None = field(default=None, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)
    """User and password."""

    def __post_init__(self) -> None:
        check_url(self.url)
        if self.bearer_token is not None and self.basic is not None:
            raise ValueError("give either bearer_token or basic")

    def headers(self, body: bytes) -> dict[str, str]:
        """What goes along with a body."""
        headers = {"content-type": "application/json"}
        if self.id:
            headers["x-smallstep-webhook-id"] = self.id
        if self.secret is not None:
            signature = hmac.digest(self.secret, body, "sha256").hex()
            headers["x-smallstep-signature"] = signature
        if self.bearer_token is not None:
            headers["authorization"] = f"Bearer {self.bearer_token}"
        if self.basic is not None:
            headers["authorization"] = _basic(*self.basic)
        return headers


def webhook_challenges(
    challenge: Sequence[Webhook],
    store: Store,
    *,
    web: Web,
    notifying: Sequence[Webhook] = (),
    provisioner: str = "pyscep",
    lifetime: timedelta = LIFETIME,
    sleep: Callable[[float], None] = time.sleep,
) -> CallableChallenges:
    """A provider that asks webhooks about a challenge.

    They are asked in turn, and the first that allows counts. Where none allows and one gave no
    usable answer, the device is told to come again. An answer of 5xx, or none, is asked for
    once more. Each challenge is good for one key.

    Args:
        challenge: who is asked.
        store: of the CA.
        web: the HTTP client.
        notifying: who is told what became of a request. Other than with step-ca, a certificate is
            kept back until each of them has heard of it.
        provisioner: what they are told as ``provisionerName``.
        lifetime: how long the same request gets the same certificate.
        sleep: waits before the second attempt, in seconds.

    Raises:
        ValueError: nobody to ask.
    """
    if not challenge:
        raise ValueError("give at least one webhook that judges challenges")

    def call(hook: Webhook, fields: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(fields).encode()
        try:
            return _ask(web, hook, body)
        except ServiceUnavailable as error:
            if error.status is not None and error.status < 500:
                raise
        sleep(RETRY_AFTER)
        return _ask(web, hook, body)

    def judge(request: ChallengeRequest) -> bool:
        fields = _common(request.transaction_id, provisioner) | _of_request(request)
        failure: ServiceUnavailable | None = None
        for hook in challenge:
            try:
                if call(hook, fields).get("allow") is True:
                    return True
            except ServiceUnavailable as error:
                failure = error
        if failure is not None:
            raise failure
        return False

    def notify(notification: Notification) -> None:
        fields = _common(notification.transaction_id, provisioner)
        if notification.request is not None:
            fields |= _of_request(notification.request)
        if notification.certificate is not None:
            encoded = notification.certificate.public_bytes(Encoding.DER)
            fields["x509Certificate"] = {"raw": _base64(encoded)}
        else:
            fields["scepErrorCode"] = 2
            fields["scepErrorDescription"] = notification.reason or notification.outcome
        for hook in notifying:
            call(hook, fields)

    return CallableChallenges(
        judge,
        store=store,
        scheme="webhook",
        lifetime=lifetime,
        notify=notify if notifying else None,
    )


def _ask(web: Web, hook: Webhook, body: bytes) -> dict[str, Any]:
    return web.send("POST", hook.url, headers=hook.headers(body), body=body).json()


def _common(transaction_id: str, provisioner: str) -> dict[str, Any]:
    moment = utc_now().astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "timestamp": moment,
        "provisionerName": provisioner,
        "scepTransactionID": transaction_id,
    }


def _of_request(request: ChallengeRequest) -> dict[str, Any]:
    return {
        "x509CertificateRequest": {"raw": _base64(request.csr.der)},
        "scepChallenge": request.password,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _basic(user: str, password: str) -> str:
    return f"Basic {_base64(f'{user}:{password}'.encode())}"


class ChallengeWebhook:
    """Hands out challenges to a management service that asks in Jamf Pro's shape.

    POST with Basic authentication and ``{"webhook": {"webhookEvent": "SCEPChallenge", ...},
    "event": {...}}``; the answer is the challenge and nothing else. Serve it with TLS.

    Args:
        generate: makes a challenge; gets the event, such as its ``payloadIdentifier``. A
            ValueError of it is answered with 503.
        user: for Basic authentication.
        password: for Basic authentication.

    Raises:
        ValueError: an empty user or password.
    """

    def __init__(
        self, generate: Callable[[Mapping[str, Any]], str], *, user: str, password: str
    ) -> None:
        if not user or not password:
            raise ValueError("whoever gets a challenge gets a certificate: give user and password")
        self._generate = generate
        self._authorization = _basic(user, password).encode()

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        if request.method != "POST":
            return text_response(405, "POST is needed\n")
        given = (request.header("authorization") or "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, self._authorization):
            challenge = (("www-authenticate", 'Basic realm="pyscep"'),)
            return text_response(401, "user and password are needed\n", challenge)
        if len(request.body) > MAX_EVENT:
            return text_response(413, "too long\n")
        event = _challenge_event(request.body)
        if event is None:
            return text_response(400, "a SCEPChallenge event in JSON is needed\n")
        try:
            return text_response(200, self._generate(event))
        except ValueError:
            return text_response(503, "no challenge can be made now\n")


def _challenge_event(body: bytes) -> Mapping[str, Any] | None:
    try:
        match json.loads(body):
            case {"webhook": {"webhookEvent": "SCEPChallenge"}, "event": dict() as event}:
                return event
            case _:
                return None
    except (ValueError, RecursionError):
        return None
