"""Asking another service over HTTP: bounded in time and size, and no answer is no verdict."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from pyscep.pki_request import AuthorityUnavailable

TIMEOUT: Final = 10.0
MAX_ANSWER: Final = 1024 * 1024
_LOOPBACK: Final = frozenset(("127.0.0.1", "::1", "localhost"))


class ServiceUnavailable(AuthorityUnavailable):
    """A service gave no usable answer: the device is told to come again (HTTP 503).

    Args:
        reason: for logs.
        status: of the HTTP answer, if there was one.
        unreachable: not even a connection came about: nothing was asked.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.unreachable = unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service answered, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """The body of a 2xx answer as a JSON object.

        Raises:
            ServiceUnavailable: another status, or something else.
        """
        self.require_success()
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ServiceUnavailable("the answer is not JSON", status=self.status) from error
        if not isinstance(value, dict):
            raise ServiceUnavailable("the answer is not a JSON object", status=self.status)
        return value

    def require_success(self) -> None:
        """Raise ServiceUnavailable unless the status is 2xx."""
        if not 200 <= self.status < 300:
            raise ServiceUnavailable(f"HTTP status {self.status}", status=self.status)


class Web(AbstractContextManager["Web"]):
    """One HTTP client for many requests; usable from several threads.

    Redirects are not followed and the environment's proxies are not used: what is asked here
    carries secrets.

    Args:
        timeout: for each step of an exchange and for the whole answer, in seconds.
        roots: a PEM file of the only CAs to trust, or None for the public ones.
        certificate: PEM files of a certificate and its key, to show to the service.
        proxy: URL of an HTTP proxy.
        monotonic: a clock for the deadline.

    Raises:
        OSError: a file can't be read.
    """

    def __init__(
        self,
        *,
        timeout: float = TIMEOUT,
        roots: str | None = None,
        certificate: tuple[str, str] | None = None,
        proxy: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        context = httpx.create_ssl_context()
        if roots is not None:
            context = ssl.create_default_context(cafile=roots)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        self._timeout = timeout
        self._monotonic = monotonic
        self._client = httpx.Client(
            timeout=timeout, verify=context, proxy=proxy, trust_env=False, follow_redirects=False
        )

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Ask, and read the whole answer.

        Raises:
            ServiceUnavailable: none came, or not in time, or a very long one.
            ValueError: a URL that is neither https nor of this machine.
        """
        check_url(url)
        deadline = self._monotonic() + self._timeout
        content = bytearray()
        # Not compressed: a short answer must not become a long one.
        sent = dict(headers) | {"accept-encoding": "identity"}
        try:
            with self._client.stream(method, url, headers=sent, content=body) as answer:
                for chunk in answer.iter_raw():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise ServiceUnavailable("the answer is too long")
                    if self._monotonic() > deadline:
                        raise ServiceUnavailable("the answer takes too long")
                return Answer(
                    status=answer.status_code, headers=answer.headers, body=bytes(content)
                )
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            host = urlsplit(url).netloc
            raise ServiceUnavailable(
                f"{host}: {type(error).__name__}: {ascii(str(error))}",
                unreachable=isinstance(error, httpx.ConnectError | httpx.ConnectTimeout),
            ) from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def check_url(url: str) -> None:
    """Refuse to send secrets in the clear over a network.

    Raises:
        ValueError: the URL is neither https nor http to this machine.
    """
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or local):
        raise ValueError(f"{ascii(url)}: an https URL is needed")
