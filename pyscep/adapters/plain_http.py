"""One HTTP exchange on the standard library, bounded in time and size.

``http.client`` bounds each read of the socket, never the sum of them: a server that sends
one octet every 29 seconds holds such a client for hours. So the socket is wrapped here, and
every operation on it gets only what is left until one deadline.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyscep.errors import TransportError
from pyscep.http import HttpRequest, HttpResponse

_REDIRECTS = frozenset({300, 301, 302, 303, 305, 307, 308})
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL in the parts that a request needs."""

    scheme: str
    host: str
    port: int
    target: str
    """Path and query exactly as written."""

    @property
    def place(self) -> str:
        """Scheme, host and port, without the query: that may hold a secret."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy."""

    address: Target
    authorization: str | None = field(default=None, repr=False)
    """The value of Proxy-Authorization."""


def split_url(url: str) -> Target:
    """Split a URL without touching a byte of its path and query.

    Raises:
        ValueError: not http or https, no host, a bad port, or a user name in it.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError(f"a SCEP URL starts with http:// or https://, not {parts.scheme!a}")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    if "@" in parts.netloc:
        raise ValueError("the URL holds a user name: SCEP has no HTTP authentication")
    rest = url.partition("://")[2].partition("#")[0]
    start = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    target = rest[start:]
    return Target(
        scheme=parts.scheme,
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        target=target if target.startswith("/") else f"/{target}",
    )


def exchange(
    request: HttpRequest,
    *,
    timeout: float,
    max_bytes: int | None,
    proxies: bool | Mapping[str, str],
    context: ssl.SSLContext | None,
) -> HttpResponse:
    """Send one request and read its reply; the arguments are those of ``urllib_sender``."""
    where = split_url(request.url)
    limit = response_limit(request, max_bytes)
    deadline = _Deadline(timeout)
    connection = _Connection(where, proxy_for(where, proxies), context, deadline)
    try:
        connection.connect()
        connection.put(request)
        reply = connection.getresponse()
        response = HttpResponse(
            status=reply.status,
            headers=tuple((name.lower(), value) for name, value in reply.getheaders()),
        )
        judge(response, request, limit)
        body = reply.read(limit + 1)
        check_size(len(body), limit)
        if reply.length:  # announced, and not delivered before the connection ended
            raise http.client.IncompleteRead(body, reply.length)
    except TimeoutError as error:
        raise too_slow(request, timeout) from error
    except ssl.SSLError as error:
        raise TransportError(f"TLS with {where.place} failed: {str(error)!a}") from error
    except (OSError, http.client.HTTPException) as error:
        detail = str(error) or type(error).__name__
        raise TransportError(f"no answer from {where.place}: {detail!a}") from error
    finally:
        connection.end()
    return HttpResponse(status=response.status, headers=response.headers, body=body)


def response_limit(request: HttpRequest, max_bytes: int | None) -> int:
    """How many bytes of reply are read: the sender's setting, or the request's own limit."""
    return request.response_bytes if max_bytes is None else max_bytes


def judge(response: HttpResponse, request: HttpRequest, limit: int) -> None:
    """Refuse what no reading of the body can mend.

    Raises:
        TransportError: a redirect, a compressed body, or one announced as too long.
    """
    if response.status in _REDIRECTS:
        raise TransportError(_redirect_text(response, request), status=response.status)
    encoding = (response.header("content-encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise TransportError(
            f"the reply is compressed ({encoding!a}), which was not asked for",
            status=response.status,
        )
    length = response.header("content-length") or ""
    if length.isascii() and length.isdigit():
        check_size(int(length[:20]), limit)


def check_size(size: int, limit: int) -> None:
    """Raise TransportError when ``size`` bytes are more than ``limit``."""
    if size > limit:
        raise TransportError(f"the reply is longer than the limit of {limit} bytes")


def too_slow(request: HttpRequest, timeout: float) -> TransportError:
    """The error for an exchange that outlived its deadline."""
    place = split_url(request.url).place
    return TransportError(f"no complete answer from {place} within {timeout:g} seconds")


def _redirect_text(response: HttpResponse, request: HttpRequest) -> str:
    location = urllib.parse.urljoin(request.url, response.header("location") or "")
    try:
        place = split_url(location).place
    except ValueError:
        place = "an unusable location"
    return (
        f"the server redirects to {place!a} (HTTP {response.status}); redirects are not "
        "followed: use the final URL if you trust it"
    )


def proxy_for(where: Target, proxies: bool | Mapping[str, str]) -> Proxy | None:
    """The proxy for a target, or None for a straight connection."""
    if isinstance(proxies, bool):
        if not proxies or urllib.request.proxy_bypass(where.host):
            return None
        proxies = urllib.request.getproxies()
    url = proxies.get(where.scheme)
    if not url:
        return None
    if "://" not in url:
        url = f"http://{url}"
    scheme, _, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    authorization = None
    if at:
        word = urllib.parse.unquote_to_bytes(user)
        authorization = "Basic " + base64.b64encode(word).decode("ascii")
    return Proxy(address=split_url(f"{scheme}://{host}"), authorization=authorization)


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until the end.

        Raises:
            TimeoutError: none are left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _RawReader(io.RawIOBase):
    """Reads of a socket, each with what is left of the time."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)


