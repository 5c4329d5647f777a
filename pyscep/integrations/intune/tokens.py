"""Access tokens for the app registration, by msal, which also caches and refreshes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import urlencode

import msal
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pyscep.identity import Identity
from pyscep.integrations.intune.settings import IntuneSettings
from pyscep.integrations.web import ServiceUnavailable, Web


class TokenSource:
    """Tokens by the client credentials grant, with a secret or a certificate.

    Args:
        settings: who asks whom.
        web: the HTTP client; msal uses it too.
    """

    def __init__(self, settings: IntuneSettings, web: Web) -> None:
        self._settings = settings
        self._web = web
        self._lock = Lock()
        self._made: Any = None

    def get(self, scope: str) -> str:
        """A token that is good for some minutes at least.

        Raises:
            ServiceUnavailable: there is none to be had.
        """
        try:
            answer = self._application().acquire_token_for_client([scope])
        except ServiceUnavailable:
            raise
        except Exception as error:  # msal documents no closed set
            raise ServiceUnavailable(f"token: {type(error).__name__}") from error
        token = answer.get("access_token")
        if not isinstance(token, str):
            code, text = str(answer.get("error")), str(answer.get("error_description"))
            raise ServiceUnavailable(f"token: {ascii(code[:64])}: {ascii(text[:256])}")
        return token

    def drop(self) -> None:
        """Forget the tokens: a service has refused one."""
        self._application().remove_tokens_for_client()

    def _application(self) -> Any:
        with self._lock:
            if self._made is None:
                settings = self._settings
                # The authority is configured, not discovered: no instance discovery.
                self._made = msal.ConfidentialClientApplication(
                    settings.client_id,
                    authority=f"{settings.login_url}/{settings.tenant}",
                    client_credential=_credential(settings),
                    http_client=_HttpClient(self._web),
                    instance_discovery=False,
                )
            return self._made


def _credential(settings: IntuneSettings) -> str | dict[str, str]:
    if settings.client_secret is not None:
        return settings.client_secret
    identity = settings.certificate
    assert isinstance(identity, Identity)  # noqa: S101 - for the type checker: settings have one
    key = identity.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate = identity.certificate.public_bytes(Encoding.PEM)
    return {"private_key": key.decode("ascii"), "public_certificate": certificate.decode("ascii")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    """An answer as msal wants it."""

    status_code: int
    headers: Mapping[str, str]
    text: str = field(repr=False)


class _HttpClient:
    """msal's interface to an HTTP client."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> _Response:
        return self._send("GET", url, params, headers, None)

    def post(
        self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any
    ) -> _Response:
        body = urlencode({key: value for key, value in (data or {}).items() if value is not None})
        headers = {"content-type": "application/x-www-form-urlencoded"} | dict(headers or {})
        return self._send("POST", url, params, headers, body.encode())

    def close(self) -> None:
        """The connections belong to whoever made them."""

    def _send(
        self, method: str, url: str, params: Any, headers: Any, body: bytes | None
    ) -> _Response:
        if params:
            url = f"{url}?{urlencode(params)}"
        answer = self._web.send(method, url, headers=dict(headers or {}), body=body)
        text = answer.body.decode("utf-8", "replace")
        return _Response(status_code=answer.status, headers=answer.headers, text=text)
