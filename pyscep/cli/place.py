"""Which CA a command of its operators is about: a directory's, or an endpoint's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pyscep.cli.problems import Failed
from pyscep.cli.serve import ca_password, directory_option

if TYPE_CHECKING:
    from pyscep.ca import CertificateAuthority


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a CA is."""

    directory: str
    config: str | None = None
    endpoint: str | None = None
    """Of the configuration; needed where it has several."""


def place_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --directory, --config and --endpoint, and hand the command a Place as ``place``."""

    @directory_option
    @click.option(
        "--config", metavar="FILE", help="A configuration, instead of --directory; see --endpoint."
    )
    @click.option("--endpoint", metavar="NAME", help="Which endpoint of the configuration.")
    @functools.wraps(function)
    def command(
        *args: Any, directory: str, config: str | None, endpoint: str | None, **options: Any
    ) -> Any:
        place = Place(directory=directory, config=config, endpoint=endpoint)
        return function(*args, place=place, **options)

    wrapped: Callable[..., Any] = command
    return wrapped


@contextmanager
def opened(place: Place) -> Iterator[CertificateAuthority]:
    """The CA of a place, which must be there.

    Raises:
        Failed: there is none, or it can't be used.
    """
    if place.config is not None:
        with _configured(place.config, place.endpoint) as ca:
            yield ca
        return
    if place.endpoint is not None:
        raise Failed("--endpoint goes with --config")
    from pyscep.ca import CertificateAuthority

    directory = place.directory
    try:
        ca = CertificateAuthority.load(directory, password=ca_password())
    except FileNotFoundError:
        raise Failed(
            f"there is no CA in {directory}: `pyscep serve --directory {directory}` makes one",
            code="ca",
        ) from None
    except ValueError as error:
        raise Failed(str(error), code="ca") from error
    with ca:
        yield ca


@contextmanager
def _configured(path: str, name: str | None) -> Iterator[CertificateAuthority]:
    from pyscep.cli.config import config_failed, read_config

    config, builder = read_config(path)
    from pyscep.site.config import ConfigError
    from pyscep.site.endpoints import KINDS

    names = list(config.endpoint)
    if name is None and len(names) > 1:
        raise Failed(f"say which endpoint: --endpoint {' or '.join(names)}")
    name = name or names[0]
    if name not in names:
        raise Failed(f"there is no endpoint {name!a} in {path}: there is {', '.join(names)}")
    try:
        endpoint = config.endpoint[name]
        found = KINDS[endpoint.kind](name, endpoint, builder, None)
        yield found.ca
    except ConfigError as error:
        raise config_failed(error) from error
    finally:
        builder.close()
