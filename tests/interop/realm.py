"""A CA of ours behind a real HTTP port, as the peers see it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

import pyscep
from pyscep import PkiRequest, Server
from pyscep.adapters import asgi, wsgi
from pyscep.ca import CertificateAuthority, Profile
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.messages import Outcome

from . import peers
from .wire import Front, serve

CHALLENGE = "right-horse"


def check_issued(
    home: Path, ca: x509.Certificate, certificate: x509.Certificate, key: rsa.RSAPrivateKey
) -> None:
    """The certificate is for that key, and OpenSSL accepts its chain."""
    assert certificate.public_key() == key.public_key(), "the certificate is for another key"
    leaf = peers.write_certificates(home / "issued.pem", certificate)
    issuer = peers.write_certificates(home / "issuer.pem", ca)
    peers.openssl("verify", "-CAfile", issuer, "-purpose", "sslclient", leaf)


@dataclass(slots=True, kw_only=True)
class Realm:
    """One CA, one endpoint; what it was asked and answered."""

    home: Path
    authority: CertificateAuthority
    server: Server
    front: Front = field(init=False)
    asked: list[tuple[PkiRequest, Outcome]] = field(default_factory=list)

    def __call__(self, request: PkiRequest) -> Outcome:
        outcome = self.authority(request)
        self.asked.append((request, outcome))
        return outcome

    @property
    def ca(self) -> x509.Certificate:
        return self.authority.issuer.certificate

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate to encrypt to, in bare hex."""
        return self.server.encryption.raw.sha256.hex()

    @property
    def material(self) -> peers.Material:
        """The CA's certificates as files, for clients that are configured with them."""
        recipient = self.server.encryption
        return peers.Material(
            ca=peers.write_certificates(self.home / "ca-known.pem", self.ca),
            recipient=peers.write_certificates(self.home / "recipient.pem", recipient.certificate),
            signer=peers.write_certificates(
                self.home / "signer.pem", self.server.identity.certificate
            ),
        )

    def approve(self, timeout: float = 20.0) -> None:
        """Wait for the one pending attempt, then approve it."""
        end = time.monotonic() + timeout
        while not (waiting := self.authority.pending()):
            assert time.monotonic() < end, "nothing became pending"
            time.sleep(0.05)
        (attempt,) = waiting
        self.authority.approve(attempt.id)

    def check(self, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
        """An independent look: the client's key, and a chain that OpenSSL accepts."""
        check_issued(self.home, self.ca, certificate, key)


@contextmanager
def realm(
    home: Path,
    *,
    topology: str,
    policy: str,
    approval: Literal["automatic", "manual"] = "automatic",
    hide: tuple[str, ...] = (),
) -> Iterator[Realm]:
    """Open a new CA and serve it with the WSGI adapter on 127.0.0.1.

    Args:
        topology: "ca", "ra" (one RA certificate) or "ra-split" (one to sign, one to encrypt).
        policy: "modern", "compatible" or "legacy".
        approval: "automatic" or "manual".
        hide: capabilities that are not announced to the clients.
    """
    with ExitStack() as stack:
        authority = stack.enter_context(
            CertificateAuthority.create(
                home / "ca",
                key_type="rsa-2048",
                topology=topology,
                profiles=Profile(approval=approval),
                static_challenge=CHALLENGE,
            )
        )
        server = authority.server(policy=AlgorithmPolicy.named(policy))
        world = Realm(home=home, authority=authority, server=server)
        app: Any = wsgi.ScepApp(server, world)
        world.front = stack.enter_context(serve(Front(app, hide=hide)))
        yield world


@contextmanager
def serve_asgi(world: Realm, path: str = "/scep") -> Iterator[str]:
    """The same CA under uvicorn, with nothing between it and the client; gives the URL."""
    app: Any = asgi.ScepApp(world.server, world)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        runner = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", log_level="error", access_log=False)
        )
        thread = threading.Thread(
            target=lambda: asyncio.run(runner.serve(sockets=[listener])), daemon=True
        )
        thread.start()
        try:
            peers.wait_until(lambda: runner.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        finally:
            runner.should_exit = True
            thread.join(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What ``pyscep serve`` said when it was ready, and the certificates it made."""

    home: Path
    url: str
    challenge: str
    ca: x509.Certificate
    material: peers.Material

    def check(self, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
        check_issued(self.home, self.ca, certificate, key)


@contextmanager
def serve_command(home: Path, *, topology: str, policy: str) -> Iterator[Served]:
    """Run ``pyscep serve`` as a process, with a CA that it makes."""
    directory = home / "served"
    words = ["serve", "--port", "0", "--json", "--directory", str(directory)]
    words += ["--topology", topology, "--policy", policy]
    root = Path(pyscep.__file__).parent.parent
    with (
        open(home / "serve.log", "wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "pyscep", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            env=peers.environment(PYTHONPATH=str(root)),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            ca = peers.read_certificate(directory / "ca.pem")
            assert ca is not None
            agent = directory / ("ra.pem" if topology == "ra" else "ca.pem")
            yield Served(
                home=home,
                url=ready["url"],
                challenge=ready["challenge"],
                ca=ca,
                material=peers.Material(ca=directory / "ca.pem", recipient=agent, signer=agent),
            )
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
