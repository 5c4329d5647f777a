"""A CA's directory: keys and certificates in PEM files, made once and whole.

Several processes may start on an empty directory at the same time. No file replaces another
one: whoever comes second uses the key that is there. ``ca.pem`` is written last, so a
directory that has it is complete; what a crash left before that is used the next time.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
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
from sqlalchemy.engine import URL

from pyscep.ca import creation
from pyscep.ca.keyfiles import (
    KeyFileError,
    read_identity,
    read_key_file,
    write_private,
    write_public,
)
from pyscep.identity import Identity

CREATION: Final = frozenset(
    ("common_name", "organization", "key_type", "validity", "topology", "parent")
)
"""The arguments of ``create`` that are not settings of the running CA."""

RA_KEY_TYPE: Final = "rsa-2048"
_SIGNS: Final = "digitalSignature"
_DECRYPTS: Final = "keyEncipherment"
_RA_FILES: Final[dict[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "ra": (("ra", (_SIGNS, _DECRYPTS)),),
    "ra-split": (("ra", (_SIGNS,)), ("ra-encryption", (_DECRYPTS,))),
    "ca": (),
    "ndes": (("ra", (_SIGNS,)), ("ra-encryption", (_DECRYPTS,))),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CaFiles:
    """What a directory holds."""

    ca: Identity
    recipient: Identity | None
    """The RA that signs replies, and decrypts unless ``encryption`` does."""
    encryption: Identity | None


def exists(directory: str | os.PathLike[str]) -> bool:
    """Whether a CA is there, complete."""
    return (Path(directory) / "ca.pem").exists()


def database_url(directory: str | os.PathLike[str]) -> URL:
    """The database beside the keys."""
    return URL.create("sqlite", database=str(Path(directory) / "scep.db"))


def create(
    directory: str | os.PathLike[str],
    *,
    common_name: str,
    organization: str | None,
    key_type: str,
    validity: timedelta,
    topology: str,
    parent: Identity | None,
    password: bytes | None,
    now: datetime,
) -> None:
    """Make the files; the arguments are those of CertificateAuthority.create.

    Raises:
        FileExistsError: there is a CA already.
        ValueError: an unknown topology or key type, or a CA key that can't decrypt.
    """
    if topology not in _RA_FILES:
        raise ValueError(f"topology {topology!r} is none of {', '.join(_RA_FILES)}")
    if topology == "ca" and not key_type.startswith("rsa"):
        raise ValueError("requests are encrypted to RSA keys: a CA without RA needs one")
    place = Path(directory)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if exists(place):
        raise FileExistsError(f"there is a CA in {place}")
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
        )
        # After a crash there may be one, of the same keys: the newer CA certificate counts.
        write_public(place / f"{name}.pem", _pem(ra), replace=True)
    chain = (parent.certificate, *parent.chain) if parent else ()
    write_public(place / "ca.pem", _pem(certificate, *chain))


def load(directory: str | os.PathLike[str], *, password: bytes | None = None) -> CaFiles:
    """Read the files.

    Raises:
        FileNotFoundError: there is no CA, or a key is missing.
        KeyFileError: a file can't be used.
    """
    place = Path(directory)
    if not exists(place):
        raise FileNotFoundError(f"there is no CA in {place}: no ca.pem")
    ca = read_identity(place / "ca.pem", place / "ca.key", password)
    found: list[Identity | None] = []
    for name in ("ra", "ra-encryption"):
        path = place / f"{name}.pem"
        if not path.exists():
            found.append(None)
            continue
        ra = read_identity(path, place / f"{name}.key", password)
        if ra.raw.issuer != ca.raw.subject:
            raise KeyFileError(f"{path} was not issued by the CA in ca.pem")
        found.append(ra)
    recipient, encryption = found
    return CaFiles(ca=ca, recipient=recipient, encryption=encryption)


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
