"""Kill a server with SIGKILL at every failpoint while clients use it; then look for losses.

    python -m tests.crash_lab --kills 1000                   # SQLite, in a temporary directory
    python -m tests.crash_lab --kills 1000 --database URL    # PostgreSQL: an empty database

Clients repeat each request until it is acknowledged, as devices do. At the end, the database
is asked directly and every request is made once more. SIGTERM brings the end forward: what was
done until then is looked at and counted.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

import pyscep
from pyscep.ca import creation, failpoints
from tests import forge_keys as keys

CLIENTS = 2
ANYWHERE = "any time"
PATIENCE = 60.0
"""Seconds until a failpoint that nobody reaches, or a request that nobody answers, is a fault."""

OPERATIONS = {
    "refusal": "refuse",
    "approve": "approve",
    "deny": "deny",
    "revoke": "revoke",
    "crl": "revoke",
    "sign_crl": "revoke",
}
"""Which operation comes by the failpoints of a name; all others are on every way."""


_FAILURES = (pyscep.TransportError, OSError, http.client.HTTPException, ValueError)
"""What a client sees when its server dies."""


class Loss(AssertionError):
    """What must never happen has happened."""


@dataclass(frozen=True)
class Asked:
    """One request that got a certificate, to be asked again."""

    number: int
    word: str
    key: int
    certificate: bytes


@dataclass
class Ledger:
    """What clients were promised."""

    enrolled: list[Asked] = field(default_factory=list)
    abandoned: list[Asked] = field(default_factory=list)
    """Asked once, whatever came of it: nobody repeats the request before the end."""
    renewed: list[tuple[Asked, int, bytes]] = field(default_factory=list)
    revoked: list[int] = field(default_factory=list)
    denied: int = 0
    refused: int = 0
    retries: int = 0


class Server:
    """The process that forks servers, and one server at a time."""

    def __init__(self, url: str, directory: Path) -> None:
        key = keys.rsa_key("ca to be killed")
        certificate = creation.make_ca(
            key,
            common_name="Mortal CA",
            organization=None,
            validity=timedelta(days=3650),
            now=datetime.now(UTC),
            serial_number=1,
            decrypts=True,
        )
        files = (directory / "ca.pem", directory / "ca.key")
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.certificate = certificate
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self._log = (directory / "server.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_server", url, *map(str, files),
             str(self._socket.fileno())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, bufsize=1,
            pass_fds=[self._socket.fileno()],
            env={name: value for name, value in os.environ.items()
                 if name not in (failpoints.VARIABLE, "COVERAGE_PROCESS_START",
                                 "COVERAGE_PROCESS_CONFIG")},
        )
        self.child = 0

    def start(self, setting: str = "") -> int:
        """Start a server that dies at a failpoint."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(setting + "\n")
        self.child = int(self._process.stdout.readline())
        return self.child

    def wait(self) -> int:
        """The exit code of the server, when it has ended."""
        assert self._process.stdout
        return int(self._process.stdout.readline() or "-1")

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        self._socket.close()
        self._log.close()


