"""Reading and writing files: keys, certificates, secrets and state.

A file appears whole or not at all: a temporary file in the same directory, fsync, then a link
or a rename, then fsync of the directory. Without ``replace`` an existing file is never lost,
not even to another process that makes one at the same moment.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from pyscep.cli.problems import Failed

_PEM = b"-----BEGIN"
SECRET_MODE = 0o600
PUBLIC_MODE = 0o644


def read(path: str, *, limit: int = 64 * 1024 * 1024) -> bytes:
    """The bytes of a file, or of standard input for ``-``.

    Raises:
        Failed: longer than ``limit`` bytes.
        OSError: it cannot be read.
    """
    if path == "-":
        data = sys.stdin.buffer.read(limit + 1)
    else:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise Failed(f"{path} is longer than {limit} bytes", code="file")
    return data


def read_word(path: str) -> str:
    """A secret from a file, or from standard input for ``-``; its last line end is dropped.

    Raises:
        Failed: there is none in it, or it is not UTF-8.
        OSError: it cannot be read.
    """
    try:
        word = read(path, limit=64 * 1024).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise Failed(f"{path} is not UTF-8 text", code="file") from None
    if not word:
        raise Failed(f"{path} is empty", code="file")
    return word


def write(path: str | Path, data: bytes, *, mode: int, replace: bool = False) -> None:
    """Write a file whole, durably, and only over an existing one when told so.

    Raises:
        FileExistsError: there is one, and ``replace`` is False.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            _link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _sync_directory(path.parent)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(17, "File exists", str(path)) from None
    except OSError:  # a file system without hard links: the check and the rename are two steps
        if path.exists():
            raise FileExistsError(17, "File exists", str(path)) from None
        os.replace(temporary, path)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_existing(*paths: str | Path | None, force: bool) -> None:
    """Fail before any work is done when a result would not find its place.

    Raises:
        FileExistsError: one of the files is there, and ``force`` is False.
        OSError: the directory is missing.
    """
    for path in paths:
        if path is None:
            continue
        if not force and os.path.lexists(path):
            raise FileExistsError(17, "File exists", str(path))
        if not Path(path).parent.is_dir():
            raise FileNotFoundError(2, "No such directory", str(Path(path).parent))


def load_key(path: str) -> PrivateKeyTypes:
    """A private key in PEM or DER; PYSCEP_KEY_PASSWORD opens an encrypted one.

    Raises:
        Failed: not a key, or the password is wrong or missing.
        OSError: the file cannot be read.
    """
    data = read(path, limit=256 * 1024)
    word = os.environ.get("PYSCEP_KEY_PASSWORD")
    password = word.encode() if word else None
    load = load_pem_private_key if _PEM in data else load_der_private_key
    try:
        try:
            return load(data, password)
        except TypeError:
            if password is None:
                raise
            return load(data, None)  # the password was meant for another key
    except TypeError:
        raise Failed(
            f"{path} is encrypted: set PYSCEP_KEY_PASSWORD to its password", code="file"
        ) from None
    except ValueError as error:
        raise Failed(
            f"{path} is not a private key that opens (PEM or DER expected): {error}", code="file"
        ) from error


def load_certificates(path: str) -> list[x509.Certificate]:
    """All certificates of a PEM file, or the one of a DER file.

    Raises:
        Failed: there is no certificate in it.
        OSError: the file cannot be read.
    """
    data = read(path, limit=4 * 1024 * 1024)
    try:
        if _PEM in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise Failed(f"{path} holds no certificate (PEM or DER): {error}", code="file") from error


def load_or_make_key(path: str, bits: int) -> tuple[PrivateKeyTypes, bool]:
    """The key in a file; made and written first when the file does not exist.

    Returns:
        The key, and whether it is new.
    """
    if os.path.lexists(path):
        return load_key(path), False
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write(path, data, mode=SECRET_MODE)
    return key, True


def certificates_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """The certificates in PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
