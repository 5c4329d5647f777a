"""A CA's directory: keys and certificates in PEM files, made once and whole.

Several processes may start on an empty directory at the same time. No file replaces another
one: whoever comes second uses the key that is there. ``ca.pem`` is written last, so a
directory that has it is complete; what a crash left before that is used the next time.
CAs that follow are in directories below it: ``lineage`` tells their turns.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID
from sqlalchemy.engine import URL

from pyscep.ca import creation, lineage, making
from pyscep.ca.generations import Generation
from pyscep.ca.issuer import Issuer
from pyscep.ca.keyfiles import KeyFileError, read_identity
from pyscep.identity import Identity

CREATION: Final = frozenset(
    (
        "common_name",
        "organization",
        "key_type",
        "validity",
        "topology",
        "parent",
        "parent_addresses",
        "base_url",
    )
)
"""The arguments of ``create`` that are not settings of the running CA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaFiles:
    """What a directory holds."""

    ca: Identity
    recipient: Identity | None
    """The RA that signs replies, and decrypts unless ``encryption`` does."""
    encryption: Identity | None
    name: str = "ca"
    """In the addresses of CRL and certificate."""
    addresses: creation.Addresses = creation.NOWHERE
    path: Path = Path()
    """Where its files are."""
    next: CaFiles | None = None
    """The CA that follows."""
    previous: tuple[CaFiles, ...] = ()
    """Those that it has followed, the latest first."""

    def generation(self, issuer: Issuer | None = None) -> Generation:
        """The CA to issue with.

        Args:
            issuer: with other settings than the directory's.
        """
        if issuer is None:
            addresses = self.addresses
            issuer = Issuer(self.ca, crl_urls=addresses.crl, issuer_urls=addresses.certificate)
        return Generation(
            issuer=issuer, recipient=self.recipient, encryption=self.encryption, name=self.name
        )

    @property
    def topology(self) -> str:
        """As ``create`` would have to be told."""
        if self.recipient is None:
            return "ca"
        if self.encryption is None:
            return "ra"
        agent = x509.ExtendedKeyUsage([creation.REQUEST_AGENT])
        extensions = self.recipient.certificate.extensions
        return "ndes" if any(one.value == agent for one in extensions) else "ra-split"


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
    parent_addresses: creation.Addresses = creation.NOWHERE,
    base_url: str | None = None,
) -> None:
    """Make the files; the arguments are those of CertificateAuthority.create.

    Raises:
        FileExistsError: there is a CA already.
        ValueError: an unknown topology or key type, a CA key that can't decrypt, or a URL that
            is none.
    """
    turns = lineage.Lineage(base_url=base_url)
    making.check_topology(topology, key_type)
    place = Path(directory)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if exists(place):
        raise FileExistsError(f"there is a CA in {place}")
    if base_url is not None:
        turns.write(place)
    making.make(
        place,
        common_name=common_name,
        organization=organization,
        key_type=key_type,
        validity=validity,
        topology=topology,
        parent=parent,
        password=password,
        now=now,
        parent_addresses=parent_addresses,
        addresses=turns.addresses(lineage.FIRST),
    )


def load(directory: str | os.PathLike[str], *, password: bytes | None = None) -> CaFiles:
    """Read the files.

    Raises:
        FileNotFoundError: there is no CA, or a key is missing.
        KeyFileError: a file can't be used.
    """
    place = Path(directory)
    if not exists(place):
        raise FileNotFoundError(f"there is no CA in {place}: no ca.pem")
    turns = lineage.read(place)
    found = {
        name: _load(place / name, turns.addresses(name), lineage.public_name(name), password)
        for name in turns.all
    }
    return replace(
        found[turns.current],
        next=None if turns.next is None else found[turns.next],
        previous=tuple(found[name] for name in turns.previous),
    )


