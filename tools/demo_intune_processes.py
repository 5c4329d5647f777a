"""The processes of ``make demo-intune``: one for each command, the service, the servers.

Whatever happens to the demo, they end: the service with its standard input, the servers on the
leash of the tests, commands after a minute.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo_view import DemoFailed

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import leash  # noqa: E402 - found from the root only

PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
SECONDS = 60
"""For a command, or until a server listens."""


def environment() -> dict[str, str]:
    """For all of them: this checkout, and where Debian has nginx."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": PATH}


def expect(condition: bool, text: str) -> None:
    """Go on only if it holds.

    Raises:
        DemoFailed: it doesn't.
    """
    if not condition:
        raise DemoFailed(text)


def free_port() -> int:
    """A port on loopback that nobody has, for a server that has to be told one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def wait_for(condition: Callable[[], bool], text: str) -> None:
    """Wait until it holds.

    Raises:
        DemoFailed: it doesn't within a minute.
    """
    end = time.monotonic() + SECONDS
    while not condition():
        expect(time.monotonic() < end, text)
        time.sleep(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed: the result, or what was wrong."""
        return json.loads(self.err.splitlines()[-1])["error"] if self.code else json.loads(self.out)


class ManagementService:
    """The fake Intune."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 if there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it, or start it again where it was."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    ROOT / "tools/demo_intune_service.py",
                    self.folder,
                    str(self.port),
                ],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url = self._answer()["url"]

    def do(self, name: str, **words: Any) -> Any:
        """Have it do something."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"name": name, **words}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def log(self) -> list[dict[str, Any]]:
        """What it was asked since the last look, apart from tokens and addresses."""
        calls: list[dict[str, Any]] = self.do("log")
        return [one for one in calls if one["call"] not in ("openid", "token", "endpoints")]

    def stop(self) -> None:
        """End it, and look that it has ended."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        expect(code == 0, f"the service ended with {code}")

    def _answer(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        expect(bool(line), f"the service has ended: {(self.folder / 'log').read_text()[-2000:]}")
        return json.loads(line)


class Server:
    """A server that listens, and ends with the demo."""

    def __init__(self, name: str, words: list[str], home: Path, port: int) -> None:
        self.name = name
        self.port = port
        self._log = home / "output.log"
        self._process = leash.start(words, home=home, env=environment())
        wait_for(self._up, f"{name} does not listen")

    def _up(self) -> bool:
        code = self._process.poll()
        expect(code is None, f"{self.name} has ended with {code}: {self.said()}")
        return listens(self.port)

    def said(self) -> str:
        """The end of what it printed."""
        return self._log.read_text("utf-8", "replace")[-2000:] if self._log.exists() else ""

    def ready(self) -> Any:
        """What ``pyscep serve --json`` says when it is ready."""
        found: list[Any] = []

        def said() -> bool:
            lines = self._log.read_text("utf-8").splitlines()
            found.extend(json.loads(line) for line in lines if '"status": "ready"' in line)
            return bool(found)

        wait_for(said, f"{self.name} does not say that it is ready")
        return found[0]

    def events(self) -> list[dict[str, Any]]:
        """What ``pyscep serve --json`` has reported."""
        lines = self._log.read_text("utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [one for one in records if "event" in one]

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        leash.stop(self._process)
        return self._process.returncode


def run(argv: list[str], cwd: Path) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)
