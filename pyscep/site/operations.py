"""What a site needs in operation, as one layer around its application.

* the source of each request, as trusted proxies tell it, for limits, events and audit
* 429 for a source that asks too often, 503 with Retry-After while the queue is full
* ``/healthz``, ``/readyz`` and ``/metrics``
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from pyscep.adapters.asgi import Message, Receive, Scope, Send
from pyscep.ca import CertificateAuthority
from pyscep.ca.audit import Decision
from pyscep.ca.challenge import utc_now
from pyscep.ca.checks import checks_of
from pyscep.events import ServerEvent
from pyscep.http import HttpResponse, text_response
from pyscep.site.health import Check, Health
from pyscep.site.limits import RateLimit, SourceConnections, SourceLimits
from pyscep.site.metrics import MEDIA_TYPE, Metrics
from pyscep.site.proxies import HEADERS, ForwardedHeader, TrustedProxies, address_of
from pyscep.site.reply import (
    drain,
    header_of,
    not_allowed,
    not_found,
    page_response,
    path_of,
    send_response,
)

App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_PENDING: Final = 256
RETRY_AFTER: Final = 5
MAX_CONNECTIONS: Final = 256
"""A quarter of what the HTTP server holds: one source leaves most of it to others."""
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_METHODS: Final = ("GET", "HEAD")


class Operations:
    """Limits, numbers and health of a site.

    ``on_event`` and ``on_decision`` belong to the servers and stores of the site; ``app``
    wraps its application.

    Args:
        limits: for each source; None: none.
        trusted_proxies: addresses and networks whose word on who is asking is believed.
        forwarded_header: in which they give it.
        metrics_from: networks whose requests for ``/metrics`` are answered.
        max_pending: requests that are being worked on at one time, of all endpoints
            together; the next ones get 503 with Retry-After.
        retry_after: for those, seconds.
        max_connections: that one source may hold open, where the HTTP server asks
            ``connections``; None: as many as it likes.

    Raises:
        ValueError: what is no network.
    """

    def __init__(
        self,
        *,
        limits: SourceLimits | None = None,
        trusted_proxies: Iterable[str] = (),
        forwarded_header: ForwardedHeader = "x-forwarded-for",
        metrics_from: Iterable[str] = LOOPBACK,
        max_pending: int = MAX_PENDING,
        retry_after: int = RETRY_AFTER,
        max_connections: int | None = MAX_CONNECTIONS,
    ) -> None:
        self.metrics = Metrics()
        self._limits = limits
        self._proxies = TrustedProxies(trusted_proxies, forwarded_header)
        self.connections: SourceConnections | None = None
        if max_connections is not None:
            self.connections = SourceConnections(max_connections, self._proxies, self._disconnected)
        self._busy = text_response(503, "busy", (("retry-after", str(retry_after)),))
        self._metrics_from = tuple(ipaddress.ip_network(one) for one in metrics_from)
        self._max_pending = max_pending
        self._pending = 0

    def _disconnected(self) -> None:
        self.metrics.add("pyscep_throttled_total", how="disconnected")

    def on_event(self, event: ServerEvent) -> None:
        """For ``Server(on_event=...)``."""
        self.metrics.on_event(event)
        if self._limits is not None:
            self._limits.on_event(event)

    def on_decision(self, decision: Decision) -> None:
        """For ``Store(on_decision=...)``."""
        self.metrics.on_decision(decision)

    def app(self, inner: App, checks: dict[str, Check]) -> Operated:
        """An application around another one.

        Args:
            inner: answers what is not answered here.
            checks: what ``/readyz`` looks at, see ``readiness``.
        """
        return Operated(self, inner, Health(checks))

    async def http(
        self, inner: App, health: Health, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer one request."""
        peer = scope["client"][0] if scope.get("client") else None
        source = self._proxies.source(peer, header_of(scope, self._proxies.header.encode()))
        through = any(header_of(scope, name) for name in HEADERS)
        page = await self._page(health, scope, source, believed=source != peer or not through)
        if page is not None:
            await send_response(scope, send, page)
            return
        scope = {**scope, "client": (source, 0) if source else None}
        await self._limited(inner, scope, receive, self._observed(send), source)

    async def _page(
        self, health: Health, scope: Scope, source: str | None, *, believed: bool
    ) -> HttpResponse | None:
        """The answer to a request for one of the pages; None for every other request."""
        path = path_of(scope)
        if path not in ("/healthz", "/readyz", "/metrics"):
            return None
        if scope["method"] not in _METHODS:
            return not_allowed(_METHODS)
        if path == "/healthz":
            return health.live()
        if path == "/readyz":
            readiness = await health.ready()
            self.metrics.set("pyscep_ready", int(readiness.ready))
            return readiness.response()
        # A proxy that isn't trusted hides who asks: behind it, everybody comes from here.
        address = address_of(source)
        known = address is not None and any(address in network for network in self._metrics_from)
        if not (known and believed):
            return not_found()
        return page_response(200, self.metrics.render().encode(), MEDIA_TYPE)

    async def _limited(
        self, inner: App, scope: Scope, receive: Receive, send: Send, source: str | None
    ) -> None:
        if self._limits is None:
            await self._queued(inner, scope, receive, send)
            return
        admission = self._limits.admit(source)
        if admission.retry_after is not None:
            self.metrics.add("pyscep_throttled_total", how="refused")
            retry = ("retry-after", str(admission.retry_after))
            await _refuse(scope, receive, send, text_response(429, "Too often.\n", (retry,)))
            return
        try:
            if admission.delay:
                self.metrics.add("pyscep_throttled_total", how="delayed")
                await asyncio.sleep(admission.delay)
            await self._queued(inner, scope, receive, send)
        finally:
            self._limits.release(source)

    async def _queued(self, inner: App, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pending >= self._max_pending:
            self.metrics.add("pyscep_overload_total")
            await _refuse(scope, receive, send, self._busy)
            return
        started = time.monotonic()
        self._pending += 1
        self.metrics.add("pyscep_http_in_progress")
        try:
            await inner(scope, receive, send)
        finally:
            self._pending -= 1
            self.metrics.add("pyscep_http_in_progress", -1)
            self.metrics.observe(time.monotonic() - started)

    def _observed(self, send: Send) -> Send:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.add("pyscep_http_responses_total", code=str(message["status"]))
            await send(message)

        return counting


class Operated:
    """An ASGI application with its operations around it; see ``Operations.app``."""

    def __init__(self, operations: Operations, inner: App, health: Health) -> None:
        self.inner = inner
        self._operations = operations
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface; all but http is the inner application's."""
        if scope["type"] == "http":
            await self._operations.http(self.inner, self._health, scope, receive, send)
        else:
            await self.inner(scope, receive, send)


def for_serving(trusted_proxies: Iterable[str] = (), workers: int = 1) -> Operations:
    """What ``pyscep serve`` runs with.

    Args:
        trusted_proxies: addresses and networks whose X-Forwarded-For is believed.
        workers: processes that share the work. Each counts on its own and lets in its share.

    Raises:
        ValueError: what is no network.
    """
    return Operations(
        limits=SourceLimits(RateLimit().shared_by(workers)), trusted_proxies=trusted_proxies
    )


def readiness(authorities: Iterable[CertificateAuthority]) -> dict[str, Check]:
    """What ``/readyz`` looks at for some CAs; the same thing of several is one check."""
    found: dict[str, list[Check]] = {}
    for ca in authorities:
        more = (ca.recipient, ca.encryption)
        identities = (ca.issuer.identity, *(one for one in more if one is not None))
        for name, check in checks_of(ca.store, identities, utc_now).items():
            found.setdefault(name, []).append(check)
    return {name: _all(checks) for name, checks in found.items()}


def _all(checks: list[Check]) -> Check:
    def look() -> None:
        for check in checks:
            check()

    return look


async def _refuse(scope: Scope, receive: Receive, send: Send, response: HttpResponse) -> None:
    """Answer at once, then read a body away: a connection that is reset shows no answer."""
    headers: list[Any] = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in response.headers]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if scope["method"] == "POST":
        await drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
