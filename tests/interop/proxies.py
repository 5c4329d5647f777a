"""Reverse proxies on loopback, each configured by the block of its page in docs/deploy.

A page is tested as it stands: addresses and paths are replaced, each replacement has to
find its text, and everything else is what the reader copies.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.adapters.asgi import ScepApp
from tests import cli_lab, documents, leash
from tests import forge_keys as keys
from tests.endpoint import Authority, identity
from tests.raw_http import LONG_CHALLENGE, Reply, bare, free_port, listens, long_csr, talk

from . import peers

HOST = "scep.example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it arrived behind the proxy."""

    method: str
    path: bytes
    """Raw, as on the wire."""
    query: bytes = field(repr=False)
    """Raw, as on the wire."""
    headers: dict[bytes, bytes]
    body: bytes = field(repr=False)


class Recorder:
    """An ASGI application that answers SCEP on every path and keeps what came."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.seen: list[Seen] = []
        ca = self.authority.issuer
        self._scep = ScepApp(pyscep.Server(identity(ca)), self.authority)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._scep(scope, receive, send)
            return
        body = bytearray()

        async def listen() -> Any:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":  # before the client can know of it
                self._keep(scope, bytes(body))
            await send(message)

        await self._scep(scope, listen, answer)

    def _keep(self, scope: Any, body: bytes) -> None:
        self.seen.append(
            Seen(
                method=scope["method"],
                path=scope["raw_path"],
                query=scope["query_string"],
                headers=dict(scope["headers"]),
                body=body,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A proxy's page, and how its configuration is run."""

    program: str
    page: str
    """Of docs/deploy; its blocks in that language are the files, each named."""
    needed: str | None
    """A pattern of the line that is the difference to the default settings."""
    replacements: Callable[[Place], dict[str, str]]
    command: Callable[[Place], list[str]]
    """Writes what the page leaves to the system; returns a command for the foreground."""

    def files(self) -> dict[str, str]:
        """The files of the page, by name."""
        return documents.code(f"docs/deploy/{self.page}.md", self.page)

    def default(self) -> dict[str, str]:
        """The same without what makes a long URI pass."""
        assert self.needed
        return without(self.files(), self.needed)


def without(files: dict[str, str], pattern: str) -> dict[str, str]:
    """The files without the lines that begin with a pattern, of which there has to be one."""
    left = {name: re.sub(rf"(?m)^ *{pattern}.*\n", "", text) for name, text in files.items()}
    assert left != files, f"no line begins with {pattern}"
    return left


def moved(files: dict[str, str], replacements: dict[str, str]) -> dict[str, str]:
    """The files with other addresses and paths, each of which has to be in them."""
    whole = "".join(files.values())
    for old in replacements:
        assert old in whole, f"{old!r} is not in the recipe any more"
    found = dict(files)
    for name, text in files.items():
        for old, new in replacements.items():
            text = text.replace(old, new)
        found[name] = text
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a proxy runs."""

    home: Path
    backend: str
    """Host and port behind the proxy."""
    http: int
    https: int

    def file(self, name: str) -> str:
        return str(self.home / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A proxy that listens."""

    place: Place
    recorder: Recorder

    @property
    def access_log(self) -> str:
        return (self.place.home / "scep.log").read_text("utf-8", "replace")

    @property
    def logs(self) -> str:
        """All that it has said."""
        files = (self.place.home / name for name in ("scep.log", "error.log", "output.log"))
        return "".join(path.read_text("utf-8", "replace") for path in files if path.exists())

    def url(self, path: str = "/scep/pkiclient.exe", *, tls: bool = False) -> str:
        port = self.place.https if tls else self.place.http
        return f"http{'s' if tls else ''}://127.0.0.1:{port}{path}"


@contextmanager
def run(recipe: Recipe, home: Path, files: dict[str, str] | None = None) -> Iterator[Running]:
    """Run a proxy before a SCEP server.

    Args:
        files: instead of those of the page.
    """
    peers.require(recipe.program)
    recorder = Recorder()
    write_certificate(home)
    with cli_lab.listening(recorder) as origin:
        place = Place(
            home=home,
            backend=origin.removeprefix("http://"),
            http=free_port(),
            https=free_port(),
        )
        replacements = recipe.replacements(place)
        for name, text in moved(files or recipe.files(), replacements).items():
            (home / name).write_text(text)
        with started(recipe.command(place), home, (place.http, place.https)):
            yield Running(place=place, recorder=recorder)


