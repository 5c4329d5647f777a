"""pyscep.adapters.http_server: uvicorn as `pyscep serve` runs it, over raw loopback sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import pyscep
from pyscep.adapters import http_server
from pyscep.adapters.asgi import ScepApp
from pyscep.http import HttpRequest, HttpResponse
from tests import forge_keys as keys
from tests.endpoint import CHALLENGE, Authority, identity

CAPS = b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: x\r\n"


@contextlib.contextmanager
def running(app: Any) -> Iterator[int]:
    """Serve on a free port; yields the port."""
    ready = threading.Event()
    sock = http_server.bind("127.0.0.1", 0)
    server = http_server.make_server(app, on_ready=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        assert ready.wait(20)
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    ca = keys.ca()
    with running(ScepApp(pyscep.Server(identity(ca)), Authority(ca))) as number:
        yield number


def talk(port: int, data: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):  # it may close before all is written
            connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def test_http_1_0_without_host(port: int) -> None:
    """Stands for Cisco IOS."""
    reply = talk(port, b"GET /scep/pkiclient.exe?operation=GetCACaps HTTP/1.0\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert b"SCEPStandard\n" in reply


def test_headers_of_a_reply(port: int) -> None:
    head = talk(port, CAPS + b"Connection: close\r\n\r\n").partition(b"\r\n\r\n")[0].lower()
    lines = head.split(b"\r\n")
    assert b"content-type: text/plain" in lines
    assert any(line.startswith(b"date: ") for line in lines)
    assert not any(line.startswith(b"server:") for line in lines)


@pytest.mark.rule("H22")
@pytest.mark.parametrize(("size", "status"), [(65_000, 200), (65_001, 414), (200_000, 414)])
def test_the_length_of_the_query(port: int, size: int, status: int) -> None:
    query = b"operation=GetCACaps&message=".ljust(size, b"A")
    reply = talk(port, b"GET /scep?" + query + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 %d " % status)


def test_a_head_without_end_is_refused(port: int) -> None:
    with contextlib.suppress(ConnectionError):
        reply = talk(port, b"GET /scep?" + b"A" * 600_000)
        assert reply.startswith(b"HTTP/1.1 400 ")


def test_an_enrollment_by_get_of_60000_bytes(port: int) -> None:
    """Stands for a device with a challenge of Intune and a large request, without POST."""
    key, ca = keys.rsa_key("client"), keys.ca()
    names = [pyscep_name(f"{index:04d}.{'x' * 60}.example") for index in range(480)]
    csr = pyscep.pkcs10.create(key, "CN=client", challenge_password=CHALLENGE, sans=names)
    client = pyscep.Client(
        f"http://127.0.0.1:{port}/scep", ca_certificates=(ca.certificate,), method="get"
    )
    sizes: list[int] = []
    urllib = pyscep.urllib_sender()

    def send(request: HttpRequest) -> HttpResponse:
        sizes.append(len(request.query))
        return urllib(request)

    assert isinstance(pyscep.run(client.enroll(key, csr), send), pyscep.Success)
    assert 40_000 < max(sizes) <= 65_000


def pyscep_name(name: str) -> Any:
    from cryptography import x509

    return x509.DNSName(name)


def test_a_chunked_body(port: int) -> None:
    """Stands for Apple devices."""
    body = b"5\r\n30034\r\n3\r\nabc\r\n0\r\n\r\n"
    head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    reply = talk(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert reply.startswith(b"HTTP/1.1 400 "), "read whole, and then found to be no message"
    assert reply.endswith(b"This is not a SCEP request.\n")


@pytest.mark.rule("H22")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit(port: int, chunked: bool) -> None:
    size = 300_000
    head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\n"
    if chunked:
        data = (
            head
            + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size
            + b"x" * size
            + b"\r\n0\r\n\r\n"
        )
    else:
        data = head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
    assert talk(port, data).startswith(b"HTTP/1.1 413 ")


def test_two_requests_on_one_connection(port: int) -> None:
    reply = talk(port, CAPS + b"\r\n" + CAPS + b"Connection: close\r\n\r\n")
    assert reply.count(b"HTTP/1.1 200 ") == 2


def test_a_head_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.2)
    ca = keys.ca()
    with running(ScepApp(pyscep.Server(identity(ca)), Authority(ca))) as number:
        assert dripping(number, b"") == b"", "not a byte came"
        assert dripping(number, b"GET /scep?operation=") == b""
        reply = dripping(number, CAPS + b"\r\nGET /")
        assert reply.startswith(b"HTTP/1.1 200 "), "the second head on a connection"


def dripping(port: int, data: bytes) -> bytes:
    """Send, wait to be cut off, and return what came before."""
    parts = []
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
        contextlib.suppress(ConnectionResetError),
    ):
        connection.sendall(data)
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_nobody_waits_for_it_to_be_ready() -> None:
    ca = keys.ca()
    sock = http_server.bind("127.0.0.1", 0)
    server = http_server.make_server(ScepApp(pyscep.Server(identity(ca)), Authority(ca)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    reply = talk(sock.getsockname()[1], CAPS + b"Connection: close\r\n\r\n")
    server.should_exit = True
    thread.join(30)
    assert reply.startswith(b"HTTP/1.1 200 ")


def test_a_port_that_is_taken() -> None:
    with http_server.bind("127.0.0.1", 0) as taken, pytest.raises(OSError, match="in use"):
        http_server.bind("127.0.0.1", taken.getsockname()[1])


def test_a_second_signal_ends_at_once() -> None:
    server = http_server.make_server(None)
    stop = server.stop  # type: ignore[attr-defined] # of the server's own class
    stop()
    assert (server.should_exit, server.force_exit) == (True, False)
    stop()
    assert (server.should_exit, server.force_exit) == (True, True)
