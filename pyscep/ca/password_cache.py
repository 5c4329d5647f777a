"""The password cache of NDES: few short passwords at a time, or a single one for everybody.

``OneTimeChallenges`` is the stronger choice. This is for consoles and scripts that expect 16
hexadecimal digits and the limits of NDES.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, Delete, delete, func, insert, select

from pyscep.ca import schema
from pyscep.ca.challenge import (
    LIFETIME,
    SPEND,
    ChallengeRequest,
    Granted,
    Notification,
    Refused,
    differs,
    parse_subject,
    utc_now,
)
from pyscep.ca.schema import challenges
from pyscep.ca.single_use import SingleUse
from pyscep.ca.store import Store

CACHE_SIZE: Final = 5
PASSWORD_BYTES: Final = 8
_SECRET: Final = "ndes_single_password"  # noqa: S105 - the name of one
_HEX: Final = re.compile(r"[0-9A-F]+")


class PasswordCacheFull(ValueError):
    """As many passwords are outstanding as the cache holds: use one, or wait for an expiry."""


class PasswordCache:
    """One-time passwords with the limits of NDES, kept as HMAC.

    Args:
        store: of the CA.
        size: how many can be outstanding (NDES: PasswordMax).
        lifetime: of a password (NDES: PasswordValidity).
        length: of a password, in bytes; it has two characters each (NDES: PasswordLength).
        single: one password for every device, that never expires (NDES: UseSinglePassword).
            Whoever has it can have any name that the profile allows.
        now: the clock.
        token_bytes: the source of randomness.

    Raises:
        ValueError: a size, length or lifetime that makes no sense.
    """

    scheme = "ndes"
    notifies = False

    def __init__(
        self,
        store: Store,
        *,
        size: int = CACHE_SIZE,
        lifetime: timedelta = LIFETIME,
        length: int = PASSWORD_BYTES,
        single: bool = False,
        now: Callable[[], datetime] = utc_now,
        token_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if size < 1 or length < PASSWORD_BYTES or lifetime <= timedelta(0):
            raise ValueError(
                f"a password cache has a size of 1 or more, passwords of {PASSWORD_BYTES} bytes "
                "or more, and a positive lifetime"
            )
        self._store = store
        self._uses = SingleUse(store)
        self._size = size
        self._lifetime = lifetime
        self._length = length
        self._now = now
        self._token_bytes = token_bytes
        self._single = self._single_password() if single else None

    def generate(
        self,
        *,
        subject: str | None = None,
        sans: Iterable[str] = (),
        profile: str | None = None,
        lifetime: timedelta | None = None,
    ) -> str:
        """A new password, or the single one.

        Raises:
            PasswordCacheFull: too many are outstanding.
            ValueError: bindings for the single password, or a lifetime that is none.
        """
        bound = {"subject": subject, "sans": list(sans) or None, "profile": profile}
        if self._single is not None:
            if any(bound.values()) or lifetime is not None:
                raise ValueError("the single password is for every name, profile and time")
            return self._single
        lifetime = self._lifetime if lifetime is None else lifetime
        if lifetime <= timedelta(0):
            raise ValueError("the lifetime of a password must be positive")
        if subject is not None:
            parse_subject(subject)
        password = self._token_bytes(self._length).hex().upper()
        now = self._now()
        values = {
            "id": self._uses.credential(self.scheme, password),
            "mac": b"",
            "created_at": now,
            "expires_at": now + lifetime,
            "bound": bound,
            "failures": 0,
        }

        def work(connection: Connection) -> None:
            _lock(connection)
            connection.execute(_expired(now))
            if connection.execute(_OUTSTANDING).scalar_one() >= self._size:
                raise PasswordCacheFull("the password cache is full")
            connection.execute(insert(challenges), values)

        self._store.write(work)
        return password

    def verify(self, request: ChallengeRequest) -> Granted | Refused:
        password = request.password.upper()
        if not _HEX.fullmatch(password):
            return Refused(reason="not a password of the cache")
        if self._single is not None:
            if hmac.compare_digest(password, self._single):
                return Granted(credential=self.scheme)
            return Refused(reason="wrong single password")
        credential = self._uses.credential(self.scheme, password)
        with self._store.read() as connection:
            query = select(challenges).where(challenges.c.id == credential)
            row = connection.execute(query).first()
        if row is None:
            return Refused(reason="unknown password")
        if row.expires_at <= request.now:
            return Refused(reason=f"password {credential} has expired")
        if reason := differs(row.bound, request.csr):
            return Refused(reason=f"password {credential} is for another {reason}")

        def claim(connection: Connection, issue_key: str, now: datetime) -> bool:
            values = {"number": credential, "key": issue_key, "now": now}
            return SPEND.change(connection, values) == 1

        return Granted(
            credential=credential,
            expires_at=row.expires_at,
            profile=row.bound["profile"],
            claim=claim,
        )

    def notify(self, notification: Notification) -> None:
        """Nothing: it is spent in the transaction that enters the certificate."""

    def _single_password(self) -> str:
        key = self._store.secret(_SECRET)
        return hmac.digest(key, b"single password", "sha256")[: self._length].hex().upper()


_OF_THE_CACHE: Final = challenges.c.id.startswith("ndes:")
_OUTSTANDING: Final = (
    select(func.count())
    .select_from(challenges)
    .where(_OF_THE_CACHE, challenges.c.spent_at.is_(None))
)


def _expired(now: datetime) -> Delete:
    return delete(challenges).where(_OF_THE_CACHE, challenges.c.expires_at <= now)


def _lock(connection: Connection) -> None:
    """Two that count at the same time must not both find room. SQLite has locked already."""
    row = select(schema.secrets.c.name).where(schema.secrets.c.name == "single_use_hmac")
    connection.execute(row.with_for_update())
