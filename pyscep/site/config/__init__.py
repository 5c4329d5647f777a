"""The configuration of a site: a file in TOML, as a model.

``load`` reads a file and refuses what it does not understand. ``building`` makes CAs and
endpoints out of the model, ``checking`` looks for what is legal and still a mistake. Only this
package imports pydantic.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from pyscep.site.config.authorities import CaConfig, GenerationConfig
from pyscep.site.config.basis import KeyPair, Secret
from pyscep.site.config.errors import ConfigError, Problem, problem_of
from pyscep.site.config.sections import (
    ChallengeConfig,
    Config,
    EndpointConfig,
    HookConfig,
    IntuneConfig,
    NdesConfig,
    OneTimeConfig,
    Policy,
    ProfileConfig,
    RenewalConfig,
    SealedConfig,
    StaticConfig,
    WebhookConfig,
)
from pyscep.site.config.server import LimitsConfig, ServerConfig

__all__ = [
    "CaConfig",
    "ChallengeConfig",
    "Config",
    "ConfigError",
    "EndpointConfig",
    "GenerationConfig",
    "HookConfig",
    "IntuneConfig",
    "KeyPair",
    "LimitsConfig",
    "NdesConfig",
    "OneTimeConfig",
    "Policy",
    "Problem",
    "ProfileConfig",
    "RenewalConfig",
    "SECTIONS",
    "SealedConfig",
    "Secret",
    "ServerConfig",
    "StaticConfig",
    "WebhookConfig",
    "load",
    "parse",
]

SECTIONS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("[server]", ServerConfig),
    ("[server.limits]", LimitsConfig),
    ("[ca.NAME]", CaConfig),
    ("[ca.NAME.ra], [ca.NAME.ra_encryption]", KeyPair),
    ("[ca.NAME.next], [[ca.NAME.previous]]", GenerationConfig),
    ("[profile.NAME]", ProfileConfig),
    ("[profile.NAME.renewal]", RenewalConfig),
    ('[challenge.NAME], kind = "one-time"', OneTimeConfig),
    ('[challenge.NAME], kind = "static"', StaticConfig),
    ('[challenge.NAME], kind = "sealed"', SealedConfig),
    ('[challenge.NAME], kind = "webhook"', WebhookConfig),
    ("[[challenge.NAME.ask]], [[challenge.NAME.notify]]", HookConfig),
    ('[challenge.NAME], kind = "intune"', IntuneConfig),
    ("[endpoint.NAME]", EndpointConfig),
    ("[endpoint.NAME.ndes]", NdesConfig),
    ("Secrets", Secret),
)
"""The tables of the file, in the order of the reference."""


def load(path: str | os.PathLike[str]) -> Config:
    """Read a configuration.

    Raises:
        ConfigError: it says which keys are wrong, and how they would be right.
        OSError: the file can't be read.
    """
    name = os.fspath(path)
    try:
        data = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(name, [Problem(key="", text=f"not TOML: {error}")]) from error
    return parse(data, name)


def parse(data: dict[str, Any], name: str = "scep.toml") -> Config:
    """A configuration from the tables of a file.

    Args:
        data: as tomllib gives it.
        name: of the file, for messages.

    Raises:
        ConfigError: as ``load``.
    """
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        found = [
            problem_of(one["type"], one["loc"], one["msg"], one.get("input"), _tables())
            for one in errors
            # A list is too short as well when what is in it was refused.
            if one["type"] != "too_short" or not _within(one["loc"], errors)
        ]
        raise ConfigError(name, found) from error
    problems = list(_references(config))
    if problems:
        raise ConfigError(name, problems)
    return config


def _within(place: tuple[str | int, ...], errors: Iterable[Mapping[str, Any]]) -> bool:
    return any(one["loc"] != place and one["loc"][: len(place)] == place for one in errors)


def _tables() -> dict[str, list[str]]:
    """Every key there is by its table, to guess which one was meant."""
    found = {title: list(model.model_fields) for title, model in SECTIONS}
    return {"[]": list(Config.model_fields)} | found


def _references(config: Config) -> list[Problem]:
    """Names that nothing has, and paths that two endpoints have."""
    problems = []
    paths: dict[str, str] = {}
    for name, endpoint in config.endpoint.items():
        here = f"endpoint.{name}"
        for key, wanted, there in (
            ("ca", (endpoint.ca,), config.ca),
            ("profiles", endpoint.profiles, config.profile),
            ("challenges", endpoint.challenges, config.challenge),
        ):
            section = key.rstrip("s")
            problems += [
                Problem(
                    key=f"{here}.{key}",
                    text=f"there is no [{section}.{one}]: there is {', '.join(there) or 'none'}",
                )
                for one in wanted
                if one not in there
            ]
        folded = endpoint.path.rstrip("/").lower()
        if folded in paths:
            problems.append(
                Problem(
                    key=f"{here}.path",
                    text=f"the path of endpoint.{paths[folded]}, too: give each its own",
                )
            )
        paths[folded] = name
        if endpoint.kind != "ndes" and endpoint.ndes != NdesConfig():
            problems.append(Problem(key=f"{here}.ndes", text='only for kind = "ndes"'))
        if folded in _PAGES:
            problems.append(
                Problem(key=f"{here}.path", text="the server itself answers there: take another")
            )
        if not problems:
            problems += _judges(config, here, endpoint)
    return problems


_PAGES: Final = ("/healthz", "/readyz", "/metrics")


def _judges(config: Config, here: str, endpoint: EndpointConfig) -> Iterator[Problem]:
    """What does not go with those who are asked about a challenge and told of the end."""
    asked = [config.challenge[one] for one in endpoint.challenges]
    for kind in (IntuneConfig, WebhookConfig):
        if sum(isinstance(one, kind) for one in asked) > 1:
            # What became of a request is told to all judges of the kind that let it in.
            yield Problem(
                key=f"{here}.challenges",
                text="only one challenge of its kind can be told what became of a request: give "
                "the other an endpoint of its own",
            )
    if any(isinstance(one, IntuneConfig) for one in asked):
        for name in endpoint.profiles:
            if config.profile[name].approval == "manual":
                yield Problem(
                    key=f"{here}.profiles",
                    text=f"profile.{name} has requests wait for approval, and when that comes "
                    "there is no request left that Intune could be notified of; set its "
                    'approval = "automatic"',
                )
