"""pyscep.adapters.http_server: uvicorn as `pyscep serve` runs it, over raw loopback sockets."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import pyscep
from pyscep.adapters import http_protocol, http_server
from pyscep.adapters.asgi import ScepApp
from pyscep.http import HttpRequest, HttpResponse
from tests import forge_keys as keys
from tests.endpoint import CHALLENGE, Authority, identity

PROTOCOLS = (http_protocol.WithHttptools, http_protocol.WithH11)
CAPS = b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: x\r\n"


@contextlib.contextmanager
def running(app: Any, protocol: Any = None) -> Iterator[int]:
    """Serve on a free port; yields the port."""
    ready = threading.Event()
    sock = http_server.bind("127.0.0.1", 0)
    server = http_server.make_server(app, on_ready=ready.set, protocol=protocol)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        assert ready.wait(20)
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module", params=PROTOCOLS)
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    ca = keys.ca()
    app = ScepApp(pyscep.Server(identity(ca)), Authority(ca))
    with running(app, request.param) as number:
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


@pytest.mark.parametrize(
    "head",
    [
        b"GET /scep?operation=GetCACaps HTTP/1.1\r\n\r\n",
        b"GET /scep?operation=GetCACaps HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
def test_http_1_1_needs_one_host(port: int, head: bytes) -> None:
    """RFC 9112 section 3.2: whoever stands in front may have read another one."""
    assert talk(port, head).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"Content-Length: +5\r\n\r\nabcde",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"X-Folded: a\r\n b\r\nContent Length: 5\r\n\r\nabcde",
    ],
)
def test_lengths_that_two_servers_could_read_differently(port: int, framing: bytes) -> None:
    """Request smuggling (RFC 9112 section 11.2): behind a proxy, one request would be two."""
    head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\n"
    reply = talk(port, head + framing + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
    assert re.match(rb"HTTP/1\.1 (400|501) ", reply)
    assert reply.count(b"HTTP/1.1 ") == 1


def test_two_kinds_of_length_are_refused() -> None:
    """h11 takes the chunks, as RFC 9112 section 6.1 allows; httptools refuses: safer."""
    ca = keys.ca()
    app = ScepApp(pyscep.Server(identity(ca)), Authority(ca))
    with running(app, http_protocol.WithHttptools) as number:
        head = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        data = head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"
        reply = talk(number, data)
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert reply.count(b"HTTP/1.1 ") == 1


def test_what_is_installed_decides() -> None:
    assert http_protocol.protocol() is http_protocol.WithHttptools
    code = (
        "import sys; sys.modules['httptools'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'httptools' else find(name, *more)\n"
        "from pyscep.adapters import http_protocol as p; assert p.protocol() is p.WithH11"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_target_is_divided_at_its_first_question_mark(port: int) -> None:
    target = b"/scep?operation=GetCACaps&message=a?b#c"
    reply = talk(port, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200 ")


def test_headers_without_end_are_refused(port: int) -> None:
    """One header of a megabyte, and many small ones: neither is kept in memory."""
    for part in (b"X-A: " + b"a" * 1_000_000, b"X-A: b\r\n" * 100_000):
        with contextlib.suppress(ConnectionError):
            assert talk(port, CAPS + part).startswith(b"HTTP/1.1 400 ")


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


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_head_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch, protocol: Any) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    ca = keys.ca()
    with running(ScepApp(pyscep.Server(identity(ca)), Authority(ca)), protocol) as number:
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


def test_who_loses_the_parent_ends() -> None:
    """The other end of the lifeline is closed, as by the death of a worker's parent."""
    ours, theirs = os.pipe()
    sock = http_server.bind("127.0.0.1", 0)
    server = http_server.make_server(
        None, on_ready=lambda: os.close(theirs), lifeline=ours)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    thread.join(30)
    os.close(ours)
    assert not thread.is_alive()
    assert (server.should_exit, server.force_exit) == (True, False)


def test_sockets_that_can_not_all_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them stays open: somebody else took the port between the two looks at it."""
    made: list[socket.socket] = []

    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            made.append(self)
            if len(made) == 3:
                raise OSError(98, "Address already in use")
            super().bind(address)

    monkeypatch.setattr(http_server.socket, "socket", Socket)
    with pytest.raises(OSError, match="in use"):
        http_server.bind_shared("127.0.0.1", 0, 2)
    assert [one.fileno() for one in made] == [-1, -1, -1]
