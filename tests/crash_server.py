"""A server that is made to be killed, for crash_lab.

The parent imports everything once and holds the listening socket. For each line on standard
input, the setting of a failpoint, it forks a child that opens the CA and serves it with
uvicorn until it dies; then it writes the child's exit code on standard output.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

from pyscep.adapters import http_server
from pyscep.adapters.asgi import ScepApp
from pyscep.ca import CertificateAuthority, Granted, Profile, Refused, Store, failpoints
from pyscep.ca.challenge import FirstOf, OneTimeChallenges
from pyscep.identity import Identity

PATIENCE = timedelta(days=1)
"""At the end of a run, which may be long, a request that is repeated has to count as the same."""


class Listener:
    """A provider that wants to hear what became of a challenge, and grants none itself."""

    scheme = "listener"
    notifies = True

    def generate(self, **_: Any) -> str:
        raise ValueError("it makes none")

    def verify(self, _: Any) -> Granted | Refused:
        return Refused(reason="not mine")

    def notify(self, _: Any) -> None:
        pass


def open_ca(url: str, identity: Identity) -> CertificateAuthority:
    store = Store(url)
    return CertificateAuthority(
        store=store,
        issuer=identity,
        profiles=(Profile(name="automatic"), Profile(name="manual", approval="manual")),
        challenge=FirstOf(OneTimeChallenges(store, lifetime=PATIENCE), Listener()),
        redelivery=PATIENCE,
    )


class App:
    """The CA's endpoint, and under /admin what its operator does."""

    def __init__(self, ca: CertificateAuthority) -> None:
        self._ca = ca
        self._scep = ScepApp(ca.server(), ca, minimum_failure_seconds=0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.startswith("/admin/"):
            await self._scep(scope, receive, send)
            return
        arguments = {
            name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()
        }
        status = 200
        try:
            answer = await self._scep._in_thread(lambda: self._operate(path[7:], arguments))
        except LookupError as error:
            status, answer = 404, str(error)
        body = json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def _operate(self, name: str, arguments: dict[str, str]) -> Any:
        match name:
            case "challenge":
                return self._ca.new_challenge(profile=arguments["profile"])
            case "pending":
                return {one.transaction_id: one.id for one in self._ca.pending()}
            case "approve":
                return self._ca.approve(int(arguments["id"])).serial_number
            case "deny":
                return self._ca.deny(int(arguments["id"]), "no")
            case "revoke":
                return self._ca.revoke(int(arguments["serial"], 16))
            case "crl":
                return self._ca.crl().hex()
            case _:
                raise LookupError(name)


def serve(setting: str, url: str, identity: Identity, sock: socket.socket) -> None:
    failpoints.arm(setting)
    with open_ca(url, identity) as ca:
        http_server.serve(App(ca), sock)


def main() -> None:
    url, certificate, key, fd = sys.argv[1:]
    with open(certificate, "rb") as first, open(key, "rb") as second:
        identity = Identity.from_pem(first.read(), second.read())
    sock = socket.socket(fileno=int(fd))
    sock.setblocking(False)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            sys.stdin.close()
            try:
                serve(line.strip(), url, identity, sock)
            finally:
                sys.stderr.flush()
                os._exit(1 if sys.exc_info()[0] else 0)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
