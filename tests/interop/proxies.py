"""Reverse proxies on loopback, each configured by the block of its page in docs/deploy.

A page is tested as it stands: addresses and paths are replaced, each replacement has to
find its text, and everything else is what the reader copies.
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.adapters.asgi import ScepApp
from tests import cli_lab, documents
from tests import forge_keys as keys
from tests.endpoint import Authority, identity

from . import peers

HOST = "scep.example.com"
MODULES = Path("/usr/lib/apache2/modules")


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

    def write(self, place: Place, *, default: bool) -> None:
        """Write the page's files, with other addresses and paths; each has to be in them."""
        files = documents.code(f"docs/deploy/{self.page}.md", self.page)
        missing = self.replacements(place)
        if default and self.needed:
            missing[self.needed] = ""
        for name, text in files.items():
            for old, new in self.replacements(place).items():
                if old in text:
                    text = text.replace(old, new)
                    missing.pop(old, None)
            if default and self.needed:
                text, found = re.subn(rf"(?m)^{self.needed}.*\n", "", text)
                if found:
                    missing.pop(self.needed)
            (place.home / name).write_text(text)
        assert not missing, f"docs/deploy/{self.page}.md does not say {list(missing)} any more"


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
    log: Path
    """What the recipe's access log says."""

    def url(self, path: str = "/scep/pkiclient.exe", *, tls: bool = False) -> str:
        port = self.place.https if tls else self.place.http
        return f"http{'s' if tls else ''}://127.0.0.1:{port}{path}"


@contextmanager
def run(recipe: Recipe, home: Path, *, default: bool = False) -> Iterator[Running]:
    """Run a proxy before a SCEP server.

    Args:
        default: without the lines that make a long URI pass.
    """
    peers.require(recipe.program)
    recorder = Recorder()
    write_certificate(home)
    with cli_lab.listening(recorder) as origin:
        place = Place(
            home=home,
            backend=origin.removeprefix("http://"),
            http=peers.free_port(),
            https=peers.free_port(),
        )
        recipe.write(place, default=default)
        with started(recipe.command(place), home, (place.http, place.https)):
            yield Running(place=place, recorder=recorder, log=home / "scep.log")


@contextmanager
def started(words: list[str], home: Path, ports: tuple[int, ...]) -> Iterator[None]:
    """A program in the foreground, until the block ends."""
    output = home / "output.log"
    with open(output, "wb") as sink:
        process = subprocess.Popen(
            words,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=peers.environment(HOME=str(home), TMPDIR=str(home)),
        )
    try:
        end = time.monotonic() + 15
        while not all(map(listens, ports)):
            said = output.read_text("utf-8", "replace")
            assert process.poll() is None, f"{words[0]} has ended: {said}"
            assert time.monotonic() < end, f"{words[0]} does not listen: {said}"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    import socket

    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


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


# nginx --------------------------------------------------------------------------------

NGINX = """
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log stderr info;
include /etc/nginx/modules-enabled/*.conf;
events {{ worker_connections 64; }}
http {{
    # As in Debian, and what else a site may have set for all its servers.
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    gzip on;
    gzip_min_length 1;
    gzip_proxied any;
    charset utf-8;
    charset_types *;
    auth_basic "members";
    auth_basic_user_file {home}/nobody;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/scep.conf;
}}
"""


def nginx_replacements(place: Place) -> dict[str, str]:
    return {
        "listen 80;": f"listen 127.0.0.1:{place.http};",
        "listen 443 ": f"listen 127.0.0.1:{place.https} ",
        "http://127.0.0.1:8080;": f"http://{place.backend};",
        "/etc/ssl/scep/chain.pem": place.file("chain.pem"),
        "/etc/ssl/scep/key.pem": place.file("key.pem"),
        "/var/log/nginx/": f"{place.home}/",
    }


def nginx_command(place: Place) -> list[str]:
    (place.home / "nginx.conf").write_text(NGINX.format(home=place.home))
    (place.home / "nobody").touch()
    # -e: the log before the configuration is read; without it, one in /var/log.
    return ["nginx", "-e", "stderr", "-p", str(place.home), "-c", place.file("nginx.conf")]


