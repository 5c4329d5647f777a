"""Intune's interface for third-party CAs, call by call."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pyscep.integrations.intune.codes import ADVICE, ResultCode, RevocationError
from pyscep.integrations.intune.settings import IntuneSettings
from pyscep.integrations.intune.tokens import TokenSource
from pyscep.integrations.web import Answer, ServiceUnavailable, Web, check_url

INTUNE_APP: Final = "0000000a-0000-0000-c000-000000000000"
VALIDATION: Final = "ScepRequestValidationFEService"
REVOCATION: Final = "PkiConnectorFEService"
MAX_REVOCATIONS: Final = 500
E_FAIL: Final = -2147467259
_HINT: Final = (
    "the tenant lists no {name}: is there an Intune license, and has the app registration the "
    "permission scep_challenge_provider?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Intune's verdict."""

    code: ResultCode | None
    """None: a code that is not among the known ones, which is a refusal."""
    text: str
    """For the log; what came from the network is escaped."""

    @property
    def success(self) -> bool:
        return self.code is ResultCode.SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationRequest:
    """A certificate that Intune wants revoked."""

    context: str
    """Goes back with the result."""
    serial_number: str
    """As it was notified."""
    issuer_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationResult:
    """What became of a RevocationRequest."""

    context: str
    error: RevocationError = RevocationError.NONE
    message: str = ""


