"""docs/deploy/python-servers.md: each command with a SCEP application, and without its settings."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

import pyscep
from tests import documents, leash
from tests import forge_keys as keys
from tests.raw_http import CAPS, LONG_CHALLENGE, Reply, bare, free_port, listens, long_csr, talk

PAGE = "docs/deploy/python-servers.md"
RECIPES = tuple(documents.code(PAGE, "sh"))
"""The names of the page's commands."""
PROGRAMS = {name: name.partition("-")[0] for name in RECIPES}

RECORDING = """
import json, scep_app
from pyscep.adapters import wsgi

def keep(path, query, headers):
    with open("seen", "a") as file:  # one write, so that workers don't mix
        file.write(json.dumps([path, query, headers]) + "\\n")

async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [name.decode() for name, _ in scope["headers"]]
        keep(scope["path"], scope["query_string"].decode("latin-1"), headers)
    await scep_app.app(scope, receive, send)

def wsgi_app(environ, start_response):
    headers = [name for name in environ if name == "CONTENT_TYPE" and environ[name]]
    keep(environ["PATH_INFO"], wsgi.raw_query(environ).decode("latin-1"), headers)
    return scep_app.wsgi_app(environ, start_response)
"""

SMALL = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b""})

def wsgi_app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]
"""
"""For those that are started only to refuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    home: Path
    port: int
    process: subprocess.Popen[bytes]

    def log(self) -> str:
        return (self.home / "output.log").read_text("utf-8", "replace")

    @property
    def seen(self) -> list[tuple[str, bytes, list[str]]]:
        """Path, raw query and names of headers of each request."""
        lines = (self.home / "seen").read_text().splitlines()
        return [
            (path, query.encode("latin-1"), headers)
            for path, query, headers in map(json.loads, lines)
        ]


