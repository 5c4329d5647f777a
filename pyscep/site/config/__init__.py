"""The configuration of a site: a file in TOML, as a model.

``load`` reads a file and refuses what it does not understand. ``building`` makes CAs and
endpoints out of the model, ``checking`` looks for what is legal and still a mistake. Only this
package imports pydantic.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from pyscep.site.config.errors import ConfigError, Problem, problem_of
from pyscep.site.config.sections import (
    CaConfig,
    ChallengeConfig,
    Config,
    EndpointConfig,
    HookConfig,
    IntuneConfig,
    KeyPair,
    NdesConfig,
    OneTimeConfig,
    ProfileConfig,
    RenewalConfig,
    SealedConfig,
    Secret,
    ServerConfig,
    StaticConfig,
    WebhookConfig,
)

__all__ = [
    "CaConfig",
    "ChallengeConfig",
    "Config",
    "ConfigError",
    "EndpointConfig",
    "HookConfig",
    "IntuneConfig",
    "KeyPair",
    "NdesConfig",
    "OneTimeConfig",
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
    ("[ca.NAME]", CaConfig),
    ("[ca.NAME.ra], [ca.NAME.ra_encryption]", KeyPair),
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
            problem_of(one["type"], one["loc"], one["msg"], one.get("input"), _known())
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


def _known() -> list[str]:
    """Every key there is, to guess which one was meant."""
    models: list[type[BaseModel]] = [Config, *(model for _, model in SECTIONS)]
    return sorted({key for model in models for key in model.model_fields})


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
    return problems
