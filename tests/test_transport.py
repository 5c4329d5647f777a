"""The client's senders and drivers: pyscep.adapters.transport, over real loopback sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pyscep.adapters import plain_http
from pyscep.adapters.transport import httpx_sender, run, run_async, urllib_sender
from pyscep.errors import TransportError
from pyscep.http import HttpRequest, HttpResponse

Flow = Generator[HttpRequest, HttpResponse, str]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
RAW = "operation=PKIOperation&message=MII%2B%2f%3D+/=a%0A~'x"


class Peer:
    """A TCP server that records what it gets and answers as it is told."""

    def __init__(self, answer: Callable[[socket.socket], None] | bytes) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Peer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def _loop(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                self.serve(connection)

    def serve(self, connection: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                return
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            body += connection.recv(65536)
        self.heads.append(head)
        self.bodies.append(body)
        if isinstance(self.answer, bytes):
            connection.sendall(self.answer)
        else:
            self.answer(connection)


def get(peer: Peer, query: str = RAW, **fields: Any) -> HttpRequest:
    return HttpRequest(
        method="GET", origin=peer.url, path="/scep/a%2fb", query=query.encode(), **fields
    )


def post(peer: Peer, body: bytes = b"\x30\x03abc", **fields: Any) -> HttpRequest:
    headers = (("content-type", "application/x-pki-message"), ("content-length", str(len(body))))
    return HttpRequest(
        method="POST",
        origin=peer.url,
        path="/scep",
        query=b"operation=PKIOperation",
        headers=headers,
        body=body,
        **fields,
    )


def httpx_sync(request: HttpRequest, **options: Any) -> HttpResponse:
    with httpx.Client(trust_env=False, follow_redirects=True, params={"x": "y"}) as client:
        return httpx_sender(client, **options)(request)


def httpx_async(request: HttpRequest, **options: Any) -> HttpResponse:
    async def exchange() -> HttpResponse:
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            return await httpx_sender(client, **options)(request)

    return asyncio.run(exchange())


def urllib(request: HttpRequest, **options: Any) -> HttpResponse:
    return urllib_sender(**options)(request)


every_sender = pytest.mark.parametrize("send", [urllib, httpx_sync, httpx_async])
Send = Callable[..., HttpResponse]


# --- one exchange ---------------------------------------------------------------------


@every_sender
@pytest.mark.rule("H06")
def test_the_query_goes_out_byte_for_byte(send: Send) -> None:
    with Peer(OK) as peer:
        response = send(get(peer))
    assert peer.heads[0].split(b"\r\n")[0] == f"GET /scep/a%2fb?{RAW} HTTP/1.1".encode()
    assert (response.status, response.body) == (200, b"ok")
    assert response.header("content-type") == "text/plain"


@every_sender
def test_a_target_of_65000_bytes(send: Send) -> None:
    query = "operation=PKIOperation&message=" + "A" * 64_950
    with Peer(OK) as peer:
        assert send(get(peer, query[:65_000])).status == 200
    assert query[:65_000].encode() in peer.heads[0]


@every_sender
@pytest.mark.rule("H01")
def test_post_carries_the_body_and_its_headers(send: Send) -> None:
    with Peer(OK) as peer:
        send(post(peer))
    head = peer.heads[0].lower()
    assert head.startswith(b"post /scep?operation=pkioperation http/1.1")
    assert head.count(b"\r\ncontent-type: application/x-pki-message") == 1
    assert head.count(b"\r\ncontent-length: 5") == 1
    assert b"\r\nhost: 127.0.0.1:" in head
    assert peer.bodies == [b"\x30\x03abc"]


def test_post_says_how_long_it_is_even_if_nobody_told_it() -> None:
    with Peer(OK) as peer:
        urllib(HttpRequest(method="POST", origin=peer.url, body=b"abc"))
    assert b"\r\nContent-Length: 3" in peer.heads[0]
    assert peer.bodies == [b"abc"]


def test_a_deadline_that_has_passed() -> None:
    with pytest.raises(TransportError, match=r"within 1e-09 seconds"):
        urllib(HttpRequest(method="GET", origin="http://127.0.0.1:1"), timeout=1e-9)


@every_sender
def test_an_http_error_is_a_response(send: Send) -> None:
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy"
    with Peer(answer) as peer:
        response = send(get(peer))
    assert (response.status, response.header("retry-after")) == (503, "7")
    assert response.body == b"busy"


@every_sender
def test_a_chunked_reply(send: Send) -> None:
    """Stands for micromdm scepserver, which answers in chunks."""
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    with Peer(chunks) as peer:
        assert send(get(peer)).body == b"abc"


@every_sender
def test_a_redirect_is_refused_and_named(send: Send) -> None:
    answer = (
        b"HTTP/1.1 302 Found\r\nLocation: http://evil.example:81/x?secret\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    with Peer(answer) as peer, pytest.raises(TransportError, match="evil.example:81") as caught:
        send(get(peer))
    assert caught.value.status == 302
    assert "secret" not in str(caught.value)
    assert len(peer.heads) == 1


@every_sender
def test_a_redirect_to_nowhere(send: Send) -> None:
    answer = b"HTTP/1.1 302 Found\r\nLocation: ftp://x/\r\nContent-Length: 0\r\n\r\n"
    with Peer(answer) as peer, pytest.raises(TransportError, match="unusable location"):
        send(get(peer))


@every_sender
def test_a_compressed_reply_is_refused(send: Send) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok"
    with Peer(answer) as peer, pytest.raises(TransportError, match="compressed"):
        send(get(peer))


@every_sender
def test_a_long_reply_is_refused_before_it_is_read(send: Send) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n"
    with Peer(answer) as peer, pytest.raises(TransportError, match="longer than the limit"):
        send(get(peer))


@every_sender
def test_a_long_reply_without_a_length_is_cut_off(send: Send) -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 2000
    with Peer(answer) as peer:
        with pytest.raises(TransportError, match="limit of 1999 bytes"):
            send(get(peer), max_bytes=1999)
        assert len(send(get(peer), max_bytes=2000).body) == 2000


@every_sender
def test_the_request_says_how_long_its_reply_may_be(send: Send) -> None:
    """A CRL may be longer than other replies (DECISIONS 11)."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000
    with Peer(answer) as peer:
        assert len(send(get(peer, response_bytes=2000)).body) == 2000
        with pytest.raises(TransportError, match="limit of 1500"):
            send(get(peer, response_bytes=1500))


