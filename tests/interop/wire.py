"""A loopback HTTP front for the interop tests: records what peers send, edits what they are told.

Every server that a peer talks to stands behind a Front, so that a test can ask which
transports were really used, and can hide a capability (a client sends GET where a server
does not announce POSTPKIOperation).
"""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One HTTP exchange as it went over the wire."""

    method: str
    path: str
    query: str
    body: bytes = field(repr=False)
    status: int
    reply: bytes = field(repr=False)

    @property
    def operation(self) -> str:
        return (parse_qs(self.query).get("operation") or [""])[0]


class Front:
    """WSGI middleware around a SCEP server.

    Args:
        app: the server.
        hide: capabilities that are taken out of the GetCACaps answer.
    """

    def __init__(self, app: WsgiApp, *, hide: Iterable[str] = ()) -> None:
        self._app = app
        self.hide = frozenset(hide)
        self.exchanges: list[Exchange] = []
        self.url = ""

    @property
    def transports(self) -> set[str]:
        """The HTTP methods by which PKIOperation arrived."""
        return {e.method for e in self.exchanges if e.operation == "PKIOperation"}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = _Replay(body)
        seen: list[tuple[str, list[tuple[str, str]]]] = []

        def capture(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            seen.append((status, headers))

        result = self._app(environ, capture)
        reply = b"".join(result)
        close = getattr(result, "close", None)
        if close is not None:
            close()
        status, headers = seen[-1]
        query = environ.get("QUERY_STRING", "")
        if "operation=GetCACaps" in query:
            reply = self._edit_capabilities(reply)
        exchange = Exchange(
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"],
            query=query,
            body=body,
            status=int(status.split()[0]),
            reply=reply,
        )
        self.exchanges.append(exchange)
        kept = [(k, v) for k, v in headers if k.lower() != "content-length"]
        start_response(status, [*kept, ("Content-Length", str(len(reply)))])
        return [reply]

    def _edit_capabilities(self, text: bytes) -> bytes:
        lines = text.decode("ascii").splitlines()
        return "".join(f"{line}\n" for line in lines if line not in self.hide).encode()


class _Replay:
    """``wsgi.input`` over bytes that were read already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1) -> bytes:
        size = len(self._data) if size < 0 else size
        head, self._data = self._data[:size], self._data[size:]
        return head


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # WSGIServer asks for the host's full name here, which can wait for a resolver.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Nothing: Front keeps the record."""


@contextmanager
def serve(front: Front, *, path: str = "/scep") -> Iterator[Front]:
    """Serve on a free port of 127.0.0.1; ``front.url`` is set while it runs."""
    server = make_server(
        "127.0.0.1", 0, front, server_class=_ThreadingServer, handler_class=_QuietHandler
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    front.url = f"http://127.0.0.1:{server.server_port}{path}"
    try:
        yield front
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket, which reaches into another network namespace."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def forwarder(target: Path | tuple[str, int]) -> WsgiApp:
    """A WSGI app that hands every request to another HTTP server as it came."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        connection = (
            _UnixConnection(target)
            if isinstance(target, Path)
            else http.client.HTTPConnection(*target, timeout=30)
        )
        query = environ.get("QUERY_STRING", "")
        headers = {"Connection": "close"}
        if "HTTP_HOST" in environ:
            headers["Host"] = environ["HTTP_HOST"]
        body = environ["wsgi.input"].read()
        if environ["REQUEST_METHOD"] == "POST" and environ.get("CONTENT_TYPE"):
            headers["Content-Type"] = environ["CONTENT_TYPE"]
        connection.request(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"] + (f"?{query}" if query else ""),
            body=body if environ["REQUEST_METHOD"] == "POST" else None,
            headers=headers,
        )
        response = connection.getresponse()
        reply = response.read()
        kept = [("Content-Type", response.getheader("Content-Type") or "text/plain")]
        start_response(f"{response.status} {response.reason}", kept)
        connection.close()
        return [reply]

    return app