def start(home: Path, name: str, module: str, *, without: str = "") -> Server:
    """Start a command of the page.

    Args:
        module: takes the place of scep_app.
        without: what is left out of the command, or of the configuration file.
    """
    command, config = documents.code(PAGE, "sh")[name], documents.code(PAGE, "toml")
    text = command + "".join(config.values())
    assert without in text
    port = free_port()
    for file, content in config.items():
        content = content.replace(without, "") if without else content
        (home / file).write_text(content.replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    words = shlex.split(command.replace(without, "") if without else command)
    words = [word.replace("8080", str(port)).replace("scep_app:", f"{module}:") for word in words]
    paths = [str(home), str(documents.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HOME": str(home)}
    process = leash.start([sys.executable, "-m", *words], home=home, env=environment)
    return Server(home=home, port=port, process=process)


def await_all(servers: list[Server]) -> None:
    end = time.monotonic() + 60
    for server in servers:
        while not listens(server.port):
            assert server.process.poll() is None, server.log()
            assert time.monotonic() < end, server.log()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def ca_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sqlalchemy", reason="comes with the extra ca")
    directory = tmp_path_factory.mktemp("ca") / "pyscep-ca"
    pyscep.ca.CertificateAuthority.create(directory, key_type="rsa-2048", topology="ca").close()
    return directory


@pytest.fixture(scope="module")
def ca(ca_files: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((ca_files / "ca.pem").read_bytes())


@pytest.fixture(scope="module")
def servers(
    ca_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """Every command of the page, started together."""
    program = documents.code(PAGE)["scep_app.py"]
    place = 'load("pyscep-ca")'
    assert place in program
    program = program.replace(
        place, f"load({str(ca_files)!r}, static_challenge={LONG_CHALLENGE!r})"
    )
    running: dict[str, Server] = {}
    try:
        for name in RECIPES:
            pytest.importorskip(PROGRAMS[name], reason="one of the development tools")
            home = tmp_path_factory.mktemp(name)
            (home / "scep_app.py").write_text(program)
            (home / "recording.py").write_text(RECORDING)
            running[name] = start(home, name, "recording")
        await_all(list(running.values()))
        yield running
    finally:
        leash.stop(*(server.process for server in running.values()))


SHORT = {
    "gunicorn": "--limit-request-line 0",
    "gunicorn-asgi": "--limit-request-line 0",
    "uvicorn": "--h11-max-incomplete-event-size 70000",
    "hypercorn": "h11_max_incomplete_size = 70000",
}
"""The commands that need a setting, and which."""


@pytest.fixture(scope="module")
def short_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The same without their settings."""
    running: dict[str, Server] = {}
    try:
        for name, setting in SHORT.items():
            pytest.importorskip(PROGRAMS[name], reason="one of the development tools")
            home = tmp_path_factory.mktemp(name)
            (home / "small.py").write_text(SMALL)
            running[name] = start(home, name, "small", without=setting)
        await_all(list(running.values()))
        yield running
    finally:
        leash.stop(*(server.process for server in running.values()))


def head(query: bytes, path: bytes = b"/scep/pkiclient.exe") -> bytes:
    return b"GET " + path + b"?" + query + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def get(server: Server, query: bytes, path: bytes = b"/scep/pkiclient.exe") -> Reply:
    data = head(query, path)
    pieces = (data[:20_000], data[20_000:]) if len(data) > 20_000 else (data,)
    return talk(server.port, *pieces)


# With the settings --------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [41_000, 64_000])
@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "bare"])
def test_enrollment_by_get(
    servers: dict[str, Server], ca: x509.Certificate, name: str, size: int, escaped: bool
) -> None:
    server, key = servers[name], keys.rsa_key("client")
    client = pyscep.Client("http://x/scep/pkiclient.exe", ca_certificates=(ca,), method="get")
    sent: list[bytes] = []

    def send(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
        query = request.query if escaped else bare(request.query)
        sent.append(query)
        reply = get(server, query)
        return pyscep.HttpResponse(
            status=reply.status, headers=tuple(reply.headers.items()), body=reply.body
        )

    before = len(server.seen) if (server.home / "seen").exists() else 0
    result = pyscep.run(client.enroll(key, long_csr(size, escaped=escaped)), send)
    assert isinstance(result, pyscep.Success)
    assert result.certificates[0].public_key() == key.public_key()
    assert [query for _, query, _ in server.seen[before:]] == sent
    assert abs(max(map(len, sent)) - size) < 600, "this test's own arithmetic"


@pytest.mark.parametrize("name", RECIPES)
def test_the_longest_query(servers: dict[str, Server], name: str) -> None:
    reply = get(servers[name], CAPS.ljust(65_000, b"A"))
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain")


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    "value", [b"a+b/c==", b"%2B%2b%3D%3d", b"a%0Ab", b"%252B", b"%20", b"%zz%"]
)
def test_the_query_is_left_alone(servers: dict[str, Server], name: str, value: bytes) -> None:
    server = servers[name]
    for query in (CAPS + value, b"message=" + value + b"&operation=GetCACaps", b"?" + CAPS + value):
        assert get(server, query).status == 200
        assert server.seen[-1][1] == query


@pytest.mark.parametrize("name", RECIPES)
def test_post_without_content_type(servers: dict[str, Server], name: str) -> None:
    """Stands for sscep and strongSwan."""
    line = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    reply = talk(servers[name].port, line + b"Content-Length: 5000\r\n\r\n" + b"x" * 5000)
    assert (reply.status, reply.body) == (400, b"This is not a SCEP request.\n")
    assert not {"content-type", "CONTENT_TYPE"} & set(servers[name].seen[-1][2])


@pytest.mark.parametrize("name", RECIPES)
def test_chunked_post(servers: dict[str, Server], name: str) -> None:
    """Stands for Apple devices."""
    line = b"POST /scep?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    chunks = b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n0\r\n\r\n"
    reply = talk(servers[name].port, line + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert (reply.status, reply.body) == (400, b"This is not a SCEP request.\n")


@pytest.mark.parametrize("name", RECIPES)
def test_http_1_0_without_host(servers: dict[str, Server], name: str) -> None:
    """Stands for Cisco IOS."""
    line = b"GET /scep/pkiclient.exe?operation=GetCACaps HTTP/1.0\r\n\r\n"
    assert talk(servers[name].port, line).status == 200


# Without them -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn-asgi"])
def test_gunicorn_by_default(short_servers: dict[str, Server], name: str) -> None:
    server, room = short_servers[name], 4_094 - len("GET /scep? HTTP/1.1")
    assert get(server, CAPS.ljust(room, b"A"), b"/scep").status == 200
    for size in (room + 1, 40_000):
        reply = get(server, CAPS.ljust(size, b"A"), b"/scep")
        assert (reply.status, reply.reason) == (414, "URI Too Long")


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [("uvicorn", "400 Bad Request", b"Invalid HTTP request received."), ("hypercorn", "431 ", b"")],
)
def test_h11_by_default(
    short_servers: dict[str, Server], name: str, status: str, body: bytes
) -> None:
    """It answers before the request is complete: the rest is never sent here."""
    server = short_servers[name]
    reply = talk(server.port, head(CAPS.ljust(40_000, b"A"))[:20_000])
    assert (f"{reply.status} {reply.reason}", reply.body) == (status, body)
    assert get(server, CAPS.ljust(16_000, b"A")).status == 200


@pytest.mark.parametrize(
    ("name", "longest", "status"),
    [
        ("uvicorn-httptools", 65_535, "400 Bad Request"),
        ("granian", 65_534, "414 URI Too Long"),
        ("granian-wsgi", 65_534, "414 URI Too Long"),
    ],
)
def test_those_that_need_no_setting(
    servers: dict[str, Server], name: str, longest: int, status: str
) -> None:
    """Their own limit is beyond pyscep's."""
    room = longest - len("/scep?")
    reply = get(servers[name], CAPS.ljust(room, b"A"), b"/scep")
    assert (reply.status, reply.body) == (414, b"The query is too long; use POST.\n")
    reply = get(servers[name], CAPS.ljust(room + 1, b"A"), b"/scep")
    assert f"{reply.status} {reply.reason}" == status
    assert reply.body in (b"", b"Invalid HTTP request received.")


def test_the_page_says_so() -> None:
    text = (documents.ROOT / PAGE).read_text(encoding="utf-8")
    for words in ("4,094", "65,535", "65,534", "`414 URI Too Long`", "`400 Bad Request`", "`431`"):
        assert words in text
    assert set(RECIPES) == {*SHORT, "uvicorn-httptools", "granian", "granian-wsgi"}
