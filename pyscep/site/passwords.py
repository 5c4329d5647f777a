"""A file of names and hashed passwords, for pages that people and programs log in to.

One account a line: ``name:$scrypt$ln=14,r=8,p=1$<salt>$<hash>``, as ``account_line`` makes it.
Empty lines and lines that begin with ``#`` mean nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from pyscep.ca.keyfiles import read_checked

_LOG_N: Final = 14
_R: Final = 8
_MAX_LOG_N: Final = 17
"""128 MiB for one check."""
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_MAX_PASSWORD: Final = 1024
_SHAPE: Final = re.compile(
    r"\$scrypt\$ln=(?P<log_n>[0-9]{1,2}),r=8,p=1"
    r"\$(?P<salt>[A-Za-z0-9+/]{22,44})\$(?P<digest>[A-Za-z0-9+/]{43})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordHash:
    """A password, hashed with scrypt (RFC 7914)."""

    log_n: int
    salt: bytes
    digest: bytes = field(repr=False)

    @classmethod
    def of(cls, password: str, *, token_bytes: Callable[[int], bytes]) -> PasswordHash:
        """Hash a password with a new salt."""
        salt = token_bytes(_SALT_BYTES)
        return cls(log_n=_LOG_N, salt=salt, digest=_scrypt(password, salt, _LOG_N))

    @classmethod
    def parse(cls, text: str) -> PasswordHash:
        """Read what ``str`` gives.

        Raises:
            ValueError: it is something else.
        """
        match = _SHAPE.fullmatch(text)
        if match is None or not 10 <= int(match["log_n"]) <= _MAX_LOG_N:
            raise ValueError("not a hash like $scrypt$ln=14,r=8,p=1$...$...")
        try:
            salt, digest = _decode(match["salt"]), _decode(match["digest"])
        except binascii.Error as error:
            raise ValueError("salt or hash is not base64") from error
        return cls(log_n=int(match["log_n"]), salt=salt, digest=digest)

    def __str__(self) -> str:
        salt, digest = (
            base64.b64encode(data).decode().rstrip("=") for data in (self.salt, self.digest)
        )
        return f"$scrypt$ln={self.log_n},r={_R},p=1${salt}${digest}"

    def matches(self, password: str) -> bool:
        """Whether it is this password; takes as long either way."""
        if len(password) > _MAX_PASSWORD:
            return False
        return hmac.compare_digest(_scrypt(password, self.salt, self.log_n), self.digest)


class PasswordFile:
    """Accounts by name, to be called with a name and a password.

    Args:
        accounts: hashes by name.
    """

    def __init__(self, accounts: Mapping[str, PasswordHash]) -> None:
        self._accounts = dict(accounts)
        # Unknown names are checked against this, so that they take as long as known ones.
        self._nobody = PasswordHash(
            log_n=max((one.log_n for one in accounts.values()), default=_LOG_N),
            salt=bytes(_SALT_BYTES),
            digest=bytes(_HASH_BYTES),
        )

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PasswordFile:
        """The accounts in a file that only its owner can read.

        Raises:
            ValueError: a line that is no account, no account at all, or permissions.
            OSError: it can't be opened.
        """
        name = os.fspath(path)
        try:
            lines = read_checked(name).decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} is not UTF-8 text") from error
        accounts: dict[str, PasswordHash] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            account, _, text = line.strip().partition(":")
            if not account or account in accounts:
                raise ValueError(f"{name}, line {number}: a name of its own and a hash are needed")
            try:
                accounts[account] = PasswordHash.parse(text)
            except ValueError as error:
                raise ValueError(f"{name}, line {number}: {error}") from error
        if not accounts:
            raise ValueError(f"{name} has no accounts")
        return cls(accounts)

    def __call__(self, name: str, password: str) -> Literal["unknown", "allowed"]:
        """Judge credentials."""
        account = self._accounts.get(name)
        right = (account or self._nobody).matches(password)
        return "allowed" if right and account is not None else "unknown"


def account_line(
    name: str, password: str, *, token_bytes: Callable[[int], bytes] = secrets.token_bytes
) -> str:
    r"""A line for a PasswordFile.

    Args:
        name: of the account, such as ``console`` or ``EXAMPLE\console``.
        password: at least 12 characters.
        token_bytes: the source of randomness.

    Raises:
        ValueError: a name that can't stand in the file, or a password too short or too long.
    """
    if not name or name != name.strip() or re.search(r"[:#\x00-\x1f\x7f]", name):
        raise ValueError(f"{ascii(name)} can't be the name of an account")
    if not 12 <= len(password) <= _MAX_PASSWORD:
        raise ValueError(f"a password has 12 to {_MAX_PASSWORD} characters")
    return f"{name}:{PasswordHash.of(password, token_bytes=token_bytes)}"


def _scrypt(password: str, salt: bytes, log_n: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << log_n,
        r=_R,
        p=1,
        maxmem=2 * 128 * _R * (1 << log_n),
        dklen=_HASH_BYTES,
    )


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
