"""The three real clients behind one small interface, so that one test fills a row's cell.

A client keeps its key, its certificate and what it knows of the CA in a directory of its
own and talks to one URL.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from . import peers
from .certmonger import Certmonger
from .peers import Material, Result


class PeerClient(Protocol):
    """What every client can do; what it can't do is listed in the matrix with the reason."""

    @property
    def key(self) -> rsa.RSAPrivateKey:
        """The key of the last certificate or attempt."""

    def enroll(self, challenge: str, *, patience: int = 20) -> Result:
        """Ask for a certificate, with the same key if there was an attempt before.

        Args:
            patience: seconds to wait for a pending request.
        """

    def renew(self) -> Result:
        """Replace the certificate, same key, authorized by the old certificate."""

    def rekey(self) -> Result:
        """Replace the certificate and the key, authorized by the old certificate."""


@dataclass(slots=True, kw_only=True)
class StrongSwan:
    """``pki --scep``: always POST; CertPoll for pending; RenewalReq for renewals."""

    programs: ClassVar[tuple[str, ...]] = ("pki",)
    url: str
    home: Path
    ca: x509.Certificate
    cipher: str = "aes"
    digest: str = "sha256"
    subject: str = "O=Lab, CN=strongswan.example"
    _key: Path | None = None
    _certificate: Path | None = None

    @property
    def key(self) -> rsa.RSAPrivateKey:
        assert self._key is not None
        return peers.read_key(self._key)

    def enroll(self, challenge: str, *, patience: int = 20) -> Result:
        if self._key is None:
            self._key = self._new_key()
        return self._run(self._key, challenge=challenge, wait=patience)

    def renew(self) -> Result:
        assert self._key is not None
        assert self._certificate is not None
        return self._run(self._key, old=(self._certificate, self._key))

    def rekey(self) -> Result:
        assert self._key is not None
        assert self._certificate is not None
        old, self._key = self._key, self._new_key()
        return self._run(self._key, old=(self._certificate, old))

    def _new_key(self) -> Path:
        path = self.home / f"key-{time.monotonic_ns()}.pem"
        peers.new_key(path)
        return path

    def _run(
        self,
        key: Path,
        *,
        challenge: str | None = None,
        old: tuple[Path, Path] | None = None,
        wait: int = 20,
    ) -> Result:
        result = peers.strongswan_enroll(
            self.url,
            self.home,
            key=key,
            subject=self.subject,
            material=self._fetch(),
            challenge=challenge,
            old=old,
            cipher=self.cipher,
            digest=self.digest,
            wait=wait,
        )
        if result.certificate is not None:
            self._certificate = peers.write_certificates(
                self.home / f"cert-{time.monotonic_ns()}.pem", result.certificate
            )
        return result

    def _fetch(self) -> Material:
        """Take CA and RA certificates from ``pki --scepca`` itself, as an operator would."""
        for stale in [*self.home.glob("ca*.pem"), *self.home.glob("ra*.pem")]:
            stale.unlink()
        result, cas, ras = peers.strongswan_get_ca(self.url, self.home)
        assert cas, result.output
        assert peers.read_certificate(cas[0]) == self.ca, "GetCACert gave another CA"
        if not ras:
            return Material(ca=cas[0], recipient=cas[0], signer=cas[0])
        return Material(
            ca=cas[0],
            recipient=_with_usage(ras, lambda usage: usage.key_encipherment),
            signer=_with_usage(ras, lambda usage: usage.digital_signature),
        )


def _with_usage(paths: list[Path], wanted: Callable[[x509.KeyUsage], bool]) -> Path:
    for path in paths:
        certificate = peers.read_certificate(path)
        assert certificate is not None
        if wanted(certificate.extensions.get_extension_for_class(x509.KeyUsage).value):
            return path
    raise AssertionError(f"no RA certificate of that usage among {len(paths)}")


@dataclass(slots=True, kw_only=True)
class ScepClient:
    """micromdm's client: single DES and SHA-1 always; GET where POST is not announced."""

    programs: ClassVar[tuple[str, ...]] = ("scepclient",)
    url: str
    home: Path
    name: str = "scepclient.example"
    fingerprint: str | None = None

    @property
    def key(self) -> rsa.RSAPrivateKey:
        return peers.read_key(self.home / "k.pem")

    def enroll(self, challenge: str, *, patience: int = 20) -> Result:
        return self._run(challenge, timeout=20.0 + patience)

    def renew(self) -> Result:
        return self._run(None, timeout=20.0)

    def rekey(self) -> Result:
        raise NotImplementedError("one -private-key both signs and is certified")

    def _run(self, challenge: str | None, *, timeout: float) -> Result:
        return peers.scepclient_enroll(
            self.url,
            self.home,
            common_name=self.name,
            challenge=challenge,
            fingerprint=self.fingerprint,
            timeout=timeout,
        )


@dataclass(slots=True, kw_only=True)
class CertmongerClient:
    """A request inside the private certmonger daemon: always GET, polls with PKCSReq."""

    programs: ClassVar[tuple[str, ...]] = ("certmonger", "getcert")
    url: str
    home: Path
    daemon: Certmonger
    material: Material
    nickname: str
    subject: str = "CN=certmonger.example,O=Lab"
    _added: bool = False

    @property
    def key(self) -> rsa.RSAPrivateKey:
        return peers.read_key(self.home / "k.pem")

    @property
    def _file(self) -> Path:
        return self.home / "c.pem"

    def enroll(self, challenge: str, *, patience: int = 20) -> Result:
        if not self._added:
            self.daemon.add_ca(self.nickname, self.url, self.material)
            self._added = True
            # certmonger sometimes starts to make a key twice for one request (seen in 2 of 40
            # with 0.79.17): it then asks with the second and keeps it in another file until the
            # certificate is there, so that k.pem is not the key of the request.
            peers.new_key(self.home / "k.pem")
            first = self.daemon.getcert(
                "request", "-c", self.nickname, "-k", self.home / "k.pem", "-f", self._file,
                "-N", self.subject, "-L", challenge,
            )  # fmt: skip
        else:
            first = self.daemon.getcert("resubmit", "-f", self._file, "-L", challenge)
        assert first.code == 0, first.output
        return self._wait(None, patience)

    def renew(self) -> Result:
        return self._replace("resubmit")

    def rekey(self) -> Result:
        return self._replace("rekey")

    def _replace(self, command: str) -> Result:
        before = peers.read_certificate(self._file)
        started = self.daemon.getcert(command, "-f", self._file, "-L", "used-up")
        assert started.code == 0, started.output
        return self._wait(before, 20)

    def _wait(self, before: x509.Certificate | None, patience: int) -> Result:
        """Wait for a final state; ask it to poll at once instead of in some hours."""
        final = ("MONITORING", "CA_REJECTED", "CA_UNREACHABLE", "NEED_GUIDANCE")
        end = time.monotonic() + patience
        while True:
            status = self.daemon.status(self._file)
            after = peers.read_certificate(self._file)
            if status == "MONITORING" and after is not None and after != before:
                break
            if status in final[1:] or time.monotonic() > end:
                break
            if status == "CA_WORKING":
                self.daemon.getcert("refresh", "-f", self._file)
            time.sleep(0.2)
        listed = self.daemon.getcert("list", "-f", self._file).output
        issued = status == "MONITORING" and after != before
        return Result(code=0 if issued else 1, output=listed, certificate=after if issued else None)
