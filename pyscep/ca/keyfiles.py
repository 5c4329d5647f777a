"""Private key files: who may read them is checked when opening, and they appear whole or not.

Symbolic links are followed (Kubernetes secrets are links); what is checked is the file that
was opened, through its descriptor, so it can't be exchanged between check and use.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import stat
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pyscep.identity import Identity

_logger = logging.getLogger("pyscep.ca")

MAX_KEY_FILE = 1024 * 1024
"""More than any key or certificate file, in bytes."""


class KeyFileError(ValueError):
    """A key file can't be used; the text says why and names the command that mends it."""


def read_key_file(path: str | os.PathLike[str], password: bytes | None = None) -> PrivateKeyTypes:
    """Load a private key in PEM form, if nobody else could have read it.

    Refused: readable or writable for others, writable for the group, or readable for the
    group unless root owns the file (0640 root:service is how packages install keys). On a
    read-only file system, where nothing can be mended, these are warnings.

    Args:
        path: of the file; links are followed.
        password: of an encrypted key.

    Raises:
        KeyFileError: permissions, not a PEM key, or the password is wrong or missing.
        OSError: the file can't be opened.
    """
    name = os.fspath(path)
    data = read_checked(name)
    try:
        return load_pem_private_key(data, password)
    except TypeError as error:
        missing = password is None
        raise KeyFileError(
            f"{name}: the key is encrypted: give its password"
            if missing
            else f"{name}: a password was given and the key is not encrypted: leave it out"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{name}: no private key in PEM form, or the password is wrong: check with "
            f"openssl pkey -in {shlex.quote(name)} -noout"
        ) from error


def read_identity(
    certificate: str | os.PathLike[str],
    key: str | os.PathLike[str],
    password: bytes | None = None,
) -> Identity:
    """Load a certificate file (the chain may follow in it) and its key file.

    Raises:
        KeyFileError: as read_key_file, or the two don't belong together.
        OSError: a file can't be opened.
    """
    name = os.fspath(certificate)
    try:
        leaf, *chain = x509.load_pem_x509_certificates(Path(name).read_bytes())
    except ValueError as error:
        raise KeyFileError(
            f"{name}: no certificate in PEM form: check with "
            f"openssl x509 -in {shlex.quote(name)} -noout -subject"
        ) from error
    private_key = read_key_file(key, password)
    try:
        return Identity(leaf, private_key, tuple(chain))
    except ValueError as error:
        raise KeyFileError(f"{os.fspath(key)} is not the key of {name}") from error


def write_private(path: str | os.PathLike[str], data: bytes, *, replace: bool = False) -> None:
    """Write a file that only its owner can read; after a crash it is there whole or not at all.

    Args:
        path: the name to appear under.
        data: the whole content.
        replace: overwrite what is there.

    Raises:
        FileExistsError: the name exists and ``replace`` is off.
    """
    _write(path, data, 0o600, replace)


def write_public(path: str | os.PathLike[str], data: bytes, *, replace: bool = False) -> None:
    """As write_private, for a file that everybody may read."""
    _write(path, data, 0o644, replace)


def _write(path: str | os.PathLike[str], data: bytes, mode: int, replace: bool) -> None:
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        if replace:
            temporary.replace(target)
        else:
            # A link never overwrites: of two processes that create one file, one wins.
            os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    if not _posix():
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checked(name: str) -> bytes:
    """The content of a file with a secret in it, if nobody else could have read it.

    Raises:
        KeyFileError: permissions, or not a regular file.
        OSError: it can't be opened.
    """
    with open(name, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{name} is not a regular file")
        if _posix():
            _check_mode(name, status, file.fileno())
        return file.read(MAX_KEY_FILE)


def _check_mode(name: str, status: os.stat_result, descriptor: int) -> None:
    problem = _problem(status)
    if problem is None:
        return
    if os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        _logger.warning("%s is %s, on a read-only file system", ascii(name), problem)
        return
    real = os.path.realpath(name)
    raise KeyFileError(f"{name} is {problem}: chmod 600 {shlex.quote(real)}")


def _problem(status: os.stat_result) -> str | None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o007:
        return f"open to every user (mode {mode:04o})"
    if mode & 0o020:
        return f"writable for its group (mode {mode:04o})"
    if mode & 0o050 and status.st_uid != 0:
        return f"readable for its group (mode {mode:04o})"
    return None


def _posix() -> bool:
    """Whether files have modes and directories can be synced."""
    return os.name == "posix"