class _DeadlineSocket:
    """As much of a socket as http.client uses."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._sock.settimeout(self._deadline.left())
            view = view[self._sock.send(view[:65536]) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode  # http.client reads only
        return io.BufferedReader(_RawReader(self._sock, self._deadline))

    def close(self) -> None:
        """Nothing: http.client closes as soon as the headers are read."""


class _Connection(http.client.HTTPConnection):
    """One connection, straight or by a proxy, under a deadline."""

    def __init__(
        self,
        where: Target,
        proxy: Proxy | None,
        context: ssl.SSLContext | None,
        deadline: _Deadline,
    ) -> None:
        super().__init__(where.host, where.port)
        self._where = where
        self._proxy = proxy
        self._context = context
        self._deadline = deadline
        self._open: socket.socket | None = None

    def end(self) -> None:
        """Close the connection."""
        self.close()
        if self._open is not None:
            self._open.close()

    def connect(self) -> None:
        """Open the socket, the proxy's tunnel and TLS."""
        hop = self._proxy.address if self._proxy else self._where
        if self._proxy and hop.scheme == "https":
            raise OSError("a proxy that is reached by https is not supported")
        sock = self._open = _open_socket(hop, self._deadline)
        if self._where.scheme == "https":
            if self._proxy:
                self._open_tunnel(sock, self._proxy)
            sock = self._open = self._start_tls(sock, self._where.host)
        self.sock = _DeadlineSocket(sock, self._deadline)

    def put(self, request: HttpRequest) -> None:
        """Write the request, its target byte for byte."""
        target = self._where.target
        through_proxy = self._proxy is not None and self._where.scheme == "http"
        if through_proxy:
            target = self._where.place + target
        self.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
        self.putheader("Host", self._where.authority)
        self.putheader("Accept-Encoding", "identity")
        self.putheader("Connection", "close")
        if through_proxy and self._proxy and self._proxy.authorization:
            self.putheader("Proxy-Authorization", self._proxy.authorization)
        names = {name for name, _ in request.headers}
        for name, value in request.headers:
            self.putheader(name, value)
        if request.method == "POST" and "content-length" not in names:
            self.putheader("Content-Length", str(len(request.body)))
        self.endheaders(request.body or None)

    def _start_tls(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        context = self._context or ssl.create_default_context()
        sock.settimeout(self._deadline.left())
        return context.wrap_socket(sock, server_hostname=host)

    def _open_tunnel(self, sock: socket.socket, proxy: Proxy) -> None:
        host = f"[{self._where.host}]" if ":" in self._where.host else self._where.host
        lines = [f"CONNECT {host}:{self._where.port} HTTP/1.1", f"Host: {host}:{self._where.port}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        text = "\r\n".join([*lines, "", ""])
        _DeadlineSocket(sock, self._deadline).sendall(text.encode("ascii"))
        # An unbuffered reader: not one byte of what follows the tunnel's answer may be lost.
        reader = _RawReader(sock, self._deadline)
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):
            byte = reader.read(1)
            if not byte or len(head) > 16_384:
                raise http.client.HTTPException("the proxy did not open a tunnel")
            head += byte
        status = bytes(head[:64]).split(b" ", 2)
        if len(status) < 2 or status[1][:1] != b"2":
            line = bytes(head).partition(b"\r\n")[0][:100]
            raise http.client.HTTPException(f"the proxy refused a tunnel: {line!r}")


def _open_socket(where: Target, deadline: _Deadline) -> socket.socket:
    """Connect to the first address that answers."""
    failure: OSError = OSError("the name has no address")
    found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            # A share of the time for each: one dead address must not use up all of it.
            sock.settimeout(deadline.left() / (len(found) - tried))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
            continue
        return sock
    raise failure
