"""The demo's CA: a process that embeds pyscep's CA and serves it on a free loopback port.

As a script, ``demo_ca.py FOLDER``, it reads a reusable challenge from standard input, prints one
JSON object when it is ready, and appends a JSON line to FOLDER/events for each request. It
ends with SIGTERM, and by itself when standard input is closed: it never outlives the demo.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

START_SECONDS = 60
STOP_SECONDS = 30


class DemoCa:
    """The process, seen from the demo.

    Args:
        folder: for its keys, database, events and log; made when missing.
        long_challenge: a reusable challenge.
    """

    def __init__(self, folder: Path, *, long_challenge: str) -> None:
        self.long_challenge = long_challenge
        self.url = self.fingerprint = self.challenge = self.name = ""
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._events_seen = 0

    @property
    def pid(self) -> int:
        """Of the process; 0 if there is none."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            OSError: it didn't start.
        """
        self._folder.mkdir()
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(self.long_challenge + "\n")
        self._process.stdin.flush()
        giving_up = threading.Timer(START_SECONDS, self._process.kill)
        giving_up.start()
        line = self._process.stdout.readline()
        giving_up.cancel()
        if not line:
            raise OSError("the CA didn't start")
        told = json.loads(line)
        self.url, self.fingerprint = told["url"], told["fingerprint"]
        self.challenge, self.name = told["challenge"], told["name"]

    def events(self) -> list[str]:
        """What the CA told its operator since the last call."""
        path = self._folder / "events"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        new, self._events_seen = lines[self._events_seen :], len(lines)
        return [json.loads(line) for line in new]

    def stop(self) -> None:
        """End it gently.

        Raises:
            OSError: its exit code isn't 0.
        """
        if self._process is None:
            return
        self._process.terminate()
        code = self._process.wait(STOP_SECONDS)
        self.kill()
        if code != 0:
            raise OSError(f"the CA ended with {code}")

    def kill(self) -> None:
        """End it in any case."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def log(self) -> str:
        """The end of its log."""
        path = self._folder / "log"
        return path.read_text(encoding="utf-8", errors="replace")[-2000:] if path.exists() else ""


def describe(event: Any) -> str:
    """A ServerEvent in one line, foreign text escaped."""
    from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected
    from pyscep.messages import Failure

    match event:
        case RequestAnswered(outcome=Failure(reason=reason)):
            return f"refused a {event.message_type}: {ascii(reason)}"
        case RequestAnswered():
            return f"granted a {event.message_type} from {event.source}"
        case RequestRejected() | AuthorityFailed():
            return f"{type(event).__name__}: {ascii(str(event.error))}"
        case _:
            return type(event).__name__


def main() -> None:
    """Run the CA until SIGTERM, or until standard input ends."""
    from pyscep import MODERN
    from pyscep.adapters.asgi import ScepApp
    from pyscep.adapters.http_server import bind, serve
    from pyscep.ca import CertificateAuthority

    folder = Path(sys.argv[1])
    long_challenge = sys.stdin.readline().rstrip("\n")

    def leave_with_parent() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    def write_event(event: object) -> None:
        with (folder / "events").open("a", encoding="utf-8") as file:
            file.write(json.dumps(describe(event)) + "\n")

    name = "pyscep demo CA"
    with CertificateAuthority.create(
        folder / "ca", common_name=name, static_challenge=long_challenge
    ) as ca:
        sock = bind("127.0.0.1", 0)
        told = {
            "url": f"http://127.0.0.1:{sock.getsockname()[1]}/scep",
            "fingerprint": ca.fingerprint,
            "challenge": ca.new_challenge(),
            "name": name,
        }
        threading.Thread(target=leave_with_parent, daemon=True).start()
        app = ScepApp(ca.server(policy=MODERN, on_event=write_event), ca)
        serve(app, sock, on_ready=lambda: print(json.dumps(told), flush=True))


if __name__ == "__main__":
    main()