@every_sender
def test_a_reply_cut_short_is_no_reply(send: Send) -> None:
    with (
        Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc") as peer,
        pytest.raises(TransportError, match="no answer from http://127"),
    ):
        send(get(peer))


@every_sender
def test_nobody_listens(send: Send) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    request = HttpRequest(method="GET", origin=f"http://127.0.0.1:{port}", query=b"message=SECRET")
    with pytest.raises(TransportError, match=f"no answer from http://127.0.0.1:{port}") as caught:
        send(request)
    assert "SECRET" not in str(caught.value)


@every_sender
def test_not_http(send: Send) -> None:
    with Peer(b"SSH-2.0-x\r\n") as peer, pytest.raises(TransportError, match="no answer"):
        send(get(peer))


@every_sender
def test_the_deadline_counts_the_whole_exchange(send: Send) -> None:
    """A byte every now and then keeps no client waiting."""

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)

    with Peer(drip) as peer, pytest.raises(TransportError, match="within 0.3 seconds"):
        send(get(peer), timeout=0.3)


@pytest.mark.parametrize("send", [urllib, httpx_async])
def test_the_deadline_counts_the_headers(send: Send) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            connection.sendall(b"X: y\r\n")
            time.sleep(0.05)

    with Peer(drip) as peer, pytest.raises(TransportError, match="within 0.3 seconds"):
        send(get(peer), timeout=0.3)


@pytest.mark.parametrize("send", [urllib, httpx_async])
def test_a_silent_server(send: Send) -> None:
    def sleep(connection: socket.socket) -> None:
        connection.recv(1)

    with Peer(sleep) as peer, pytest.raises(TransportError, match="within 0.2 seconds"):
        send(get(peer), timeout=0.2)


# --- URLs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://ca.example", "ca.example", "/"),
        ("http://ca.example?operation=x", "ca.example", "/?operation=x"),
        ("http://ca.example:8080/a?b/c", "ca.example:8080", "/a?b/c"),
        ("https://ca.example:443/a#f", "ca.example", "/a"),
        ("http://[::1]:81/a", "[::1]:81", "/a"),
        ("http://ca.example/a?m=%2B%2f+/=", "ca.example", "/a?m=%2B%2f+/="),
    ],
)
def test_split_url(url: str, authority: str, target: str) -> None:
    parts = plain_http.split_url(url)
    assert (parts.authority, parts.target) == (authority, target)


@pytest.mark.parametrize(
    "url", ["ftp://ca.example/", "file:///etc/passwd", "http:///x", "//x", "http://u:p@x/"]
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        plain_http.split_url(url)


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="positive"):
        urllib_sender(timeout=0)
    with pytest.raises(TypeError, match=r"httpx\.Client"):
        httpx_sender(object())  # type: ignore[call-overload] # that is the point


# --- proxies and TLS ------------------------------------------------------------------


def test_the_environment_names_no_proxy_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Peer(OK) as peer, Peer(OK) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        urllib(get(peer))
        assert (len(peer.heads), len(proxy.heads)) == (1, 0)
        urllib(get(peer), proxies=True)
        assert (len(peer.heads), len(proxy.heads)) == (1, 1)
        assert proxy.heads[0].startswith(f"GET {peer.url}/scep/a%2fb?{RAW} HTTP".encode())
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        urllib(get(peer), proxies=True)
        assert (len(peer.heads), len(proxy.heads)) == (2, 1)


