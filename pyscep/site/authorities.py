"""The CAs of a configuration: their key files, and who follows whom."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pyscep.ca import Generation, Issuer, Store
from pyscep.ca import directory as ca_directory
from pyscep.ca.administration import PublishedCa
from pyscep.ca.revocation import RevocationList
from pyscep.identity import Identity
from pyscep.site.config import CaConfig, GenerationConfig, KeyPair
from pyscep.site.files import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """One CA of the configuration, opened: what its endpoints share."""

    current: Generation
    next: Generation | None
    previous: tuple[Generation, ...]
    store: Store
    now: Callable[[], datetime]

    @property
    def issuer(self) -> Issuer:
        """The present CA."""
        return self.current.issuer

    @property
    def generations(self) -> tuple[Generation, ...]:
        """The present one, the next one, those before."""
        return self.current, *(() if self.next is None else (self.next,)), *self.previous

    def published(self) -> Iterator[tuple[str, PublishedCa]]:
        """What is published of each, with its name in the addresses."""
        for one in self.generations:
            revocation = RevocationList(store=self.store, issuer=one.issuer)
            yield one.name, PublishedCa(generation=one, revocation=revocation, now=self.now)


def open_authority(
    name: str,
    config: CaConfig,
    files: Files,
    store: Callable[[str | None, Path], Store],
    now: Callable[[], datetime],
) -> Authority:
    """Open a CA of the configuration.

    Args:
        name: of its table.
        config: its table.
        files: reads keys and certificates.
        store: opens a database by its URL, or else in a file.
        now: the clock.

    Raises:
        ValueError: a file or the database can't be used.
        OSError: a file can't be read.
    """
    following: Generation | None = None
    if config.directory is not None:
        place = files.path(config.directory)
        current, following, previous = _from_directory(name, config, place, files)
        default = place / "scep.db"
    else:
        current = _from_files(name, config, config, files)
        if (one := config.next) is not None:
            following = _from_files(one.name, one, config, files)
        previous = [_from_files(one.name, one, config, files) for one in config.previous]
        default = files.base / "scep.db"
    return Authority(
        current=current,
        next=following,
        previous=tuple(previous),
        store=store(config.database, default),
        now=now,
    )


def _from_directory(
    name: str, config: CaConfig, place: Path, files: Files
) -> tuple[Generation, Generation | None, list[Generation]]:
    try:
        found = ca_directory.load(place, password=files.password(config.passphrase))
    except FileNotFoundError as error:
        raise ValueError(
            f"{error}: make one with `pyscep config init --directory {place}`"
        ) from error

    def generation(one: ca_directory.CaFiles) -> Generation:
        # It is called ca, ca-2 and so on there.
        public = name + one.name.removeprefix("ca")
        crl, aia = (_moved(urls, name, public) for urls in (config.crl_urls, config.issuer_urls))
        return replace(one.generation(_issuer(one.ca, config, crl, aia)), name=public)

    following = None if found.next is None else generation(found.next)
    return generation(found), following, [generation(one) for one in found.previous]


def _from_files(
    name: str, one: CaConfig | GenerationConfig, config: CaConfig, files: Files
) -> Generation:
    pair = KeyPair(
        certificate=one.certificate or Path(), key=one.key or Path(), passphrase=one.passphrase
    )
    return Generation(
        issuer=_issuer(files.identity(pair), config, one.crl_urls, one.issuer_urls),
        recipient=None if one.ra is None else files.identity(one.ra),
        encryption=None if one.ra_encryption is None else files.identity(one.ra_encryption),
        name=one.name or name,
    )


def _issuer(
    identity: Identity,
    config: CaConfig,
    crl_urls: tuple[str, ...],
    issuer_urls: tuple[str, ...],
) -> Issuer:
    return Issuer(
        identity,
        digest=config.digest,
        crl_lifetime=timedelta(hours=config.crl_lifetime_hours),
        crl_urls=crl_urls,
        issuer_urls=issuer_urls,
    )


def _moved(urls: tuple[str, ...], name: str, public: str) -> tuple[str, ...]:
    """The addresses of another CA in the same directory.

    Raises:
        ValueError: it would have the same as the first one.
    """
    if public == name:
        return urls
    found = tuple(
        re.sub(rf"/{re.escape(name)}\.(crl|cer|crt)\Z", rf"/{public}.\1", url) for url in urls
    )
    if same := set(urls) & set(found):
        raise ValueError(
            f"{public} would have the address of the CA before, {min(same)}: give addresses that "
            f"end in /{name}.crl and /{name}.cer"
        )
    return found
