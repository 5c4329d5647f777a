"""What the tests of the command line share: a runner, and CAs behind real ports."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pyscep.adapters import http_server
from pyscep.ca import CertificateAuthority
from pyscep.cli.group import pyscep
from pyscep.site import serve


def invoke(*words: object, **extra: Any) -> Result:
    """Run `pyscep` with these words, in this process."""
    found = CliRunner().invoke(pyscep, [str(word) for word in words], **extra)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def done(*words: object, **extra: Any) -> Any:
    """Run with --json, expect success, and return the object on standard output."""
    found = invoke(*words, "--json", **extra)
    assert found.exit_code == 0, (found.stdout, found.stderr)
    assert found.stderr == ""
    return json.loads(found.stdout)


def failed(code: int, *words: object, **extra: Any) -> Any:
    """Run with --json, expect that exit code, and return the error."""
    found = invoke(*words, "--json", **extra)
    assert found.exit_code == code, (found.stdout, found.stderr)
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    error = json.loads(found.stderr)["error"]
    assert error["exit_code"] == code
    return error


@contextlib.contextmanager
def listening(app: Any, **more: Any) -> Iterator[str]:
    """Serve an ASGI application as `pyscep serve` does; yields the origin.

    Args:
        app: the application.
        more: for ``http_server.make_server``.
    """
    ready = threading.Event()
    sock = http_server.bind("127.0.0.1", 0)
    server = http_server.make_server(app, on_ready=ready.set, **more)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        assert ready.wait(20)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A CA that runs."""

    ca: CertificateAuthority
    url: str
    directory: Path
    events: list[Any]

    @property
    def pinned(self) -> tuple[str, ...]:
        """The words that name the server and pin its CA."""
        return (self.url, "--fingerprint", self.ca.fingerprint)

    def enroll(self, home: Path, name: str = "device", *words: object, **extra: Any) -> Any:
        """Enroll with a fresh challenge; returns what was printed."""
        return done("enroll", *self.words(home, name), *words, **extra)

    def words(self, home: Path, name: str = "device", challenge: str | None = None) -> Any:
        """Arguments of `pyscep enroll`."""
        word = self.ca.new_challenge() if challenge is None else challenge
        return (
            *self.pinned,
            *("--key", home / f"{name}.key", "--out", home / f"{name}.pem"),
            *("--subject", f"CN={name},O=Lab", "--challenge", word),
        )


@contextlib.contextmanager
def lab(directory: Path, **settings: Any) -> Iterator[Lab]:
    """A CA in a directory, running."""
    options = serve.ServeSettings(directory=directory, **settings)
    events: list[Any] = []
    with (
        serve.open_ca(options) as ca,
        listening(serve.site(ca, options, on_event=events.append)) as origin,
    ):
        yield Lab(ca=ca, url=f"{origin}/scep", directory=directory, events=events)
