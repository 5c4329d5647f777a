"""A change of CAs with processes: `pyscep serve`, our commands, strongSwan, OpenSSL."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import pyscep

from . import peers
from .realm import Served, serve_command

ROOT = Path(pyscep.__file__).parent.parent


def command(*words: object) -> Any:
    """Run `pyscep` as a process; the object on its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "pyscep", *map(str, words), "--json"],
        env=peers.environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()
    return json.loads(done.stdout)


def enroll(served: Served, pinned: str, name: str, *words: object) -> Path:
    """Our client; the certificate's file."""
    out = served.home / f"{name}.pem"
    word = command("challenge", "--directory", served.home / "served")["challenges"][0]
    command(
        "enroll",
        served.url,
        "--fingerprint",
        pinned,
        "--key",
        served.home / f"{name}.key",
        "--out",
        out,
        "--subject",
        f"CN={name}",
        "--challenge",
        word,
        *words,
    )
    return out


def fetch(served: Served, path: str, out: Path) -> Path:
    with urllib.request.urlopen(served.url.removesuffix("/scep") + path, timeout=20) as answer:
        out.write_bytes(answer.read())
    return out


@pytest.mark.interop
@pytest.mark.rule("R14")
@pytest.mark.parametrize("topology", ["ra", "ca"])
def test_r14_a_rollover(tmp_path: Path, topology: str) -> None:
    peers.require("pki", "openssl")
    home = tmp_path / "served"
    with serve_command(tmp_path, topology=topology, policy="modern") as served:
        first = fingerprint_of(served.ca)
        old = enroll(served, first, "old")
    made = command("ca", "rollover", "prepare", "--directory", home, "--key-type", "rsa-2048")
    second = Path(made["certificate"])

    with serve_command(tmp_path, topology=topology, policy="modern") as served:
        following = tmp_path / "next.pem"
        command("getnextcacert", served.url, "--fingerprint", first, "--out", following)
        assert second.read_bytes() in following.read_bytes()
        peers.openssl(
            "verify",
            "-CAfile",
            second,
            enroll(served, first, "ours", "--next-ca-certificate", following),
        )
        peers.openssl("verify", "-CAfile", home / "ca.pem", enroll(served, first, "unaware"))
        # strongSwan, told to encrypt to the next CA: the reply is signed by today's.
        key = tmp_path / "strongswan.key"
        private = peers.new_key(key)
        agent = "ra.pem" if topology == "ra" else "ca.pem"
        result = peers.strongswan_enroll(
            served.url,
            tmp_path,
            key=key,
            subject="CN=strongswan",
            material=peers.Material(
                ca=home / "ca.pem",
                recipient=second.parent / agent,
                signer=home / agent,
                others=(second,),
            ),
            challenge=served.challenge,
        )
        assert result.issued.public_key() == private.public_key()
        theirs = peers.write_certificates(tmp_path / "theirs.pem", result.issued)
        peers.openssl("verify", "-CAfile", second, theirs)

    command("ca", "rollover", "switch", "--directory", home)
    with serve_command(tmp_path, topology=topology, policy="modern") as served:
        renewed = tmp_path / "renewed.pem"
        command(
            "renew",
            served.url,
            "--ca-certificate",
            second,
            "--certificate",
            old,
            "--key",
            tmp_path / "old.key",
            "--new-key",
            tmp_path / "new.key",
            "--out",
            renewed,
        )
        command("revoke", "--directory", home, "--certificate", old, "--certificate", theirs)
        for name, ca, good, bad in (
            ("ca", home / "ca.pem", tmp_path / "unaware.pem", old),
            ("ca-2", second, renewed, theirs),
        ):
            crl = fetch(served, f"/crl/{name}.crl", tmp_path / f"{name}.crl")
            peers.openssl("crl", "-inform", "DER", "-in", crl, "-out", f"{crl}.pem")
            words = ("-crl_check", "-CRLfile", f"{crl}.pem", "-CAfile", ca)
            peers.openssl("verify", *words, good)
            refused = peers.run("openssl", "verify", *words, bad)
            assert "certificate revoked" in refused.output
            found = fetch(served, f"/aia/{name}.cer", tmp_path / f"{name}.cer").read_bytes()
            issuer = x509.load_der_x509_certificate(found)
            assert issuer == peers.read_certificate(ca)


def fingerprint_of(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import hashes

    return f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"
