"""uvicorn's protocols for HTTP/1, with a deadline and a limit for the head of a request.

httptools where it is installed: it is C, and h11 needs as long for a request as SQLite for an
enrollment. What clients see is the same.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Any, Final, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES: Final = 256 * 1024
"""Request line and headers together."""
HEAD_SECONDS = 10.0
"""From a connection's start, or a request's first byte, to the end of its headers."""
HAS_HTTPTOOLS: Final = importlib.util.find_spec("httptools") is not None

if TYPE_CHECKING or HAS_HTTPTOOLS:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
else:
    HttpToolsProtocol = asyncio.Protocol


class _HeadDeadline:
    """The clock for the head of a request."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _head_timer: asyncio.TimerHandle | None = None

    def _start_watch(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_watch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self.transport.abort()


class WithH11(H11Protocol, _HeadDeadline):
    """HTTP by h11."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base
        """Start the clock."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the head is complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock for good."""
        self._stop_watch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._stop_watch()
        else:
            self._start_watch()


class WithHttptools(HttpToolsProtocol, _HeadDeadline):
    """HTTP by httptools.

    uvicorn has it parse the target too, which fails at 65,536 bytes and takes a ``#`` for the
    end; here the target is divided as with h11, and a request of HTTP/1.1 needs one Host.
    """

    _head_bytes: int | None = 0
    """Of the head that is being received; None: it is complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base
        """Start the clock."""
        super().connection_made(transport)
        self._start_watch()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        too_long = self._head_bytes is not None and self._head_bytes > HEAD_BYTES
        if too_long and not self.transport.is_closing():
            self.send_400_response("Invalid HTTP request received.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock for good."""
        self._stop_watch()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Start the clock: the first byte of a request has come."""
        self._start_watch()
        if self._head_bytes is None:
            self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the clock, and start the application.

        Raises:
            ValueError: not one Host (RFC 9112 section 3.2); httptools makes it a 400.
        """
        self._stop_watch()
        self._head_bytes = None
        if self.parser.get_http_version() == "1.1":
            hosts = sum(name == b"host" for name, _ in self.headers)
            if hosts != 1:
                raise ValueError("a request of HTTP/1.1 has one Host")
        self.url, _, query = self.url.partition(b"?")
        super().on_headers_complete()  # makes a task, which does not run before this returns
        self.scope["query_string"] = query


class Connections(Protocol):
    """Who may hold connections open."""

    def opened(self, peer: str | None) -> bool:
        """Whether a connection may stay; None is a peer without an address."""

    def closed(self, peer: str | None) -> None:
        """One that was let in has ended."""


def protocol() -> Any:
    """The class for uvicorn's ``http`` setting."""
    return WithHttptools if HAS_HTTPTOOLS else WithH11


def counting(base: Any, connections: Connections) -> Any:
    """A protocol whose connections are counted, and closed at once where there are too many.

    Args:
        base: the protocol's class.
        connections: counts.
    """

    class Counting(base):  # type: ignore[misc] # a class that is only known at run time
        def connection_made(self, transport: asyncio.Transport) -> None:
            peer = transport.get_extra_info("peername")
            self._peer = peer[0] if isinstance(peer, tuple) else None
            self._counted = connections.opened(self._peer)
            super().connection_made(transport)
            if not self._counted:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._counted:
                connections.closed(self._peer)
            super().connection_lost(exc)

    return Counting