# Apache httpd -------------------------------------------------------------------------

APACHE = """
ServerRoot {home}
ServerName 127.0.0.1
PidFile {home}/apache.pid
DefaultRuntimeDir {home}
Mutex sem
ErrorLog {home}/error.log
LogLevel info
StartServers 1
User nobody
Group nogroup
{modules}
Listen 127.0.0.1:{http}
Listen 127.0.0.1:{https}
AddDefaultCharset utf-8
SetOutputFilter DEFLATE
<Location "/">
    AuthType Basic
    AuthName members
    AuthUserFile {home}/nobody
    Require valid-user
</Location>
Include {home}/scep.conf
"""
APACHE_MODULES = (
    "mpm_event authn_core authn_file auth_basic authz_core authz_user deflate env filter "
    "headers http2 mime proxy proxy_http reqtimeout setenvif socache_shmcb ssl"
).split()


def apache_replacements(place: Place) -> dict[str, str]:
    return {
        "<VirtualHost *:80>": f"<VirtualHost 127.0.0.1:{place.http}>",
        "<VirtualHost *:443>": f"<VirtualHost 127.0.0.1:{place.https}>",
        "http://127.0.0.1:8080/": f"http://{place.backend}/",
        "/etc/ssl/scep/chain.pem": place.file("chain.pem"),
        "/etc/ssl/scep/key.pem": place.file("key.pem"),
        "/etc/apache2/scep.inc": place.file("scep.inc"),
        "${APACHE_LOG_DIR}/": f"{place.home}/",
    }


def apache_command(place: Place) -> list[str]:
    modules = "\n".join(
        f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in APACHE_MODULES
    )
    main = APACHE.format(home=place.home, modules=modules, http=place.http, https=place.https)
    (place.home / "apache.conf").write_text(main)
    (place.home / "nobody").touch()
    return ["apache2", "-DFOREGROUND", "-f", place.file("apache.conf")]


# HAProxy ------------------------------------------------------------------------------


def haproxy_replacements(place: Place) -> dict[str, str]:
    return {
        "bind :80\n": f"bind 127.0.0.1:{place.http}\n",
        "bind :443 ": f"bind 127.0.0.1:{place.https} ",
        "server pyscep 127.0.0.1:8080": f"server pyscep {place.backend}",
        "/etc/haproxy/scep.pem": place.file("scep.pem"),
        "log /dev/log local0": "log stdout format raw local0",
    }


def haproxy_command(place: Place) -> list[str]:
    os.symlink("output.log", place.home / "scep.log")
    return ["haproxy", "-db", "-f", place.file("haproxy.cfg")]


# Caddy --------------------------------------------------------------------------------


CADDY = """{
    admin off
    auto_https off
}
import Caddyfile
"""


def caddy_replacements(place: Place) -> dict[str, str]:
    return {
        "http://:80 {": f"http://:{place.http} {{\n\tbind 127.0.0.1",
        "https://:443 {": f"https://:{place.https} {{\n\tbind 127.0.0.1",
        "127.0.0.1:8080": place.backend,
        "/etc/ssl/scep/chain.pem": place.file("chain.pem"),
        "/etc/ssl/scep/key.pem": place.file("key.pem"),
        "/var/log/caddy/": f"{place.home}/",
    }


def caddy_command(place: Place) -> list[str]:
    (place.home / "main").write_text(CADDY)
    return ["caddy", "run", "--adapter", "caddyfile", "--config", place.file("main")]


RECIPES = {
    "nginx": Recipe(
        program="nginx",
        page="nginx",
        needed="large_client_header_buffers",
        replacements=nginx_replacements,
        command=nginx_command,
    ),
    "Apache httpd": Recipe(
        program="apache2",
        page="apache",
        needed="LimitRequestLine",
        replacements=apache_replacements,
        command=apache_command,
    ),
    "HAProxy": Recipe(
        program="haproxy",
        page="haproxy",
        needed=r" *tune\.bufsize",
        replacements=haproxy_replacements,
        command=haproxy_command,
    ),
    "Caddy": Recipe(
        program="caddy",
        page="caddy",
        needed=None,
        replacements=caddy_replacements,
        command=caddy_command,
    ),
}