def prepare_next(
    directory: str | os.PathLike[str],
    *,
    common_name: str | None = None,
    key_type: str = "rsa-3072",
    validity: timedelta = timedelta(days=3650),
    starts: datetime | None = None,
    parent: Identity | None = None,
    parent_addresses: creation.Addresses = creation.NOWHERE,
    password: bytes | None = None,
    now: datetime,
) -> CaFiles:
    """Make the CA that is to follow, with RAs as the present one has them (RFC 8894 4.7).

    Args:
        directory: of the present CA.
        common_name: None: the present one's, with the next number of a generation behind it.
        key_type, validity, parent, parent_addresses: as for ``create``.
        starts: notBefore of the new CA; None: it is valid at once, which suits clients that
            refuse what is not valid yet.
        password: of the present CA's key files, and then of the new ones.
        now: the time of making.

    Raises:
        FileNotFoundError: there is no CA.
        FileExistsError: there is a next one already.
        KeyFileError: a file of the present one can't be used.
        ValueError: a time that lies after the present CA's end, or as ``create``.
    """
    place = Path(directory)
    present = load(place, password=password)
    turns = lineage.read(place)
    if present.next is not None:
        raise FileExistsError(f"there is a next CA already, in {present.next.path}")
    certificate = present.ca.certificate
    if starts is not None and starts >= certificate.not_valid_after_utc:
        raise ValueError(
            f"the present CA ends on {certificate.not_valid_after_utc:%Y-%m-%d}: the next one has "
            "to start before"
        )
    making.check_topology(present.topology, key_type)
    organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    name = lineage.unused_name(place)
    (place / name).mkdir(mode=0o700)
    making.make(
        place / name,
        common_name=common_name or _next_name(certificate, name),
        organization=str(organizations[0].value) if organizations else None,
        key_type=key_type,
        validity=validity,
        topology=present.topology,
        parent=parent,
        password=password,
        now=now,
        parent_addresses=parent_addresses,
        addresses=turns.addresses(name),
        starts=starts,
    )
    turns.prepared(name).write(place)
    following = load(place, password=password).next
    assert following is not None  # noqa: S101 - for type checkers: it was written just now
    return following


def switch(
    directory: str | os.PathLike[str], *, password: bytes | None = None, now: datetime
) -> CaFiles:
    """Let the next CA follow the present one; servers do so when they are started again.

    Raises:
        FileNotFoundError: there is no CA.
        KeyFileError: a file can't be used; nothing was changed.
        ValueError: there is no next CA, or it is not valid yet.
    """
    place = Path(directory)
    following = load(place, password=password).next
    turns = lineage.read(place).switched()
    if following is not None and now < following.ca.certificate.not_valid_before_utc:
        begins = following.ca.certificate.not_valid_before_utc
        raise ValueError(f"the next CA is not valid before {begins:%Y-%m-%d %H:%M} UTC")
    turns.write(place)
    return load(place, password=password)


def retire(directory: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Forget the CAs before the present one; their files stay.

    Returns:
        Where their files are.

    Raises:
        FileNotFoundError: there is no CA.
        ValueError: there is none before the present one.
    """
    place = Path(directory)
    if not exists(place):
        raise FileNotFoundError(f"there is no CA in {place}: no ca.pem")
    turns = lineage.read(place)
    turns.retired().write(place)
    return tuple(place / name for name in turns.previous)


def publish_at(directory: str | os.PathLike[str], base_url: str) -> None:
    """Set where CRLs and CA certificates are fetched; certificates say so from now on.

    Raises:
        ValueError: a URL that is none.
    """
    place = Path(directory)
    turns = lineage.read(place)
    if turns.base_url != base_url:
        replace(turns, base_url=base_url).write(place)


def _next_name(certificate: x509.Certificate, directory: str) -> str:
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    base = re.sub(r" G[0-9]+\Z", "", str(found[0].value) if found else "CA")
    suffix = f" G{directory.rpartition('-')[2]}"
    return base[: 64 - len(suffix)] + suffix


def _load(place: Path, addresses: creation.Addresses, name: str, password: bytes | None) -> CaFiles:
    ca = read_identity(place / "ca.pem", place / "ca.key", password)
    found: list[Identity | None] = []
    for agent in ("ra", "ra-encryption"):
        path = place / f"{agent}.pem"
        if not path.exists():
            found.append(None)
            continue
        ra = read_identity(path, place / f"{agent}.key", password)
        if ra.raw.issuer != ca.raw.subject:
            raise KeyFileError(f"{path} was not issued by the CA in ca.pem")
        found.append(ra)
    recipient, encryption = found
    return CaFiles(
        ca=ca,
        recipient=recipient,
        encryption=encryption,
        name=name,
        addresses=addresses,
        path=place,
    )
