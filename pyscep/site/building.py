"""CAs, stores, profiles and challenges out of a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from pyscep.ca import (
    CertificateAuthority,
    ChallengeProvider,
    FirstOf,
    Profile,
    RenewalRules,
    Store,
)
from pyscep.ca.challenge import utc_now
from pyscep.ca.presets import PRESETS
from pyscep.site.authorities import Authority, open_authority
from pyscep.site.config import (
    Config,
    ConfigError,
    EndpointConfig,
    OneTimeConfig,
    Problem,
    ProfileConfig,
    ServerConfig,
)
from pyscep.site.files import Files, sid_file
from pyscep.site.limits import RateLimit, SourceLimits
from pyscep.site.operations import Operations
from pyscep.site.providers import NoChallenges, provider


def operations_of(
    config: ServerConfig, trusted_proxies: Iterable[str] = (), workers: int = 1
) -> Operations:
    """Limits, numbers and health as ``[server]`` wants them.

    Args:
        config: the table.
        trusted_proxies: more of them.
        workers: processes that share the work. Each counts on its own and lets in its share.

    Raises:
        ValueError: one of these is no network.
    """
    limits = config.limits
    rate = RateLimit(
        rate=limits.rate_per_second,
        burst=limits.burst,
        failure_cost=limits.failure_cost,
        max_delay=limits.max_delay_seconds,
        max_concurrent=limits.max_concurrent,
        max_sources=limits.max_sources,
    )
    return Operations(
        limits=SourceLimits(rate.shared_by(workers)) if limits.per_source else None,
        trusted_proxies=(*config.trusted_proxies, *trusted_proxies),
        forwarded_header=config.forwarded_header,
        metrics_from=config.metrics_from,
        max_pending=limits.max_pending,
        retry_after=limits.retry_after_seconds,
        max_connections=limits.max_connections if limits.per_source else None,
    )


T = TypeVar("T")


class Builder:
    """Opens what a configuration names, each thing once.

    Args:
        config: the model.
        base: the directory that relative paths begin at, that of the file.
        environ: where secrets by ``env`` are looked up.
        now: the clock.
        name: of the file, for messages.
    """

    def __init__(
        self,
        config: Config,
        base: str | os.PathLike[str] = ".",
        *,
        environ: Mapping[str, str] = os.environ,
        now: Callable[[], datetime] = utc_now,
        name: str = "scep.toml",
    ) -> None:
        self.config = config
        self.name = name
        self.files = Files(base, environ)
        self._now = now
        self._stack = ExitStack()
        self._stores: dict[str, Store] = {}
        self._authorities: dict[str, Authority] = {}
        self._profiles: dict[str, Profile] = {}

    def authority(self, name: str) -> Authority:
        """The CA ``ca.<name>``.

        Raises:
            ConfigError: a key file, certificate or database that can't be used.
        """
        if name not in self._authorities:
            self._authorities[name] = self.guard(
                f"ca.{name}",
                lambda: open_authority(
                    name, self.config.ca[name], self.files, self._store, self._now
                ),
            )
        return self._authorities[name]

    def profile(self, name: str) -> Profile:
        """The profile ``profile.<name>``.

        Raises:
            ConfigError: settings that make no sense.
        """
        if name not in self._profiles:
            self._profiles[name] = self.guard(
                f"profile.{name}", lambda: self._make_profile(name, self.config.profile[name])
            )
        return self._profiles[name]

    def certificate_authority(
        self,
        name: str,
        *,
        challenge: ChallengeProvider | None = None,
        profiles: Iterable[Profile] = (),
        redelivery: timedelta | None = None,
    ) -> CertificateAuthority:
        """What decides at the endpoint ``endpoint.<name>``.

        Args:
            name: of the endpoint.
            challenge: instead of those that the configuration names.
            profiles: likewise.
            redelivery: likewise.

        Raises:
            ConfigError: what it needs can't be opened.
        """
        endpoint = self.config.endpoint[name]
        authority = self.authority(endpoint.ca)
        found = list(profiles) or [self.profile(one) for one in endpoint.profiles]
        judge = challenge or self.challenges(endpoint)
        window = self.redelivery(endpoint) if redelivery is None else redelivery
        return self.guard(
            f"endpoint.{name}",
            lambda: CertificateAuthority(
                store=authority.store,
                issuer=authority.current,
                next_ca=authority.next,
                previous_cas=authority.previous,
                profiles=found,
                challenge=judge,
                endpoint=name,
                trusted_renewal_issuers=self.files.certificates(endpoint.trusted_renewal_issuers),
                legacy_renewal=endpoint.legacy_renewal,
                redelivery=window,
                public_certificates=endpoint.public_certificates,
                now=self._now,
            ),
        )

    def challenges(self, endpoint: EndpointConfig) -> ChallengeProvider:
        """The providers that an endpoint names, as one.

        Raises:
            ConfigError: a file, a secret or an extra package that is missing.
        """
        authority = self.authority(endpoint.ca)
        # The first one makes challenges when asked for one: a one-time provider, if any.
        chosen = sorted(
            endpoint.challenges,
            key=lambda name: not isinstance(self.config.challenge[name], OneTimeConfig),
        )
        providers = [
            self.guard(f"challenge.{name}", partial(self._provider, name, authority))
            for name in chosen
        ]
        if not providers:
            return NoChallenges()
        return providers[0] if len(providers) == 1 else FirstOf(*providers)

    @staticmethod
    def redelivery(endpoint: EndpointConfig) -> timedelta:
        """How long the same request gets the same certificate there."""
        return timedelta(minutes=endpoint.redelivery_minutes)

    def close(self) -> None:
        """Close stores and connections."""
        self._stack.close()

    def _store(self, url: str | None, default: Path) -> Store:
        if url is None:
            url = f"sqlite:///{default.absolute()}"
        elif url.startswith(_RELATIVE) and not url.startswith(f"{_RELATIVE}/"):
            url = f"{_RELATIVE}{(self.files.base / url.removeprefix(_RELATIVE)).absolute()}"
        if url not in self._stores:
            try:
                store = Store(url)
            except Exception as error:  # SQLAlchemy's, a driver's, or that there is no driver
                reason = str(error).partition("\n")[0]
                raise ValueError(f"the database can't be opened: {reason}") from error
            self._stack.callback(store.close)
            self._stores[url] = store
        return self._stores[url]

    def _make_profile(self, name: str, config: ProfileConfig) -> Profile:
        changes: dict[str, Any] = {"name": name}
        for key in config.model_fields_set - _TRANSLATED:
            changes[key] = getattr(config, key)
        given = config.model_fields_set
        if "validity_days" in given:
            changes["validity"] = timedelta(days=config.validity_days)
        if "backdate_hours" in given:
            changes["backdate"] = timedelta(hours=config.backdate_hours)
        if "patterns" in given:
            changes["patterns"] = tuple(config.patterns.items())
        if config.subject_types:
            changes["subject_types"] = config.subject_types
        if config.sids is not None:
            changes["security_identifier"] = sid_file(self.files.path(config.sids))
        rules = config.renewal
        changes["renewal"] = RenewalRules(
            allowed=rules.allowed,
            same_key=rules.same_key,
            window=None if rules.window_days is None else timedelta(days=rules.window_days),
            grace=timedelta(days=rules.grace_days),
            subject_change=rules.subject_change,
            approval=rules.approval,
        )
        return replace(PRESETS[config.preset], **changes)

    def _provider(self, name: str, authority: Authority) -> ChallengeProvider:
        return provider(
            self.config.challenge[name],
            issuer_name=authority.issuer.common_name,
            store=authority.store,
            files=self.files,
            stack=self._stack,
            now=self._now,
        )

    def guard(self, key: str, work: Callable[[], T]) -> T:
        """Do it, and name the table of the configuration in whatever goes wrong.

        Raises:
            ConfigError: instead of ValueError and OSError.
        """
        try:
            return work()
        except ConfigError:
            raise  # of an inner table, which is named in it
        except (ValueError, OSError) as error:
            raise ConfigError(self.name, [Problem(key=key, text=str(error))]) from error


_RELATIVE: Final = "sqlite:///"
_TRANSLATED: Final = frozenset(
    ("preset", "validity_days", "backdate_hours", "patterns", "subject_types", "sids", "renewal")
)
