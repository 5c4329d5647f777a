"""The real peers, as functions: each runs one program and gives back what it left behind.

Command lines that work with the versions in Debian 12: micromdm's scepserver and scepclient
2.1.0, strongSwan's pki 5.9.8, certmonger 0.79.17, OpenSSL 3.0.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from .wire import Front, forwarder, serve

PACKAGES = {
    "scepserver": "scep",
    "scepclient": "scep",
    "pki": "strongswan-pki",
    "libstrongswan-curl.so": "libstrongswan-extra-plugins",
    "certmonger": "certmonger",
    "getcert": "certmonger",
    "openssl": "openssl",
    "nginx": "nginx",
    "apache2": "apache2-bin",
    "haproxy": "haproxy",
    "caddy": "caddy",
    "curl": "curl",
}


PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


STRONGSWAN_PLUGINS = Path("/usr/lib/ipsec/plugins")


def missing(*programs: str) -> list[str]:
    """Those that are not installed; strongSwan's pki can't fetch without its curl plugin."""
    absent = [name for name in programs if shutil.which(name, path=PATH) is None]
    curl = STRONGSWAN_PLUGINS / "libstrongswan-curl.so"
    if "pki" in programs and STRONGSWAN_PLUGINS.is_dir() and not curl.exists():
        absent.append(curl.name)
    return absent


def require(*programs: str) -> None:
    """Skip the test that needs a missing program; fail it under PYSCEP_REQUIRE_PEERS=1."""
    absent = missing(*programs)
    if not absent:
        return
    packages = ", ".join(sorted({PACKAGES[name] for name in absent}))
    message = f"{', '.join(absent)} not found: install the Debian package {packages}"
    if os.environ.get("PYSCEP_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


def environment(**extra: str) -> dict[str, str]:
    """What a peer sees: no proxy, no locale, no other setting of the developer's shell."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/nonexistent", **extra}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a peer's run ended."""

    code: int
    output: str
    """stdout and stderr."""
    certificate: x509.Certificate | None = None

    @property
    def issued(self) -> x509.Certificate:
        """The certificate, or a failure that shows what the peer said."""
        assert self.certificate is not None, f"no certificate, code {self.code}:\n{self.output}"
        return self.certificate


def run(
    *argv: str | Path,
    cwd: Path | None = None,
    timeout: float = 60.0,
    stdout: Path | None = None,
    env: dict[str, str] | None = None,
) -> Result:
    """Run to the end.

    Args:
        timeout: seconds; after them the program is killed and the code is -9.
        stdout: a file for standard output, which is then not part of ``output``.
    """
    with open(stdout or os.devnull, "wb") as sink:
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink if stdout else subprocess.PIPE,
            stderr=subprocess.PIPE if stdout else subprocess.STDOUT,
            env=env or environment(),
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
    text = ((out or b"") + (err or b"")).decode("utf-8", "replace")
    return Result(code=process.returncode, output=text)


def openssl(*argv: str | Path, cwd: Path | None = None) -> Result:
    """Run openssl, which has to succeed."""
    result = run("openssl", *argv, cwd=cwd)
    assert result.code == 0, f"openssl {argv}: {result.output}"
    return result


# Keys and certificates on disk


def new_key(path: Path, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A fresh RSA key, written the way all three clients read: PKCS #1 in PEM."""
    key = rsa.generate_private_key(65537, bits)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    path.chmod(0o600)
    return key


def read_key(path: Path) -> rsa.RSAPrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def read_certificate(path: Path) -> x509.Certificate | None:
    """The first certificate in a file, or None if there is none."""
    if not path.exists() or b"BEGIN CERTIFICATE" not in path.read_bytes():
        return None
    return x509.load_pem_x509_certificate(path.read_bytes())


def write_certificates(path: Path, *certificates: x509.Certificate) -> Path:
    path.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in certificates))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a client is given of the CA: certificates, as files."""

    ca: Path
    """The CA certificate."""
    recipient: Path
    """Who decrypts requests: an RA's encryption certificate, or the CA."""
    signer: Path
    """Who signs replies: an RA's signature certificate, or the CA."""
    others: tuple[Path, ...] = ()
    """Further CA certificates that it is given, such as the next CA's."""

    @property
    def has_ra(self) -> bool:
        return self.recipient != self.ca


# strongSwan


def strongswan_get_ca(url: str, cwd: Path) -> tuple[Result, list[Path], list[Path]]:
    """``pki --scepca``: the CA and RA certificates that it stored."""
    result = run(
        "pki", "--scepca", "--url", url, "--caout", "ca.pem", "--raout", "ra.pem",
        "--outform", "pem", "--force", cwd=cwd,
    )  # fmt: skip
    return result, sorted(cwd.glob("ca*.pem")), sorted(cwd.glob("ra*.pem"))


