"""What a configuration names: files with their paths, keys, certificates and secrets."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography import x509

from pyscep.ca import read_identity
from pyscep.ca.keyfiles import read_checked
from pyscep.ca.names import Names
from pyscep.ca.strong_mapping import check_sid
from pyscep.identity import Identity
from pyscep.site.config import KeyPair, Secret


class Files:
    """Reads what a configuration names.

    Args:
        base: the directory that relative paths begin at, that of the configuration.
        environ: where secrets by ``env`` are looked up.
    """

    def __init__(
        self, base: str | os.PathLike[str] = ".", environ: Mapping[str, str] = os.environ
    ) -> None:
        self.base = Path(base)
        self.environ = environ

    def path(self, path: Path) -> Path:
        """A path of the configuration, which is relative to its file."""
        return self.base / path

    def secret(self, where: Secret) -> str:
        """A secret from its file or environment variable; its last line end is dropped.

        Raises:
            ValueError: it is not there, empty, or in a file that others can read.
            OSError: the file can't be opened.
        """
        if where.file is not None:
            text = read_checked(str(self.path(where.file))).decode("utf-8").rstrip("\r\n")
            if not text:
                raise ValueError(f"{where.file} is empty")
            return text
        text = self.environ.get(where.env or "", "")
        if not text:
            raise ValueError(f"the environment variable {where.env} is not set")
        return text

    def password(self, where: Secret | None) -> bytes | None:
        """The passphrase of a key file; None for none."""
        return None if where is None else self.secret(where).encode()

    def identity(self, pair: KeyPair) -> Identity:
        """A certificate with its key."""
        password = self.password(pair.passphrase)
        return read_identity(self.path(pair.certificate), self.path(pair.key), password)

    def certificates(self, path: Path | None) -> list[x509.Certificate]:
        """All certificates of a PEM file; none without a file."""
        if path is None:
            return []
        try:
            return x509.load_pem_x509_certificates(self.path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: no certificate in PEM form") from error


def sid_file(path: Path) -> Callable[[Names], str | None]:
    """A source of SIDs: a TOML file with one for each name.

    Args:
        path: lines such as ``"upn:ann@corp.example" = "S-1-5-21-1-2-3-1104"``, names as
            ``kind:text`` or a whole subject.

    Raises:
        ValueError: not such a file.
        OSError: it can't be read.
    """
    try:
        known = tomllib.loads(path.read_text(encoding="utf-8"))
        for sid in known.values():
            check_sid(str(sid))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error

    def find(names: Names) -> str | None:
        found = (known.get(text) for text in (*names.san_texts, names.subject_text))
        return next((sid for sid in found if sid is not None), None)

    return find
