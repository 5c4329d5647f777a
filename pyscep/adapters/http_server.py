"""uvicorn, set up so that every SCEP client gets through.

* Long heads: Intune's challenge makes a request target of about 41,000 bytes and 65,000 must
  pass. A head has a limit all the same, and a deadline: see ``http_protocol``.
* HTTP/1.0 without Host (Cisco) is answered; HTTP/1.1 without Host is refused, as HTTP says.
* No access log: a GET query holds the whole request, the challenge encrypted in it.
* No Server header; X-Forwarded-For is not believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from pyscep.adapters import http_protocol

GRACEFUL_SECONDS = 20
"""How long requests in flight may take after the signal to stop."""
MAX_CONNECTIONS = 1024


class _Server(uvicorn.Server):
    """A server whose signals end it with exit code 0: the first gently, the second at once."""

    on_ready: Callable[[], None] | None = None
    lifeline: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell that the server is ready."""
        await super().startup(sockets)
        if self.lifeline is not None:
            asyncio.get_running_loop().add_reader(self.lifeline, self._left_alone)
        if self.started and self.on_ready is not None:
            self.on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        taken = []
        for number in signals:
            # Not the main thread: then whoever runs this stops it by `should_exit`.
            with contextlib.suppress(ValueError, RuntimeError):
                loop.add_signal_handler(number, self.stop)
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def _left_alone(self) -> None:
        """Finish what is in flight and end, however often this is heard."""
        asyncio.get_running_loop().remove_reader(self.lifeline or 0)
        self.should_exit = True

    def stop(self) -> None:
        """Finish what is in flight and end; called again, end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the address is in use or not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def bind_shared(host: str, port: int, count: int) -> list[socket.socket]:
    """Listening sockets on one port, among which the kernel spreads connections (Linux).

    Elsewhere it is one socket, several times.

    Raises:
        OSError: the address is in use or not ours.
    """
    first = bind(host, port)  # finds out whether somebody else has it
    if not sys.platform.startswith("linux"):
        return [first, *(first.dup() for _ in range(count - 1))]
    family, kind, protocol = first.family, first.type, first.proto
    address = first.getsockname()
    first.close()
    sockets: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
        for sock in sockets:
            sock.listen(1024)
            sock.setblocking(False)
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def make_server(
    app: Any,
    *,
    on_ready: Callable[[], None] | None = None,
    lifeline: int | None = None,
    protocol: Any = None,
    connections: http_protocol.Connections | None = None,
) -> uvicorn.Server:
    """A uvicorn server for an ASGI application, to be run on a socket of ``bind``.

    Args:
        app: the ASGI application.
        on_ready: called once, when requests are being answered.
        lifeline: a pipe; when its other end is closed, the server ends as by SIGTERM.
        protocol: one of ``http_protocol``; by default the faster one that is installed.
        connections: says who may hold connections open; None: everybody.
    """
    protocol = protocol or http_protocol.protocol()
    if connections is not None:
        protocol = http_protocol.counting(protocol, connections)
    config = uvicorn.Config(
        app,
        http=protocol,
        h11_max_incomplete_event_size=http_protocol.HEAD_BYTES,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = _Server(config)
    server.on_ready = on_ready
    server.lifeline = lifeline
    return server


def serve(
    app: Any,
    sock: socket.socket,
    *,
    on_ready: Callable[[], None] | None = None,
    lifeline: int | None = None,
    connections: http_protocol.Connections | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are finished.

    Args:
        app: the ASGI application.
        sock: of ``bind``.
        on_ready: called once, when requests are being answered.
        lifeline: a pipe; when its other end is closed, the server ends as by SIGTERM.
        connections: as for ``make_server``.
    """
    server = make_server(app, on_ready=on_ready, lifeline=lifeline, connections=connections)
    server.run(sockets=[sock])
