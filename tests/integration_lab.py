"""What the tests of challenge providers share: services with certificates, CAs with stores."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

import pyscep
from pyscep.ca import ChallengeRequest, Store
from tests import forge_keys as keys
from tests.ca_setting import START


def self_signed(name: str, key: Any, *, days: int = 30) -> x509.Certificate:
    """A certificate valid around START."""
    subject = x509.Name.from_rfc4514_string(f"CN={name}")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START - timedelta(days=1))
        .not_valid_after(START + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )


@cache
def party(name: str, kind: str = "rsa") -> pyscep.Identity:
    """Somebody with a self-signed certificate."""
    key = keys.rsa_key(name) if kind == "rsa" else keys.ec_key(name)
    return pyscep.Identity(self_signed(name, key), key)


def store_in(path: Path) -> Store:
    """The store of the CA that Setting(path) opens."""
    return Store(f"sqlite:///{path}/scep.db")


def asks(
    password: str, csr: pyscep.CertificateRequest | None = None, **more: Any
) -> ChallengeRequest:
    """What a CA asks its provider."""
    values = {
        "password": password,
        "csr": csr or csr_with(password),
        "endpoint": "default",
        "transaction_id": "7",
        "source": "192.0.2.1",
        "now": START,
    }
    return ChallengeRequest(**(values | more))


def csr_with(
    password: str | None,
    *,
    key: Any = None,
    subject: Any = "CN=device,O=Lab",
    sans: tuple[x509.GeneralName, ...] = (),
    extensions: Any = (),
) -> pyscep.CertificateRequest:
    return pyscep.pkcs10.create(
        key or keys.rsa_key("client"),
        subject,
        challenge_password=password,
        sans=sans,
        extensions=extensions,
    )


def usage(**chosen: bool) -> x509.KeyUsage:
    """A keyUsage extension."""
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )
    return x509.KeyUsage(**(dict.fromkeys(names, False) | chosen))


CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
ANY_USAGE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
CA_TRUE = x509.BasicConstraints(ca=True, path_length=None)

# Requests that no judge of challenges gets to see, by what is wrong with them.
ODD: dict[str, dict[str, Any]] = {
    "it asks to be a CA": {"extensions": [(CA_TRUE, True)]},
    "it asks for the key usage of a CA": {"extensions": [(usage(key_cert_sign=True), True)]},
    "key usage of a CA": {"extensions": [(usage(crl_sign=True), True)]},
    "anyExtendedKeyUsage": {"extensions": [(ANY_USAGE, False)]},
    "Duplicate": {"extensions": [(CLIENT_AUTH, False), (CLIENT_AUTH, False)]},
}
