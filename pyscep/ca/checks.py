"""Whether a CA could issue a certificate at this moment: database, keys, clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from sqlalchemy import Connection, delete, func, insert, select

from pyscep.ca.schema import attempts, certificates, secrets
from pyscep.ca.store import Store
from pyscep.identity import Identity

BACKWARDS: Final = timedelta(minutes=5)
"""How far the clock may be behind the last row that was written."""
_PROBE: Final = "readiness"
_TEXT: Final = b"pyscep: is this key usable?"


class NotReady(Exception):
    """Something that issuing needs is missing; the text says what."""


def check_database(store: Store) -> None:
    """Write a row and take it away again, each with a commit.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database is away, full, locked or read-only.
        StoreGone: its file is not there.
    """
    forget = delete(secrets).where(secrets.c.name == _PROBE)

    def work(connection: Connection) -> None:
        connection.execute(forget)
        connection.execute(insert(secrets).values(name=_PROBE, value=b""))

    store.write(work)
    store.write(lambda connection: connection.execute(forget))


def check_key(identity: Identity) -> None:
    """Sign with a key, and verify with its certificate.

    Raises:
        NotReady: the signature is wrong, or the key is of another certificate.
        Exception: whatever a key in a token raises.
    """
    key, public = identity.private_key, identity.certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPrivateKey) and isinstance(public, rsa.RSAPublicKey):
            signature = key.sign(_TEXT, padding.PKCS1v15(), hashes.SHA256())
            public.verify(signature, _TEXT, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(
            public, ec.EllipticCurvePublicKey
        ):
            algorithm = ec.ECDSA(hashes.SHA256())
            public.verify(key.sign(_TEXT, algorithm), _TEXT, algorithm)
        else:
            raise NotReady("key and certificate are of different kinds")
    except InvalidSignature:
        raise NotReady("the key's signature does not fit its certificate") from None


def check_clock(store: Store, certificate: x509.Certificate, now: datetime) -> None:
    """See that the time is within a certificate's life, and not before what was written last.

    Raises:
        NotReady: it is not.
        sqlalchemy.exc.SQLAlchemyError: the database can't be asked.
    """
    if now < certificate.not_valid_before_utc:
        raise NotReady("the clock is before a certificate of this CA")
    if now >= certificate.not_valid_after_utc:
        raise NotReady("a certificate of this CA has ended")
    with store.read() as connection:
        for table in (attempts, certificates):
            newest = select(func.max(table.c.id)).scalar_subquery()
            query = select(table.c.created_at).where(table.c.id == newest)
            last = connection.execute(query).scalar()
            if last is not None and last > now + BACKWARDS:
                raise NotReady("the clock went backwards: there are rows from the future")


def checks_of(
    store: Store, identities: tuple[Identity, ...], now: Callable[[], datetime]
) -> dict[str, Callable[[], None]]:
    """The checks of a CA, by name. Each raises if something is wrong.

    Args:
        store: of the CA.
        identities: the CA, and who talks to clients.
        now: the clock.
    """

    def keys() -> None:
        for identity in identities:
            check_key(identity)

    def clock() -> None:
        for identity in identities:
            check_clock(store, identity.certificate, now())

    return {"database": lambda: check_database(store), "key": keys, "clock": clock}