def test_a_proxy_with_a_password() -> None:
    with Peer(OK) as proxy:
        request = HttpRequest(method="GET", origin="http://ca.example", path="/scep")
        urllib(request, proxies={"http": f"user:p%40ss@127.0.0.1:{proxy.port}"})
        urllib(request, proxies={"http": proxy.url, "https": "http://other"})
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in proxy.heads[0]
    assert b"Host: ca.example\r\n" in proxy.heads[0]
    assert b"Proxy-Authorization" not in proxy.heads[1]


def test_a_mapping_without_the_scheme_is_no_proxy() -> None:
    with Peer(OK) as peer:
        urllib(get(peer), proxies={"https": "http://127.0.0.1:1"})
        assert len(peer.heads) == 1


def test_a_proxy_behind_https_is_refused() -> None:
    with Peer(OK) as peer, pytest.raises(TransportError, match="not supported"):
        urllib(get(peer), proxies={"http": "https://127.0.0.1:1"})


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


@contextlib.contextmanager
def https_server(tls: tuple[Path, Path]) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(OK)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.HTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls[1], tls[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_https(tls: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(tls[1]))
    with https_server(tls) as port:
        request = HttpRequest(method="GET", origin=f"https://127.0.0.1:{port}", path="/scep")
        assert urllib(request, context=trusting).body == b"ok"
        with pytest.raises(TransportError, match=r"TLS with https://127\.0\.0\.1"):
            urllib(request)


def test_https_through_a_proxy(tls: tuple[Path, Path]) -> None:
    trusting = ssl.create_default_context(cafile=str(tls[1]))
    with https_server(tls) as port:

        def tunnel(connection: socket.socket) -> None:
            with socket.create_connection(("127.0.0.1", port)) as onward:
                connection.sendall(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
                back = threading.Thread(target=pump, args=(onward, connection))
                back.start()
                pump(connection, onward)
                back.join()

        with Peer(tunnel) as proxy:
            request = HttpRequest(method="GET", origin=f"https://127.0.0.1:{port}", path="/scep")
            address = {"https": f"http://u:p@127.0.0.1:{proxy.port}"}
            assert urllib(request, proxies=address, context=trusting).body == b"ok"
    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic dTpw" in proxy.heads[0]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", "407"),
        (b"what\r\n\r\n", "refused a tunnel"),
        (b"HTTP/1.1 200", "did not open a tunnel"),
    ],
)
def test_a_proxy_that_opens_no_tunnel(answer: bytes, complaint: str) -> None:
    request = HttpRequest(method="GET", origin="https://ca.example", path="/scep")
    with Peer(answer) as proxy, pytest.raises(TransportError, match=complaint):
        urllib(request, proxies={"https": proxy.url})


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


# --- drivers --------------------------------------------------------------------------

REQUEST = HttpRequest(method="GET")
RESPONSE = HttpResponse(status=200, body=b"hello")


def simple_flow(closed: list[str]) -> Flow:
    try:
        first = yield REQUEST
        try:
            yield REQUEST
        except TransportError as error:
            return f"{first.body!r} {error}"
        return "not thrown"
    finally:
        closed.append("closed")


def failing_second() -> Callable[[HttpRequest], HttpResponse]:
    calls: list[HttpRequest] = []

    def send(request: HttpRequest) -> HttpResponse:
        calls.append(request)
        if len(calls) == 2:
            raise TransportError("gone")
        return RESPONSE

    return send


def test_run_throws_a_transport_error_into_the_flow() -> None:
    closed: list[str] = []
    assert run(simple_flow(closed), failing_second()) == "b'hello' gone"
    assert closed == ["closed"]


def test_run_closes_the_flow_when_the_sender_fails_otherwise() -> None:
    closed: list[str] = []

    def send(_: HttpRequest) -> HttpResponse:
        raise StopIteration("a sender's own affair")

    with pytest.raises(StopIteration, match="own affair"):
        run(simple_flow(closed), send)
    assert closed == ["closed"]


def test_run_async_with_either_kind_of_sender() -> None:
    plain = failing_second()

    async def send(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        return plain(request)

    assert asyncio.run(run_async(simple_flow([]), send)) == "b'hello' gone"
    assert asyncio.run(run_async(simple_flow([]), failing_second())) == "b'hello' gone"


def test_run_async_closes_the_flow_when_it_is_cancelled() -> None:
    closed: list[str] = []

    async def send(_: HttpRequest) -> HttpResponse:
        await asyncio.sleep(60)
        return RESPONSE

    async def cancelled() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await run_async(simple_flow(closed), send)

    asyncio.run(cancelled())
    assert closed == ["closed"]
