"""Our client against micromdm's scepserver 2.1.0, the only peer that is a server.

It answers in single DES and SHA-1 whatever was asked, so it takes the legacy policy.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

import pyscep
from pyscep import (
    AlgorithmError,
    Client,
    EnrollmentRefused,
    FailInfo,
    Identity,
    ProtocolError,
    Success,
    pkcs10,
    run,
)
from pyscep.adapters.transport import urllib_sender
from pyscep.cms.algorithms import COMPATIBLE, LEGACY, MODERN, AlgorithmPolicy

from . import peers
from .clients import ScepClient
from .rows import CLIENT_COLUMNS, CLIENT_ROWS, Row, having
from .wire import Front

SECRET = "right-horse"
ROWS = CLIENT_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    front: Front
    ca: x509.Certificate
    home: Path

    def client(
        self,
        policy: AlgorithmPolicy = LEGACY,
        method: Literal["auto", "post", "get"] = "auto",
        *,
        check_key_usage: bool | None = None,
    ) -> Client:
        """A client of this server, whose CA decrypts without the key usage for it."""
        fingerprint = self.ca.fingerprint(hashes.SHA256()).hex()
        return Client(
            self.front.url,
            ca_fingerprint=fingerprint,
            policy=policy,
            method=method,
            check_key_usage=check_key_usage,
        )

    def check(self, certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> None:
        assert certificate.public_key() == key.public_key()
        leaf = peers.write_certificates(self.home / "leaf.pem", certificate)
        ca = peers.write_certificates(self.home / "ca.pem", self.ca)
        peers.openssl("verify", "-CAfile", ca, leaf)


def enroll(
    client: Client, key: rsa.RSAPrivateKey, name: str, challenge: str | None = SECRET
) -> x509.Certificate:
    csr = pkcs10.create(key, f"CN={name},O=Lab", challenge_password=challenge)
    outcome = run(client.enroll(key, csr), urllib_sender(timeout=15.0))
    assert isinstance(outcome, Success)
    return outcome.certificates[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    peers.require("scepserver", "openssl")
    home = tmp_path_factory.mktemp("scepserver")
    with peers.scepserver(home / "depot", challenge=SECRET) as front:
        ca = peers.read_certificate(home / "depot" / "ca.pem")
        assert ca is not None
        yield Lab(front=front, ca=ca, home=home)


@pytest.fixture
def lab(server: Lab) -> Lab:
    server.front.exchanges.clear()
    return server


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def rows(column: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", having(column, ROWS), ids=lambda row: row.id)


@pytest.mark.cell("POST")
@rows("POST")
def test_enroll_by_post(row: Row, lab: Lab, key: rsa.RSAPrivateKey) -> None:
    lab.check(enroll(lab.client(), key, "post.example"), key)
    assert lab.front.transports == {"POST"}


@pytest.mark.cell("GET")
@rows("GET")
def test_enroll_by_get(row: Row, lab: Lab, key: rsa.RSAPrivateKey) -> None:
    lab.check(enroll(lab.client(method="get"), key, "get.example"), key)
    assert lab.front.transports == {"GET"}


@pytest.mark.cell("wrong, right")
@rows("wrong, right")
def test_wrong_challenge_then_the_right_one(row: Row, lab: Lab, key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(EnrollmentRefused) as caught:
        enroll(lab.client(), key, "second-try.example", "wrong-horse")
    assert caught.value.fail_info is FailInfo.BAD_REQUEST
    lab.check(enroll(lab.client(), key, "second-try.example"), key)


@pytest.mark.cell("renewal")
@rows("renewal")
def test_renewal_with_the_same_key(row: Row, lab: Lab, key: rsa.RSAPrivateKey) -> None:
    renew(lab, key, key, "renewal.example")


@pytest.mark.cell("rekey")
@rows("rekey")
def test_rekey(row: Row, lab: Lab, key: rsa.RSAPrivateKey) -> None:
    renew(lab, key, rsa.generate_private_key(65537, 2048), "rekey.example")


def renew(lab: Lab, key: rsa.RSAPrivateKey, new: rsa.RSAPrivateKey, name: str) -> None:
    """Renew; this server wants its challenge in renewals too."""
    client = lab.client()
    old = enroll(client, key, name)
    csr = pkcs10.create(new, f"CN={name},O=Lab", challenge_password=SECRET)
    identity = Identity(certificate=old, private_key=key)
    outcome = run(client.renew(identity, new, csr), urllib_sender(timeout=15.0))
    assert isinstance(outcome, Success)
    assert outcome.certificates[0].serial_number != old.serial_number
    lab.check(outcome.certificates[0], new)


@pytest.mark.cell("no legacy")
@rows("no legacy")
@pytest.mark.parametrize("policy", [MODERN, COMPATIBLE], ids=lambda policy: policy.name)
def test_without_the_legacy_policy_the_error_leads_to_it(
    row: Row, policy: AlgorithmPolicy, lab: Lab, key: rsa.RSAPrivateKey
) -> None:
    """Each refusal names the policy that allows what was refused; following them enrolls."""
    name = f"from-{policy.name}.example"
    with pytest.raises(ProtocolError, match="'legacy'"):
        enroll(lab.client(policy), key, name)
    while policy is not LEGACY:
        with pytest.raises(AlgorithmError, match="allowed by the policy") as caught:
            enroll(lab.client(policy, check_key_usage=False), key, name)
        named = re.findall(r"allowed by the policy '(\w+)'", str(caught.value))[-1]
        assert AlgorithmPolicy.named(named).ciphers > policy.ciphers, "no progress"
        policy = AlgorithmPolicy.named(named)
    lab.check(enroll(lab.client(policy), key, name), key)


@pytest.mark.cell("pyscep enroll")
@rows("pyscep enroll")
def test_enroll_command(row: Row, lab: Lab, tmp_path: Path) -> None:
    """The command refuses by default and says which switch enrolls all the same."""
    root = Path(pyscep.__file__).parent.parent
    env = peers.environment(PYTHONPATH=str(root), PYSCEP_CHALLENGE=SECRET)
    argv = [
        sys.executable, "-m", "pyscep", "enroll", lab.front.url,
        "--fingerprint", lab.ca.fingerprint(hashes.SHA256()).hex(),
        "--key", "k.pem", "--out", "c.pem", "--subject", "CN=command.example,O=Lab",
    ]  # fmt: skip
    refused = peers.run(*argv, cwd=tmp_path, env=env)
    assert refused.code == 4, refused.output
    assert "--policy legacy" in refused.output
    done = peers.run(*argv, "--policy", "legacy", cwd=tmp_path, env=env)
    assert done.code == 0, done.output
    issued = peers.read_certificate(tmp_path / "c.pem")
    assert issued is not None
    lab.check(issued, peers.read_key(tmp_path / "k.pem"))


def test_key_usage_can_be_insisted_on(lab: Lab, key: rsa.RSAPrivateKey) -> None:
    """X04: this CA has keyCertSign and cRLSign alone, and is encrypted to all the same."""
    with pytest.raises(ProtocolError, match="check_key_usage=False"):
        enroll(lab.client(check_key_usage=True), key, "usage.example")


def test_every_cell_is_tested_or_has_a_reason() -> None:
    tested = {
        mark.args[0]
        for name, function in globals().items()
        if name.startswith("test_")
        for mark in getattr(function, "pytestmark", [])
        if mark.name == "cell"
    }
    for row in ROWS:
        assert tested | set(row.absent) == set(CLIENT_COLUMNS)


def test_the_harness_itself(lab: Lab, tmp_path: Path) -> None:
    """micromdm's client against micromdm's server: should this fail, look at peers.py first."""
    peers.require("scepclient")
    client = ScepClient(url=lab.front.url, home=tmp_path)
    refused = client.enroll("wrong-horse")
    assert refused.certificate is None
    assert "badRequest" in refused.output
    first = client.enroll(SECRET).issued
    lab.check(first, client.key)
    assert lab.front.transports == {"POST"}
