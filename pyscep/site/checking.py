"""What is legal in a configuration and still likely a mistake."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

from pyscep.ca import Profile, lineage
from pyscep.ca.challenge import utc_now
from pyscep.ca.strong_mapping import SID_URI_SCHEME
from pyscep.site.authorities import Authority
from pyscep.site.building import Builder
from pyscep.site.config import (
    Config,
    ConfigError,
    EndpointConfig,
    IntuneConfig,
    StaticConfig,
)
from pyscep.site.endpoints import OpenSite, policy_of
from pyscep.site.ndes_registry import from_registry
from pyscep.site.serve import WEAK_POLICIES

_PASSWORD: Final = re.compile(r"[^/]+://[^/@]*:[^/@]+@")
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
SHORT_VALIDITY: Final = timedelta(days=5)
"""Under this, Intune's devices renew late or never, and a weekend is enough to lose one."""


SHORT_AGENT: Final = timedelta(days=30)
"""From when on an RA that ends before its CA is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about one key."""

    level: Literal["error", "warning"]
    key: str
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.key}: {self.text}"


def check(config: Config, builder: Builder, now: datetime | None = None) -> tuple[Finding, ...]:
    """Open everything that a configuration names, and look at it.

    Databases are made where they are missing, as by serving. Everything is closed again.

    Args:
        config: the model.
        builder: of the same model.
        now: for telling what has expired; the present time by default.

    Returns:
        What was found; errors keep the site from being served.
    """
    try:
        with OpenSite(config, builder) as site:
            profiles = {name: builder.profile(name) for name in config.profile}
            authorities = {name: builder.authority(name) for name in config.ca}
            findings = list(_of_endpoints(config, profiles))
            findings += _of_intune_names(config, builder)
            findings += _of_profiles(config, profiles)
            for name, authority in authorities.items():
                findings += _of_ca(
                    f"ca.{name}",
                    authority,
                    max(profile.validity for profile in profiles.values()),
                    now or utc_now(),
                    revocation=config.ca[name].revocation,
                )
                findings += _of_addresses(config, name)
                findings += _of_kept_addresses(config, builder, name)
                findings += _of_database(f"ca.{name}.database", config.ca[name].database)
            for one in site.endpoints:
                top = one.ca.ca_certificates[-1]
                if one.config.ca_certificates == "chain" and top.subject != top.issuer:
                    findings.append(
                        _warning(
                            f"ca.{one.config.ca}",
                            "the chain has no root in it, which Android and iOS want to see; "
                            "append it to the certificate file",
                        )
                    )
    except ConfigError as error:
        return tuple(
            Finding(level="error", key=problem.key, text=problem.text) for problem in error.problems
        )
    return tuple(dict.fromkeys(findings))


def _of_profiles(config: Config, profiles: dict[str, Profile]) -> Iterator[Finding]:
    used = {name for endpoint in config.endpoint.values() for name in endpoint.profiles}
    for name, profile in profiles.items():
        key = f"profile.{name}"
        if profile.validity < SHORT_VALIDITY:
            yield _warning(
                f"{key}.validity_days", "under 5 days, Intune's devices don't renew in time"
            )
        elif profile.validity_source == "request":
            yield _warning(
                f"{key}.validity_source",
                "requests may ask for less than 5 days, and Intune's devices don't renew then",
            )
        if "clientAuth" not in profile.extended_key_usage:
            yield _warning(
                f"{key}.extended_key_usage",
                "without clientAuth a certificate can pass for an RA's with SCEP clients",
            )
        if name not in used and "profile" in config.model_fields_set:
            yield _warning(key, "no endpoint uses it")


def _of_ca(
    key: str, authority: Authority, longest: timedelta, now: datetime, *, revocation: bool
) -> Iterator[Finding]:
    left = authority.issuer.certificate.not_valid_after_utc - now
    if left <= timedelta(0):
        yield Finding(level="error", key=f"{key}.certificate", text="the CA has expired")
    elif left < longest:
        text = f"the CA ends in {left.days} days, and certificates are cut short at its end"
        if authority.next is None:
            text += "; let another one follow it (RFC 8894 section 4.7)"
        yield _warning(f"{key}.certificate", text)
    current = authority.current
    for name, agent in (("ra", current.recipient), ("ra_encryption", current.encryption)):
        if agent is None:
            continue
        rest = agent.certificate.not_valid_after_utc - now
        if rest <= timedelta(0) < left:
            yield Finding(
                level="error",
                key=f"{key}.{name}",
                text="the RA's certificate has expired, and clients refuse it: issue another one",
            )
        elif rest < SHORT_AGENT and rest < left:
            yield _warning(
                f"{key}.{name}",
                f"the RA's certificate ends in {rest.days} days, and clients refuse it then: issue "
                "another one",
            )
    if not revocation:
        yield _warning(
            f"{key}.revocation",
            "certificates will not say where the CRL is; Windows refuses such chains for logon",
        )