class Client:
    """Does what devices and operators do, again and again until it is acknowledged."""

    def __init__(self, lab: Lab, number: int) -> None:
        self._lab = lab
        self._random = random.Random(number)
        self._send = pyscep.urllib_sender(timeout=PATIENCE)
        self._client = pyscep.Client(
            f"http://127.0.0.1:{lab.server.port}/scep",
            ca_certificates=(lab.server.certificate,),
        )
        self._renewals = number

    def run(self) -> None:
        operations: dict[str, Callable[[], Any]] = {
            "enroll": self.enroll, "refuse": self.refuse, "approve": self.approve,
            "deny": self.deny, "renew": self.renew, "revoke": self.revoke,
            "abandon": self.abandon,
        }
        try:
            while not self._lab.stop.is_set():
                wanted = self._lab.wanted
                if wanted not in operations or self._random.random() < 0.3:
                    wanted = self._random.choice(list(operations))
                elif wanted == "enroll":
                    wanted = self._random.choice(("enroll", "abandon"))
                operations[wanted]()
        except BaseException as error:
            self._lab.faults.append(error)
            self._lab.stop.set()

    def enroll(self) -> Asked:
        word, number, key = self._start("automatic")
        outcome = self._until(lambda: self._ask(word, number, key))
        if not isinstance(outcome, pyscep.Success):
            raise Loss(f"request {number} got {outcome!r}")
        return self._keep(word, number, key, outcome)

    def abandon(self) -> None:
        word, number, key = self._start("automatic")
        try:
            self._ask(word, number, key)
        except _FAILURES:
            self._lab.ledger.abandoned.append(Asked(number, word, key, b""))

    def refuse(self) -> None:
        _, number, key = self._start("automatic")
        try:
            self._until(lambda: self._ask("a-wrong-word", number, key))
        except pyscep.EnrollmentRefused:
            self._lab.ledger.refused += 1
        else:
            raise Loss("a wrong challenge was accepted")

    def approve(self) -> None:
        word, number, key = self._start("manual")
        pending = self._wait(word, number, key)
        self._decide("approve", number)
        outcome = self._until(lambda: self._poll(pending, key))
        if not isinstance(outcome, pyscep.Success):
            raise Loss(f"an approved request got {outcome!r}")
        self._keep(word, number, key, outcome)

    def deny(self) -> None:
        word, number, key = self._start("manual")
        pending = self._wait(word, number, key)
        self._decide("deny", number)
        try:
            self._until(lambda: self._poll(pending, key))
        except pyscep.EnrollmentRefused:
            self._lab.ledger.denied += 1
        else:
            raise Loss("a denied request got something else than FAILURE")

    def renew(self) -> None:
        asked = self.enroll()
        new_key = (asked.key + 1) % len(self._lab.keys)
        outcome = self._until(lambda: self.renew_once(asked, new_key))
        (certificate,) = outcome.certificates
        self._lab.ledger.renewed.append((asked, new_key, _der(certificate)))

    def revoke(self) -> None:
        asked = self.enroll()
        serial = x509.load_der_x509_certificate(asked.certificate).serial_number
        self._lab.ledger.enrolled.remove(asked)
        self._until(lambda: self._admin("revoke", serial=f"{serial:x}"))
        self._lab.ledger.revoked.append(serial)

    def renew_once(self, asked: Asked, new_key: int) -> Any:
        old = pyscep.Identity(
            x509.load_der_x509_certificate(asked.certificate), self._lab.keys[asked.key])
        key = self._lab.keys[new_key]
        csr = pyscep.pkcs10.create(key, f"CN=device-{asked.number}")
        return pyscep.run(self._client.renew(old, key, csr), self._send)

    def ask_again(self, asked: Asked) -> bytes:
        outcome = self._until(lambda: self._ask(asked.word, asked.number, asked.key))
        if not isinstance(outcome, pyscep.Success):
            raise Loss(f"request {asked.number}, asked again, got {outcome!r}")
        return _der(outcome.certificates[0])

    def crl(self) -> x509.CertificateRevocationList:
        found = self._until(lambda: self._admin("crl"))
        return x509.load_der_x509_crl(bytes.fromhex(found))

    def _start(self, profile: str) -> tuple[str, int, int]:
        word = self._until(lambda: self._admin("challenge", profile=profile))
        number = next(self._lab.numbers)
        return word, number, number % len(self._lab.keys)

    def _ask(self, word: str, number: int, key: int) -> Any:
        private = self._lab.keys[key]
        csr = pyscep.pkcs10.create(private, f"CN=device-{number}", challenge_password=word)
        flow = self._client.enroll(private, csr, transaction_id=f"t{number}")
        return pyscep.run(flow, self._send)

    def _wait(self, word: str, number: int, key: int) -> pyscep.PendingEnrollment:
        outcome = self._until(lambda: self._ask(word, number, key))
        if not isinstance(outcome, pyscep.PendingEnrollment):
            raise Loss(f"request {number} for approval got {outcome!r}")
        return outcome

    def _poll(self, pending: pyscep.PendingEnrollment, key: int) -> Any:
        return pyscep.run(self._client.poll(pending, self._lab.keys[key]), self._send)

    def _decide(self, verb: str, number: int) -> None:
        def decide() -> None:
            waiting = self._admin("pending")
            # Nothing waits: an earlier try was committed, and its answer was lost.
            if f"t{number}" in waiting:
                self._admin(verb, id=waiting[f"t{number}"])

        self._until(decide)

    def _keep(self, word: str, number: int, key: int, outcome: pyscep.Success) -> Asked:
        (certificate,) = outcome.certificates
        asked = Asked(number, word, key, _der(certificate))
        self._lab.ledger.enrolled.append(asked)
        return asked

    def _admin(self, name: str, **arguments: Any) -> Any:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self._lab.server.port, timeout=PATIENCE)
        with closing(connection):
            connection.request("POST", f"/admin/{name}?{urlencode(arguments)}")
            response = connection.getresponse()
            body = response.read()
        if response.status == 404:
            raise Loss(f"{name}: {body!r}")
        if response.status != 200:
            raise pyscep.TransportError(f"{name}: HTTP {response.status}")
        return json.loads(body)

    def _until(self, action: Callable[[], Any]) -> Any:
        """Repeat until it is acknowledged."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                return action()
            except _FAILURES as error:
                last = error
                self._lab.ledger.retries += 1
                time.sleep(0.005)
        raise Loss(f"nobody answers: {last!r}")


class Lab:
    """A server to kill, clients, and what both say."""

    def __init__(
        self,
        url: str,
        directory: Path,
        seed: int = 1,
        progress: Callable[[str], None] = lambda text: None,
        clients: int = CLIENTS,
    ) -> None:
        self.url = url
        self.progress = progress
        self.clients = clients
        self.keys = [keys.rsa_key(f"device {number}") for number in range(6)]
        self.ledger = Ledger()
        self.numbers = itertools.count(1)
        self.stop = threading.Event()
        self.enough = threading.Event()
        """No more kills; what clients have begun is finished."""
        self.faults: list[BaseException] = []
        self.wanted = ""
        self.kills: Counter[str] = Counter()
        self.server = Server(url, directory)
        self._random = random.Random(seed)

    def kill(self, times: int, points: Sequence[str] = failpoints.POINTS) -> None:
        """Kill so many servers, in turn at each of these failpoints, while clients work.

        For five of them, one more is killed at any time.
        """
        clients = [Client(self, number) for number in range(self.clients)]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        try:
            for number in range(times):
                if self.enough.is_set():
                    break
                if number % 6 == 5:
                    self._kill_anywhere()
                self._kill_at(points[number % len(points)])
                if number % 50 == 49:
                    self.progress(f"{self.kills.total()} kills")
        finally:
            self.stop.set()
            self.wanted = ""
            self.server.start()  # for what the clients still wait for, and for the questions
            for thread in threads:
                thread.join(PATIENCE)
        if self.faults:
            raise self.faults[0]

    def _kill_at(self, point: str) -> None:
        self.wanted = OPERATIONS.get(point.partition(".")[0], "enroll")
        child = self.server.start(f"{point}:{self._random.randint(1, 3)}")
        timer = threading.Timer(PATIENCE, os.kill, (child, signal.SIGTERM))
        timer.start()
        try:
            code = self.server.wait()
        finally:
            timer.cancel()
        if self.faults:
            raise self.faults[0]
        if code != -signal.SIGKILL:
            raise Loss(f"the server was to die at {point}, and ended with {code}")
        self.kills[point] += 1

    def _kill_anywhere(self) -> None:
        """... and not only at places that somebody thought of."""
        self.wanted = ""
        child = self.server.start()
        time.sleep(self._random.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        self.server.wait()
        if self.faults:
            raise self.faults[0]
        self.kills[ANYWHERE] += 1

    def verify(self) -> None:
        """Look for losses: in the database itself, then by asking again."""
        self.verify_rows()
        client = Client(self, 0)
        for asked in self.ledger.enrolled:
            if client.ask_again(asked) != asked.certificate:
                raise Loss(f"request {asked.number}, asked again, got another certificate")
        for asked, new_key, certificate in self.ledger.renewed:
            if _der(client.renew_once(asked, new_key).certificates[0]) != certificate:
                raise Loss(f"renewal of {asked.number}, asked again, got another certificate")
        for asked in self.ledger.abandoned:
            client.ask_again(asked)  # its challenge is still good, or has its certificate
        crl = client.crl()
        for serial in self.ledger.revoked:
            if crl.get_revoked_certificate_by_serial_number(serial) is None:
                raise Loss(f"{serial:x} was revoked, and is not in the CRL")
        self.verify_rows()

    def verify_rows(self) -> None:
        """What the tables say, asked with the database's own driver."""
        rows = {
            f"{int(serial, 16):x}": (bytes(der) if der else None, state)
            for serial, der, state in self.sql(
                "SELECT serial, certificate, state FROM certificates")
        }
        promised = [asked.certificate for asked in self.ledger.enrolled]
        promised += [certificate for _, _, certificate in self.ledger.renewed]
        serials: dict[int, bytes] = {}
        for der in promised:
            serial = x509.load_der_x509_certificate(der).serial_number
            if serials.setdefault(serial, der) != der:
                raise Loss(f"two certificates have the serial number {serial:x}")
            if rows.get(f"{serial:x}") != (der, "issued"):
                raise Loss(f"certificate {serial:x} was handed out and is not in the store")
        self._none("certificates that were never signed",
                   "SELECT serial FROM certificates WHERE certificate IS NULL")
        self._none("a serial number twice",
                   "SELECT serial FROM certificates GROUP BY issuer_id, serial HAVING COUNT(*) > 1")
        self._none("two certificates for one challenge",
                   "SELECT credential FROM certificates WHERE credential LIKE 'once:%' "
                   "GROUP BY credential HAVING COUNT(*) > 1")
        self._none("two certificates for one request",
                   "SELECT credential FROM certificates GROUP BY credential, csr_key "
                   "HAVING COUNT(*) > 1")
        self._none("a challenge spent for nothing",
                   "SELECT id FROM challenges WHERE spent_at IS NOT NULL AND NOT EXISTS "
                   "(SELECT 1 FROM attempts WHERE credential = 'once:' || challenges.id "
                   "AND issue_key = challenges.reserved_by AND state <> 'refused')")
        self._none("a certificate without its attempt",
                   "SELECT serial FROM certificates WHERE id NOT IN "
                   "(SELECT certificate_id FROM attempts WHERE certificate_id IS NOT NULL)")
        self._none("a certificate without its entry in the audit table",
                   "SELECT serial FROM certificates WHERE serial NOT IN "
                   "(SELECT serial FROM audit WHERE serial IS NOT NULL "
                   "AND decision IN ('granted', 'approved'))")
        self._none("two entries in the audit table for one certificate",
                   "SELECT serial FROM audit WHERE decision IN ('granted', 'approved') "
                   "GROUP BY serial HAVING COUNT(*) > 1")
        if self.url.startswith("sqlite") and self.sql("PRAGMA integrity_check") != [("ok",)]:
            raise Loss("the database is damaged")

    def _none(self, what: str, query: str) -> None:
        if found := self.sql(query):
            raise Loss(f"{what}: {found[:5]}")

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        if self.url.startswith("sqlite:///"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as connection:
                return connection.execute(query).fetchall()
        import psycopg

        with psycopg.connect(self.url) as found:
            return found.execute(query).fetchall()

    def report(self) -> str:
        ledger = self.ledger
        return (
            f"{self.kills.total()} kills, {self.kills[ANYWHERE]} at any time and the others at "
            f"{len(set(self.kills) - {ANYWHERE})} of {len(failpoints.POINTS)} failpoints; "
            f"{len(ledger.enrolled)} certificates enrolled, {len(ledger.renewed)} renewed, "
            f"{len(ledger.revoked)} revoked, {len(ledger.abandoned)} asked for and left; "
            f"{ledger.refused} refused, {ledger.denied} denied; "
            f"{ledger.retries} tries were repeated; nothing lost"
        )

    def close(self) -> None:
        self.stop.set()
        if self.server.child:
            try:
                os.kill(self.server.child, signal.SIGTERM)
            except ProcessLookupError:
                pass
        self.server.close()


@contextmanager
def lab(
    url: str,
    directory: Path,
    progress: Callable[[str], None] = lambda text: None,
    clients: int = CLIENTS,
) -> Iterator[Lab]:
    one = Lab(url, directory, progress=progress, clients=clients)
    try:
        yield one
    finally:
        one.close()


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--database", help="URL; default: SQLite in a temporary directory")
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"at a time ({CLIENTS})")
    arguments = parser.parse_args()

    def show(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        url = arguments.database or f"sqlite:///{directory / 'scep.db'}"
        started = time.monotonic()
        with lab(url, directory, show, arguments.clients) as one:
            signal.signal(signal.SIGTERM, lambda number, frame: one.enough.set())
            one.kill(arguments.kills)
            one.verify()
            print(f"{one.report()}; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