def strongswan_enroll(
    url: str,
    cwd: Path,
    *,
    key: Path,
    subject: str,
    material: Material,
    challenge: str | None = None,
    old: tuple[Path, Path] | None = None,
    cipher: str = "aes",
    digest: str = "sha256",
    wait: int = 8,
) -> Result:
    """``pki --scep``; with ``old`` (certificate, key) it sends RenewalReq.

    Args:
        wait: seconds to poll a pending request, once a second.
    """
    out = cwd / "strongswan.pem"
    out.unlink(missing_ok=True)
    argv: list[str | Path] = [
        "pki", "--scep", "--url", url, "--in", key, "--dn", subject,
        "--cacert-enc", material.recipient, "--cacert-sig", material.signer,
        "--cacert", material.ca, "--cipher", cipher, "--digest", digest,
        "--interval", "1", "--maxpolltime", str(wait), "--outform", "pem",
    ]  # fmt: skip
    for other in material.others:
        argv += ["--cacert", other]
    if challenge is not None:
        argv += ["--password", challenge]
    if old is not None:
        argv += ["--cert", old[0], "--key", old[1]]
    result = run(*argv, cwd=cwd, stdout=out)
    return Result(code=result.code, output=result.output, certificate=read_certificate(out))


# micromdm


def scepclient_enroll(
    url: str,
    cwd: Path,
    *,
    common_name: str,
    challenge: str | None = None,
    fingerprint: str | None = None,
    timeout: float = 60.0,
) -> Result:
    """micromdm's client: makes ``k.pem`` where there is none; renews where ``c.pem`` exists.

    Args:
        fingerprint: SHA-256 of the one certificate to encrypt to, in hex; without it the
            message is encrypted to every certificate of the bundle.
    """
    (cwd / "csr.pem").unlink(missing_ok=True)
    before = read_certificate(cwd / "c.pem")
    argv: list[str | Path] = [
        "scepclient", "-server-url", url, "-private-key", "k.pem", "-certificate", "c.pem",
        "-cn", common_name, "-organization", "Lab", "-country", "XX", "-ou", "", "-debug",
    ]  # fmt: skip
    if challenge is not None:
        argv += ["-challenge", challenge]
    if fingerprint is not None:
        argv += ["-ca-fingerprint", fingerprint]
    result = run(*argv, cwd=cwd, timeout=timeout)
    after = read_certificate(cwd / "c.pem")
    return Result(
        code=result.code,
        output=result.output,
        certificate=None if after == before else after,
    )


@contextmanager
def scepserver(
    depot: Path, *, challenge: str | None = None, allow_renew: int = 0
) -> Iterator[Front]:
    """micromdm's server with a new 2048-bit CA in ``depot``, behind a Front.

    Where namespaces may be made it listens in one of its own, since it can't be told to
    listen on 127.0.0.1 alone; elsewhere on a free high port.
    """
    result = run(
        "scepserver", "ca", "-init", "-depot", depot, "-keySize", "2048",
        "-organization", "Lab", "-organizational_unit", "lab CA", "-country", "XX",
    )  # fmt: skip
    assert result.code == 0, result.output
    port = free_port()
    argv = ["scepserver", "-depot", str(depot), "-port", str(port)]
    argv += ["-allowrenew", str(allow_renew)]
    if challenge is not None:
        argv += ["-challenge", challenge]
    unshare = namespace_command()
    target: Path | tuple[str, int]
    if unshare:
        target = depot / "s"
        script = Path(__file__).with_name("sandbox.py")
        argv = [*unshare, sys.executable, str(script), str(target), str(port), *argv]
    else:
        target = ("127.0.0.1", port)
    with open(depot / "log", "wb") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment()
        )
    try:
        with serve(Front(forwarder(target))) as front:
            wait_until(lambda: b"listening" in (depot / "log").read_bytes())
            if isinstance(target, Path):
                wait_until(target.exists)
            yield front
    finally:
        assert process.stdin is not None
        process.stdin.close()
        if not unshare:
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()


def namespace_command() -> list[str]:
    """How to enter a new network namespace on this machine; empty where it is not allowed."""
    if shutil.which("unshare", path=PATH) is None:
        return []
    for words in (["unshare", "-n"], ["unshare", "-r", "-n"]):
        if run(*words, "true").code == 0:
            return words
    return []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: object, timeout: float = 15.0, step: float = 0.05) -> None:
    """Wait until a callable gives something true; fail after ``timeout`` seconds."""
    assert callable(condition)
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the peer did not get ready"
        time.sleep(step)
