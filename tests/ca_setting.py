"""A CertificateAuthority behind its Server, with a clock to turn, and clients to talk to it."""

from __future__ import annotations

import sqlite3
import subprocess
import weakref
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

import pyscep
from pyscep.ca import CertificateAuthority, creation
from pyscep.cms.algorithms import Algorithms
from pyscep.http import HttpRequest, HttpResponse
from pyscep.identity import RawCertificate
from pyscep.server import PkiRequest
from pyscep.transaction import Transaction
from tests import forge_keys as keys

_MEMBERS = {"badRequest": "BAD_REQUEST", "badCertId": "BAD_CERT_ID"}
START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Clock:
    """Stands still until it is told to move."""

    def __init__(self, start: datetime = START) -> None:
        self.time = start

    def __call__(self) -> datetime:
        return self.time

    def pass_by(self, **span: float) -> None:
        self.time += timedelta(**span)


@cache
def ca_identity(key_name: str = "ca under test") -> pyscep.Identity:
    """A root that also talks to clients, valid around START."""
    key = keys.rsa_key(key_name)
    certificate = creation.make_ca(
        key,
        common_name="Test CA",
        organization="Lab",
        validity=timedelta(days=3650),
        now=START - timedelta(days=10),
        serial_number=4711,
        decrypts=True,
    )
    return pyscep.Identity(certificate, key)


class Setting:
    """One CA on a database of its own, and what clients do with it.

    Args:
        path: of the directory for the database.
        settings: of CertificateAuthority.
    """

    new_database: ClassVar[Callable[[], str] | None] = None
    """Makes an empty PostgreSQL database and tells its URL; None: SQLite."""

    def __init__(self, path: Path, *, clock: Clock | None = None, **settings: Any) -> None:
        self.database = path / "scep.db"
        make = type(self).new_database
        self.url = make() if make else f"sqlite:///{self.database}"
        self.clock = clock or Clock()
        self.settings = {"issuer": ca_identity(), "now": self.clock} | settings
        self.ca = self.reopen()
        self.events: list[Any] = []
        self.policy = pyscep.MODERN
        self.last: HttpResponse | None = None

    def reopen(self, **settings: Any) -> CertificateAuthority:
        """The CA once more on the same database, as another process would have it."""
        ca = CertificateAuthority.open(self.url, **(self.settings | settings))
        # Many tests leave that to the collector; Python 3.13 warns of connections left open.
        weakref.finalize(ca, ca.store.close)
        return ca

    def send(self, request: HttpRequest, ca: Any = None) -> HttpResponse:
        """A sender for pyscep.run."""
        server = self.ca.server(policy=self.policy, on_event=self.events.append)
        self.last = server.handle(request, ca or self.ca)
        return self.last

    @property
    def client(self) -> pyscep.Client:
        return pyscep.Client(
            "http://ca.test/scep", ca_fingerprint=self.ca.fingerprint, now=self.clock)

    def request(
        self,
        challenge: str | None,
        *,
        key: Any = None,
        subject: str = "CN=device,O=Lab",
        **more: Any,
    ) -> pyscep.CertificateRequest:
        return pyscep.pkcs10.create(
            key or keys.rsa_key("client"), subject, challenge_password=challenge, **more
        )

    def enroll(
        self,
        challenge: str | None,
        *,
        key: Any = None,
        ca: Any = None,
        transaction_id: str | None = None,
        signer: pyscep.Identity | None = None,
        **more: Any,
    ) -> Any:
        """Enroll; Success or PendingEnrollment."""
        key = key or keys.rsa_key("client")
        flow = self.client.enroll(
            key,
            self.request(challenge, key=key, **more),
            signer=signer,
            transaction_id=transaction_id,
        )
        return pyscep.run(flow, lambda request: self.send(request, ca))

    def certificate(self, challenge: str | None, **more: Any) -> x509.Certificate:
        """Enroll; the certificate."""
        outcome = self.enroll(challenge, **more)
        assert isinstance(outcome, pyscep.Success), self.reason
        (certificate,) = outcome.certificates
        return certificate

    def identity(self, challenge: str | None, *, key: Any = None, **more: Any) -> pyscep.Identity:
        """Enroll; the certificate with its key."""
        key = key or keys.rsa_key("client")
        return pyscep.Identity(self.certificate(challenge, key=key, **more), key)

    def renew(
        self,
        identity: pyscep.Identity,
        *,
        key: Any = None,
        challenge: str | None = None,
        message_type: Any = "renewal",
        transaction_id: str | None = None,
        **more: Any,
    ) -> Any:
        key = key or keys.rsa_key("renewed")
        flow = self.client.renew(
            identity,
            key,
            self.request(challenge, key=key, **more),
            message_type=message_type,
            transaction_id=transaction_id,
        )
        return pyscep.run(flow, self.send)

    def poll(self, pending: pyscep.PendingEnrollment, key: Any = None) -> Any:
        return pyscep.run(self.client.poll(pending, key or keys.rsa_key("client")), self.send)

    def refuses(self, flow_or_call: Any, reason: str, fail_info: str = "badRequest") -> None:
        """The call ends in FAILURE with that code, and the log has that reason."""
        with pytest.raises(pyscep.EnrollmentRefused) as caught:
            flow_or_call()
        assert caught.value.fail_info == pyscep.FailInfo[_MEMBERS[fail_info]]
        assert caught.value.text is None, "no text goes out"
        assert reason in (self.reason or ""), self.reason

    @property
    def reason(self) -> str | None:
        """Of the last refusal."""
        outcome = getattr(self.events[-1], "outcome", None)
        return getattr(outcome, "reason", None)

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database itself."""
        if not self.url.startswith("sqlite"):
            import psycopg

            with psycopg.connect(self.url) as asked:
                cursor = asked.execute(query.replace("?", "%s"), values)
                return cursor.fetchall() if cursor.description else []
        connection = sqlite3.connect(self.database)
        try:
            with connection:
                return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    @property
    def serials(self) -> list[str]:
        return [row[0] for row in self.sql("SELECT serial FROM certificates ORDER BY id")]


def ask(message: Any, transaction_id: str = "1") -> PkiRequest:
    """A request as the server hands it over, signed with the key "client"."""
    return PkiRequest(
        message=message,
        signer=RawCertificate(keys.client("client").der),
        signer_holds_key=True,
        algorithms=Algorithms(digest="sha256"),
        transaction=Transaction(transaction_id=transaction_id),
        recipient=ca_identity(),
    )


def openssl(*arguments: str | Path, data: bytes | None = None) -> str:
    """What the openssl command says; raises if it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return done.stdout.decode()


def write_pem(path: Path, certificates: Iterable[x509.Certificate]) -> Path:
    path.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
    return path