class Yard:
    """Proxies that are started when a test first asks, and stay until the module's end."""

    def __init__(
        self, recipes: dict[str, Recipe], stack: ExitStack, make: Callable[[str], Path]
    ) -> None:
        self._recipes = recipes
        self._stack = stack
        self._make = make
        self._running: dict[tuple[str, bool], Running] = {}

    def __call__(self, name: str, *, default: bool = False) -> Running:
        key = (name, default)
        if key not in self._running:
            files = self._recipes[name].default() if default else None
            started = run(self._recipes[name], self._make("proxy"), files)
            self._running[key] = self._stack.enter_context(started)
        self._running[key].recorder.seen.clear()
        return self._running[key]


@contextmanager
def started(words: list[str], home: Path, ports: tuple[int, ...]) -> Iterator[None]:
    """A program in the foreground, until the block ends."""
    env = peers.environment(HOME=str(home), TMPDIR=str(home))
    process = leash.start(words, home=home, env=env)
    try:
        end = time.monotonic() + 30
        while not all(map(listens, ports)):
            said = (home / "output.log").read_text("utf-8", "replace")
            assert process.poll() is None, f"{words[0]} has ended: {said}"
            assert time.monotonic() < end, f"{words[0]} does not listen: {said}"
            time.sleep(0.02)
        yield
    finally:
        leash.stop(process)


def write_certificate(home: Path) -> None:
    """chain.pem, key.pem, and both in scep.pem: TLS for scep.example.com."""
    key = keys.ec_key("proxy")
    name = x509.Name.from_rfc4514_string(f"CN={HOST}")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (home / "chain.pem").write_bytes(pem)
    (home / "key.pem").write_bytes(keys.key_pem(key))
    (home / "scep.pem").write_bytes(pem + keys.key_pem(key))


def tls_context() -> ssl.SSLContext:
    """For a client of ``write_certificate``: any certificate will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


# Talking to them ----------------------------------------------------------------------


def get(
    proxy: Running,
    query: bytes,
    *,
    path: bytes = b"/scep/pkiclient.exe",
    version: bytes = b"1.1",
    headers: bytes = b"Host: scep.example.com\r\n",
) -> Reply:
    line = b"GET " + path + b"?" + query + b" HTTP/" + version + b"\r\n"
    return talk(proxy.place.http, line + headers + b"\r\n")


def enroll(
    proxy: Running,
    size: int,
    send: Callable[[pyscep.HttpRequest], pyscep.HttpResponse],
    *,
    escaped: bool = True,
    tls: bool = False,
    method: Literal["get", "post"] = "get",
) -> list[bytes]:
    """Enroll with a request of about that size; returns the queries as they were sent."""
    proxy.recorder.authority.challenges.add(LONG_CHALLENGE)
    ca = proxy.recorder.authority.issuer
    client = pyscep.Client(proxy.url(tls=tls), ca_certificates=(ca.certificate,), method=method)
    sent: list[bytes] = []

    def watched(request: pyscep.HttpRequest) -> pyscep.HttpResponse:
        if not escaped:
            request = replace(request, query=bare(request.query))
        sent.append(request.query)
        return send(request)

    flow = client.enroll(keys.rsa_key("client"), long_csr(size, escaped=escaped))
    result = pyscep.run(flow, watched)
    assert isinstance(result, pyscep.Success)
    assert result.certificates[0].public_key() == keys.rsa_key("client").public_key()
    return sent


SEND = pyscep.urllib_sender(timeout=30)


def enroll_over_http2(proxy: Running, size: int) -> list[bytes]:
    """The same over TLS and HTTP/2."""
    httpx = pytest.importorskip("httpx", reason="comes with the extra httpx")
    pytest.importorskip("h2", reason="a development tool")
    settings = {"http1": False, "http2": True, "verify": tls_context(), "headers": {"host": HOST}}
    with httpx.Client(**settings) as client:
        return enroll(proxy, size, pyscep.httpx_sender(client), tls=True)
