"""A PostgreSQL server of Debian's package, private to the tests: on loopback, in /tmp.

The cluster that the package sets up is left alone. PostgreSQL refuses to run as root, so root
starts it as the package's user.
"""

from __future__ import annotations

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

_PLACES = "/usr/lib/postgresql/*/bin"
_USER = "postgres"


def require() -> None:
    """Skip where PostgreSQL or its driver is missing; fail under PYSCEP_REQUIRE_PEERS=1."""
    absent = []
    if _binaries() is None:
        absent.append("postgresql (Debian package postgresql)")
    try:
        import psycopg  # noqa: F401 - whether it is there
    except ImportError:
        absent.append("psycopg (extra postgresql)")
    if absent:
        text = f"not installed: {', '.join(absent)}"
        if os.environ.get("PYSCEP_REQUIRE_PEERS") == "1":
            pytest.fail(text)
        pytest.skip(text)


class Cluster:
    """A running server; ``stop`` and ``start`` as often as a test wants."""

    def __init__(self, directory: Path, fsync: bool) -> None:
        binaries = _binaries()
        assert binaries is not None
        self._binaries = binaries
        self._directory = directory
        self._fsync = fsync
        self._data = directory / "data"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": _USER, "group": _USER, "extra_groups": []}
            entry = pwd.getpwnam(_USER)
            os.chown(directory, entry.pw_uid, entry.pw_gid)
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._make()

    def _make(self) -> None:
        word = self._directory / "password"
        word.write_text(self._password)
        word.chmod(0o644)  # in a directory of mode 0700
        self._run("initdb", "--pgdata", self._data, "--username", "scep", "--pwfile", word,
                  "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync")
        word.unlink()

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(self.port),
            "unix_socket_directories": str(self._directory),
            "fsync": "on" if self._fsync else "off",
            "shared_buffers": "16MB", "max_connections": "80",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._directory, **self._as)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(Exception):
                self.sql("SELECT 1")
                return
            assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
            time.sleep(0.05)
        raise AssertionError("PostgreSQL did not start")

    def stop(self) -> None:
        """At once, as if it had been killed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            self._process = None

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"scep{next(self._names)}"
        self.sql(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://scep:{self._password}@127.0.0.1:{self.port}/{name}"

    def sql(self, text: str, url: str = "") -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(url or self.url(), autocommit=True, connect_timeout=3) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._binaries / program, *map(str, arguments)],
            capture_output=True, cwd=self._directory, **self._as)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


@contextmanager
def cluster(*, fsync: bool = True) -> Iterator[Cluster]:
    """A server for the length of a with block; without fsync, databases are made faster."""
    directory = Path(tempfile.mkdtemp(prefix="pyscep-postgresql-"))
    one: Cluster | None = None
    try:
        one = Cluster(directory, fsync)
        one.start()
        yield one
    finally:
        if one is not None:
            one.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _binaries() -> Path | None:
    found = sorted(Path("/").glob(_PLACES.lstrip("/")))
    for place in reversed(found):
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None