def _of_kept_addresses(config: Config, builder: Builder, name: str) -> Iterator[Finding]:
    """What `pyscep serve --base-url` has put into certificates."""
    ca = config.ca[name]
    if ca.directory is None:
        return
    base_url = lineage.read(builder.files.path(ca.directory)).base_url
    kept = f"{base_url}/crl/ca.crl"
    if base_url is not None and kept not in ca.crl_urls:
        yield _warning(
            f"ca.{name}.crl_urls",
            f"certificates of `pyscep serve --base-url` name {kept}: call this table [ca.ca], and "
            "give that address",
        )


def _of_database(key: str, url: str | None) -> Iterator[Finding]:
    if _PASSWORD.match(url or ""):
        yield _warning(
            key, "the password stands in this file: leave it out, libpq reads PGPASSFILE"
        )


def _of_addresses(config: Config, name: str) -> Iterator[Finding]:
    """Addresses in certificates that lead nowhere."""
    ca, server = config.ca[name], config.server
    documents = (
        ("crl_urls", ca.crl_urls, "crl", "crl"),
        ("issuer_urls", ca.issuer_urls, "aia", "cer"),
    )
    for key, urls, folder, end in documents:
        for url in urls:
            parts = urlsplit(url)
            here = parts.hostname in _LOOPBACK
            if here and server.host not in _LOOPBACK:
                yield _warning(
                    f"ca.{name}.{key}",
                    f"{url} leads to whoever reads the certificate: put this server's name there",
                )
            published = f"/{folder}/{name}.{end}" if server.publish else "nothing"
            path = re.sub(r"\.crt$", ".cer", parts.path)
            if here and parts.port == server.port and path != published:
                yield _warning(
                    f"ca.{name}.{key}",
                    f"this server has nothing at {url}: it publishes {published}",
                )


def _of_endpoints(config: Config, profiles: dict[str, Profile]) -> Iterator[Finding]:
    for name, endpoint in config.endpoint.items():
        key = f"endpoint.{name}"
        policy = policy_of(config, endpoint)
        if policy in WEAK_POLICIES:
            yield _warning(f"{key}.policy", f"{policy}: {WEAK_POLICIES[policy]}")
        chosen = [profiles[one] for one in endpoint.profiles]
        if (
            endpoint.kind == "scep"
            and not endpoint.challenges
            and chosen[0].challenge == "required"
        ):
            yield _warning(
                f"{key}.challenges", "there are none: nobody new can enroll, only renewals can"
            )
        yield from _of_names(key, config, endpoint, chosen)
        if any(isinstance(config.challenge[one], IntuneConfig) for one in endpoint.challenges):
            yield from _of_intune(config, endpoint, chosen)
        for setting in from_registry(endpoint.ndes.registry).without_effect:
            yield _warning(f"{key}.ndes.registry.{setting}", "it has no effect here")
        if not any(profile.purpose in ("any", "both") for profile in chosen):
            yield _warning(
                f"{key}.profiles",
                "none of them is for requests without key usage: such requests are refused",
            )


def _of_names(
    key: str, config: Config, endpoint: EndpointConfig, profiles: list[Profile]
) -> Iterator[Finding]:
    shared = [one for one in endpoint.challenges if isinstance(config.challenge[one], StaticConfig)]
    for profile in profiles:
        if shared and SID_URI_SCHEME in profile.uri_schemes:
            yield _warning(
                f"{key}.challenges",
                f"whoever has the static challenge {shared[0]} can name any SID with the profile "
                f"{profile.name}, and is that user for Windows",
            )


def _of_intune(
    config: Config, endpoint: EndpointConfig, profiles: list[Profile]
) -> Iterator[Finding]:
    for profile in profiles:
        if SID_URI_SCHEME not in profile.uri_schemes:
            yield _warning(
                f"profile.{profile.name}.uri_schemes",
                "no `tag` among them: the SID by which Windows knows a user would be left out of "
                'certificates of Intune\'s devices; take preset = "intune"',
            )
        if profile.challenge == "optional":
            yield _warning(
                f"profile.{profile.name}.challenge",
                "who leaves the challenge out passes Intune by, once somebody approves",
            )
    if not config.ca[endpoint.ca].revocation:
        yield _warning(
            f"ca.{endpoint.ca}.revocation",
            "Intune has certificates revoked when a device leaves, and nobody would see it",
        )


def _of_intune_names(config: Config, builder: Builder) -> Iterator[Finding]:
    """Intune is asked for revocations by a name, which must not change with the CA."""
    for endpoint in config.endpoint.values():
        authority = builder.authority(endpoint.ca)
        names = {one.issuer.common_name for one in authority.generations}
        first = (authority.previous or (authority.current,))[-1].issuer.common_name
        for name in endpoint.challenges:
            challenge = config.challenge[name]
            if len(names) == 1 or not isinstance(challenge, IntuneConfig):
                continue
            from pyscep.integrations.intune import load_settings

            path = str(builder.files.path(challenge.settings))
            if not load_settings(path, builder.files.environ).issuer_name:
                yield _warning(
                    f"challenge.{name}.settings",
                    "Intune knows certificates by the CN of their CA, which another CA changes: "
                    f"give issuer_name = {json.dumps(first, ensure_ascii=False)} there",
                )


def _warning(key: str, text: str) -> Finding:
    return Finding(level="warning", key=key, text=text)
