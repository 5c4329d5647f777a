"""Where ``make demo-intune`` plays: a folder, the servers in it, and what they have logged."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_intune_processes import (
    PATH,
    ROOT,
    Done,
    ManagementService,
    Server,
    expect,
    free_port,
    listens,
    run,
    wait_for,
)
from demo_view import DemoFailed, View

HOST = "scep.example.com"
LONG = 8192
"""Bytes of a request line that most web servers refuse by default."""

NGINX = """\
# What Debian's nginx.conf leaves to the site, in the foreground and in this directory.
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    include {home}/scep.conf;
}}
"""


def moved(text: str, replacements: Mapping[str, str], name: str) -> str:
    """A file of the documents with other addresses, each of which has to be in it."""
    for old, new in replacements.items():
        expect(old in text, f"{old!r} is not in {name} any more")
        text = text.replace(old, new)
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What nginx saw of one request, and what the device and the CA said."""

    method: str
    path: str
    status: int
    sent: int
    """Bytes of the request, headers included."""
    received: int
    """Bytes of the answer's body."""
    result: Any
    reason: str
    """Out of the server's log; empty if it granted."""


class Lab:
    """A folder with everything in it."""

    def __init__(self, view: View, folder: Path) -> None:
        self.view = view
        self.folder = folder
        self.site = folder / "server"
        self.service = ManagementService(folder / "service")
        self.servers: dict[str, Server] = {}
        self.shown: set[str] = set()
        """Endpoints whose command was shown in full."""
        self.http = free_port()
        self.backend = free_port()

    def holds(self, condition: bool, text: str) -> None:
        """Show what was checked.

        Raises:
            DemoFailed: it is not so.
        """
        expect(condition, f"not so: {text}")
        self.view.good(text)

    # --- commands ---------------------------------------------------------------------

    def pyscep(self, *words: str, cwd: Path, code: int = 0, shown: str = "") -> Done:
        """Run the ``pyscep`` command in a process; it has to end with that code."""
        argv = [sys.executable, "-m", "pyscep", *words]
        return self._run(shown or shlex.join(["pyscep", *words]), argv, cwd, code)

    def openssl(self, *words: str, cwd: Path, code: int = 0, quiet: bool = False) -> str:
        """Run ``openssl``; it has to end with that code."""
        argv = ["openssl", *words]
        done = self._run("" if quiet else shlex.join(argv), argv, cwd, code)
        return done.out + done.err

    def python(self, *words: str, cwd: Path) -> str:
        """Run a script of this directory."""
        argv = [sys.executable, str(ROOT / "tools" / words[0]), *words[1:]]
        return self._run(shlex.join(["python", *words]), argv, cwd, 0).out

    def _run(self, shown: str, argv: list[str], cwd: Path, code: int) -> Done:
        if shown:
            self.view.command(shown)
        done = run(argv, cwd)
        said = (done.out + done.err).strip()
        expect(done.code == code, f"{shown or argv} ended with {done.code}: {said}")
        return done

    def own_certificate(self, name: str, subject: str, folder: Path) -> None:
        """A key in ``name.key`` and a certificate that it signed itself in ``name.pem``."""
        words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", subject]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        self.openssl(*words, *files, cwd=folder)
        (folder / f"{name}.key").chmod(0o600)

    # --- files ------------------------------------------------------------------------

    def make_sealing_service(self) -> None:
        """A management service of one's own, and a stranger; they have the module's certificate."""
        for name in ("mdm", "stranger"):
            folder = self.folder / name
            folder.mkdir()
            self.own_certificate(name, "/CN=device management", folder)
            shutil.copy(self.site / "module.pem", folder)
        shutil.copy(self.folder / "mdm" / "mdm.pem", self.site)

    def copy_configuration(self) -> None:
        """The examples, with the ports of this demo and the settings of its Intune."""
        example = ROOT / "docs/examples/intune/scep.toml"
        replacements = {"port = 8080": f"port = {self.backend}"}
        self.view.command(f"cp {example.relative_to(ROOT)} .")
        moved_text = moved(example.read_text("utf-8"), replacements, example.name)
        (self.site / "scep.toml").write_text(moved_text)
        for name in ("intune.toml", "client-secret", "roots.pem"):
            shutil.copy(self.service.folder / name, self.site)

    def issued(self) -> set[str]:
        """Serial numbers of all certificates, as Intune writes them: out of the database."""
        database = f"file:{self.site}/pyscep-ca/scep.db?mode=ro"
        with closing(sqlite3.connect(database, uri=True)) as connection:
            rows = connection.execute("SELECT serial FROM certificates").fetchall()
        return {f"{int(serial, 16):X}" for (serial,) in rows}

    # --- servers ----------------------------------------------------------------------

    def start_server(self) -> Server:
        """``pyscep serve`` with the configuration of docs/examples/intune."""
        words = ["serve", "--config", "scep.toml", "--json"]
        self.view.command(shlex.join(["pyscep", *words]))
        argv = [sys.executable, "-m", "pyscep", *words]
        self.servers["pyscep"] = Server("pyscep serve", argv, self.site, self.backend)
        return self.servers["pyscep"]

    def start_nginx(self) -> Server:
        """nginx with the recipe of docs/deploy/nginx.md; ports and paths are this demo's."""
        home = self.folder / "nginx"
        home.mkdir()
        self.own_certificate("tls", f"/CN={HOST}", home)
        page = (ROOT / "docs/deploy/nginx.md").read_text("utf-8")
        found = re.search(r"^```nginx name=scep.conf\n(.*?)^```$", page, re.M | re.S)
        expect(found is not None, "docs/deploy/nginx.md has no recipe")
        assert found is not None
        replacements = {
            "listen 80;": f"listen 127.0.0.1:{self.http};",
            "listen 443 ": f"listen 127.0.0.1:{free_port()} ",
            "http://127.0.0.1:8080;": f"http://127.0.0.1:{self.backend};",
            "/etc/ssl/scep/chain.pem": f"{home}/tls.pem",
            "/etc/ssl/scep/key.pem": f"{home}/tls.key",
            "/var/log/nginx/": f"{home}/",
            "$request_length'": "$request_length $body_bytes_sent'",
        }
        (home / "scep.conf").write_text(moved(found[1], replacements, "the recipe"))
        (home / "nginx.conf").write_text(NGINX.format(home=home))
        argv = ["nginx", "-e", "stderr", "-p", str(home), "-c", str(home / "nginx.conf")]
        self.view.command("nginx -c nginx.conf")
        self.servers["nginx"] = Server("nginx", argv, home, self.http)
        return self.servers["nginx"]

    def url(self, path: str) -> str:
        """Of nginx."""
        return f"http://127.0.0.1:{self.http}{path}"

    def status(self, path: str) -> int:
        """What a GET gets."""
        try:
            with urllib.request.urlopen(self.url(path), timeout=30) as reply:  # noqa: S310 - http
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def alike(self, answers: list[Answer]) -> None:
        """Nobody can tell from an answer why it was refused."""
        seen = {
            (one.status, one.received, one.result["fail_info"], one.result["text"])
            for one in answers
        }
        self.holds(
            len(seen) == 1 and next(iter(seen))[2:] == ("badRequest", None),
            f"on the wire: {len(answers)} times FAILURE badRequest without text, all of one length",
        )

    def log_length(self) -> int:
        """Lines in nginx's log."""
        return len(self._access_log())

    def access_log_after(self, lines: int) -> list[re.Match[str]]:
        """What nginx logged since: method, path, status, bytes in, bytes out.

        Waits for the line of a PKIOperation, which nginx may write after the device has its answer.
        """
        wait_for(
            lambda: any(int(one[4]) > LONG for one in self._access_log()[lines:]),
            "nginx logs no long request",
        )
        return [one for one in self._access_log()[lines:] if int(one[4]) > LONG]

    def _access_log(self) -> list[re.Match[str]]:
        path = self.folder / "nginx" / "scep.log"
        pattern = re.compile(r'"(\S+) (\S+)" (\d+) (\d+) (\d+)$')
        lines = path.read_text().splitlines() if path.exists() else []
        return [match for one in lines if (match := pattern.search(one))]

    def stop(self) -> None:
        """End everything in order, and look that it has ended well."""
        for name in ("nginx", "pyscep"):
            if (server := self.servers.pop(name, None)) is not None:
                code = server.stop()
                expect(code == 0, f"{server.name} ended with {code}: {server.said()}")
                expect(not listens(server.port), f"somebody still listens where {name} was")
        self.service.stop()

    def kill(self) -> None:
        """End what is still there, whatever it says."""
        for server in self.servers.values():
            server.stop()
        with suppress(DemoFailed, OSError):
            self.service.stop()

    def said(self) -> str:
        """What the servers printed last, for a failure."""
        return "\n".join(f"{one.name}: {one.said()}" for one in self.servers.values())


def missing() -> str:
    """What is not installed, and how to install it; empty if all is there."""
    absent = [one for one in ("openssl", "nginx") if shutil.which(one, path=PATH) is None]
    if not absent:
        return ""
    return f"{' and '.join(absent)} not found: apt-get install {' '.join(absent)}"