class IntuneClient(AbstractContextManager["IntuneClient"]):
    """Talks to the services of one tenant; one object for many requests and threads.

    Tokens and the addresses of the services are kept. A call is tried once more when the token
    is refused (401), or when the service is not where it was (404, no connection); never after
    a verdict.

    Args:
        settings: who asks whom.
        web: the HTTP client; made from the settings if None, and closed with this.
        new_id: for ``client-request-id``.
    """

    def __init__(
        self,
        settings: IntuneSettings,
        *,
        web: Web | None = None,
        new_id: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self.settings = settings
        self._web = web or Web(timeout=settings.timeout, roots=settings.roots, proxy=settings.proxy)
        self._tokens = TokenSource(settings, self._web)
        self._new_id = new_id
        self._services: dict[str, str] = {}

    def validate(self, transaction_id: str, request: bytes) -> Result:
        """Ask whether a request may have a certificate.

        Args:
            transaction_id: of the SCEP transaction.
            request: the PKCS #10 as it came, DER.

        Raises:
            ServiceUnavailable: no verdict came.
        """
        body = {
            "transactionId": transaction_id,
            "certificateRequest": _base64(request),
            "callerInfo": self.settings.provider,
        }
        return self._scep_action("validateRequest", {"request": body})

    def notify_success(
        self,
        transaction_id: str,
        request: bytes,
        certificate: x509.Certificate,
        issuer_name: str,
    ) -> Result:
        """Tell that a certificate has been issued.

        Args:
            transaction_id, request: as validated.
            certificate: that is about to leave.
            issuer_name: by which revocations will be asked for.

        Raises:
            ServiceUnavailable: it is not known whether Intune knows.
        """
        ends = certificate.not_valid_after_utc.astimezone(UTC)
        body = {
            "transactionId": transaction_id,
            "certificateRequest": _base64(request),
            "certificateThumbprint": certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303 - a name, not a proof
            "certificateSerialNumber": f"{certificate.serial_number:X}",
            "certificateExpirationDateUtc": ends.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "issuingCertificateAuthority": issuer_name[:256],
            "callerInfo": self.settings.provider,
            "caConfiguration": "",
            "certificateAuthority": "",
        }
        return self._scep_action("successNotification", {"notification": body})

    def notify_failure(
        self, transaction_id: str, request: bytes, reason: str, hresult: int = E_FAIL
    ) -> Result:
        """Tell that a validated request got no certificate.

        Raises:
            ServiceUnavailable: it is not known whether Intune knows.
        """
        body = {
            "transactionId": transaction_id,
            "certificateRequest": _base64(request),
            "hResult": hresult,
            "errorDescription": reason[:255],
            "callerInfo": self.settings.provider,
        }
        return self._scep_action("failureNotification", {"notification": body})

    def download_revocations(
        self, issuer_name: str, max_requests: int = 100
    ) -> tuple[RevocationRequest, ...]:
        """What Intune wants revoked; it answers with nothing for the next 60 minutes.

        Raises:
            ValueError: more than MAX_REVOCATIONS.
            ServiceUnavailable: no list came.
        """
        if not 1 <= max_requests <= MAX_REVOCATIONS:
            raise ValueError(f"max_requests is between 1 and {MAX_REVOCATIONS}")
        parameters = {"maxRequests": max_requests, "issuerName": issuer_name or None}
        answer = self._revocation_call(
            "downloadRevocationRequests", {"downloadParameters": parameters}
        )
        value = answer.get("value")
        if not isinstance(value, list):
            raise ServiceUnavailable("revocations: the answer has no list")
        return tuple(_revocation(one) for one in value)

    def upload_revocations(self, results: Sequence[RevocationResult]) -> None:
        """Tell what became of them.

        Raises:
            ServiceUnavailable: Intune did not take it.
        """
        body = [
            {
                "requestContext": one.context,
                "succeeded": one.error is RevocationError.NONE,
                "errorCode": str(one.error.value),
                "errorMessage": one.message[:255],
            }
            for one in results
        ]
        answer = self._revocation_call("uploadRevocationResults", {"results": body})
        if answer.get("value") not in (True, "true", "True"):
            raise ServiceUnavailable("revocations: Intune did not take the results")

    def services(self) -> dict[str, str]:
        """The addresses of the tenant's services by name, asked for anew.

        Raises:
            ServiceUnavailable: no list came.
        """
        settings = self.settings
        url = f"{settings.graph_url}/v1.0/servicePrincipals/appId={INTUNE_APP}/endpoints"
        answer = self._authorized(
            lambda headers: self._web.send("GET", url, headers=headers),
            f"{settings.graph_url}/.default",
        )
        if answer.status == 403:
            raise ServiceUnavailable(
                "Graph refuses the list of services: the app registration needs the application "
                "permission Application.Read.All, with consent",
                status=403,
            )
        value = answer.json().get("value")
        found: dict[str, str] = {}
        for one in value if isinstance(value, list) else ():
            match one:
                case {"providerName": str(name), "uri": str(uri)}:
                    # Of two with one name the first counts.
                    found.setdefault(name.lower(), uri.rstrip("/"))
                case _:
                    pass
        return found

    def close(self) -> None:
        """Close the connections."""
        self._web.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _scep_action(self, name: str, body: dict[str, Any]) -> Result:
        answer = self._call(VALIDATION, f"ScepActions/{name}", self.settings.api_version, body)
        code, description = answer.get("code"), answer.get("errorDescription")
        if not isinstance(code, str):
            raise ServiceUnavailable(f"{name}: the answer has no code")
        try:
            known = ResultCode(code)
        except ValueError:
            return Result(code=None, text=f"{name}: unknown code {ascii(code[:64])}")
        text = f"{name}: {known.value}: {ADVICE[known]}"
        if isinstance(description, str) and description:
            text += f" ({ascii(description[:256])})"
        return Result(code=known, text=text)

    def _revocation_call(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        version = self.settings.revocation_api_version
        return self._call(REVOCATION, f"CertificateAuthorityRequests/{name}", version, body)

    def _call(
        self, service: str, suffix: str, version: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        content = json.dumps(body).encode()

        def send(headers: dict[str, str]) -> Answer:
            headers |= {"content-type": "application/json", "api-version": version}
            url = f"{self._service(service)}/{suffix}"
            return self._web.send("POST", url, headers=headers, body=content)

        try:
            answer = self._authorized(send, self.settings.intune_scope)
            if answer.status != 404:
                return answer.json()
        except ServiceUnavailable as error:
            # Again only if nothing was asked: the service may be at another address by now.
            if not error.unreachable or not self._services:
                raise
        self._services = {}
        return self._authorized(send, self.settings.intune_scope).json()

    def _service(self, name: str) -> str:
        if not self._services:
            self._services = self.services()
        uri = self._services.get(name.lower())
        if uri is None:
            self._services = {}
            raise ServiceUnavailable(_HINT.format(name=name))
        try:
            check_url(uri)
        except ValueError as error:
            raise ServiceUnavailable(f"{name}: {error}") from error
        return uri

    def _authorized(self, send: Callable[[dict[str, str]], Answer], scope: str) -> Answer:
        """Send with a token, and once more with a fresh one if it is refused."""
        answer = send(self._headers(scope))
        if answer.status == 401:
            self._tokens.drop()
            answer = send(self._headers(scope))
        return answer

    def _headers(self, scope: str) -> dict[str, str]:
        return {
            "authorization": f"Bearer {self._tokens.get(scope)}",
            "client-request-id": str(self._new_id()),
            "accept": "application/json",
            "user-agent": self.settings.provider,
            # The reference implementation sends its name under this header.
            "useragent": self.settings.provider,
        }


def _revocation(one: object) -> RevocationRequest:
    match one:
        case {"requestContext": str(context), "serialNumber": str(serial)}:
            name = one.get("issuerName") if isinstance(one, dict) else None
            issuer = name if isinstance(name, str) else ""
            return RevocationRequest(context=context, serial_number=serial, issuer_name=issuer)
        case _:
            raise ServiceUnavailable("revocations: a request without context or serial number")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
