"""Makes the files of one CA: keys, RA certificates, and ``ca.pem`` last."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from pyscep.ca import creation
from pyscep.ca.keyfiles import KeyFileError, read_key_file, write_private, write_public
from pyscep.identity import Identity

RA_KEY_TYPE: Final = "rsa-2048"
_SIGNS: Final = "digitalSignature"
_DECRYPTS: Final = "keyEncipherment"
_RA_FILES: Final[dict[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "ra": (("ra", (_SIGNS, _DECRYPTS)),),
    "ra-split": (("ra", (_SIGNS,)), ("ra-encryption", (_DECRYPTS,))),
    "ca": (),
    "ndes": (("ra", (_SIGNS,)), ("ra-encryption", (_DECRYPTS,))),
}


def check_topology(topology: str, key_type: str) -> None:
    """Raise ValueError for an unknown one, or one that the key is not fit for."""
    if topology not in _RA_FILES:
        raise ValueError(f"topology {topology!r} is none of {', '.join(_RA_FILES)}")
    if topology == "ca" and not key_type.startswith("rsa"):
        raise ValueError("requests are encrypted to RSA keys: a CA without RA needs one")


def make(
    place: Path,
    *,
    common_name: str,
    organization: str | None,
    key_type: str,
    validity: timedelta,
    topology: str,
    parent: Identity | None,
    password: bytes | None,
    now: datetime,
    parent_addresses: creation.Addresses,
    addresses: creation.Addresses,
    starts: datetime | None = None,
) -> None:
    """Make the files; the arguments are those of CertificateAuthority.create.

    Keys that a crash, or a faster process, left there are used.
    """
    key = _key(place / "ca.key", key_type, password)
    certificate = creation.make_ca(
        key,
        common_name=common_name,
        organization=organization,
        validity=validity,
        now=now,
        serial_number=_serial_number(),
        decrypts=topology == "ca",
        parent=parent,
        parent_addresses=parent_addresses,
        starts=starts,
    )
    ca = Identity(certificate, key)
    for name, usages in _RA_FILES[topology]:
        ra_key = _key(place / f"{name}.key", RA_KEY_TYPE, password)
        ra = creation.make_ra(
            ra_key,
            ca,
            usages=usages,
            now=now,
            serial_number=_serial_number(),
            request_agent=topology == "ndes",
            addresses=addresses,
        )
        # After a crash there may be one, of the same keys: the newer CA certificate counts.
        write_public(place / f"{name}.pem", _pem(ra), replace=True)
    chain = (parent.certificate, *parent.chain) if parent else ()
    write_public(place / "ca.pem", _pem(certificate, *chain))


def _key(path: Path, key_type: str, password: bytes | None) -> creation.CaKey:
    """The key in a file, which is made if it is missing."""
    if not path.exists():
        key = creation.generate_key(key_type)
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        try:
            write_private(path, data)
        except FileExistsError:
            pass  # another process was faster
        else:
            return key
    found = read_key_file(path, password)
    if not isinstance(found, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{path} holds a key that is neither RSA nor EC")
    return found


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _serial_number() -> int:
    """Positive and of 20 octets at most."""
    return secrets.randbits(158) | 1 << 158
