"""``pyscep intune``: what a CA that Intune judges for needs beside its server."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyscep.cli.config import read_config
from pyscep.cli.place import Place, opened
from pyscep.cli.problems import TRANSPORT, Failed, visible
from pyscep.cli.serve import directory_option
from pyscep.cli.session import Output, json_option

if TYPE_CHECKING:
    from pyscep.integrations.intune import IntuneSettings

config_option = click.option(
    "--config",
    required=True,
    metavar="FILE",
    help="TOML with tenant, client_id, and client_secret_file or certificate_file and key_file; "
    "or the configuration of a site that names such a file (see `pyscep config`).",
)
endpoint_option = click.option(
    "--endpoint", metavar="NAME", help="Which endpoint, where --config is that of a site."
)


@click.group("intune")
def intune_command() -> None:
    """Work with Microsoft Intune as a third-party CA. Needs the packages msal and httpx.

    With --json behind its name, each command answers with one JSON object.

    \b
    Examples:
      pyscep intune check --config intune.toml
      pyscep intune revocations --config intune.toml --directory /var/lib/pyscep
      pyscep intune revocations --config scep.toml
    """


@intune_command.command("check")
@config_option
@endpoint_option
@json_option
def check_command(out: Output, config: str, endpoint: str | None) -> None:
    """Get a token and the list of services: shows whether the app registration is right."""
    from pyscep.integrations.intune import IntuneClient
    from pyscep.integrations.intune.client import REVOCATION, VALIDATION
    from pyscep.integrations.web import ServiceUnavailable

    settings, _ = _settings(config, endpoint)
    with IntuneClient(settings) as client:
        try:
            services = client.services()
        except ServiceUnavailable as error:
            raise _unavailable(error) from error
    missing = [name for name in (VALIDATION, REVOCATION) if name.lower() not in services]
    if missing:
        raise Failed(
            f"the tenant lists no {', '.join(missing)}: look at its Intune license and at the "
            "permission scep_challenge_provider of the app registration",
            code="intune",
            exit_code=TRANSPORT,
        )
    found = {name: services[name.lower()] for name in (VALIDATION, REVOCATION)}
    lines = [f"{name}: {visible(uri)}" for name, uri in found.items()]
    out.result({"services": found}, "\n".join(lines))


@intune_command.command("revocations")
@config_option
@endpoint_option
@directory_option
@click.option(
    "--max-requests",
    type=click.IntRange(1, 500),
    default=100,
    show_default=True,
    help="How many to ask for; after each download Intune answers with none for an hour.",
)
@click.option(
    "--issuer-name", metavar="TEXT", help="What Intune was told as the issuer; default: the CN."
)
@json_option
def revocations_command(
    out: Output,
    config: str,
    endpoint: str | None,
    directory: str,
    max_requests: int,
    issuer_name: str | None,
) -> None:
    """Revoke what Intune wants revoked, and tell it. Run it once an hour, from a timer.

    With the configuration of a site, the CA is that of its endpoint, and --directory is not
    looked at.

    Also revokes certificates that were kept back for more than an hour because Intune could
    not be told of them.
    """
    from pyscep.integrations.intune import IntuneClient, process_revocations
    from pyscep.integrations.web import ServiceUnavailable

    settings, site = _settings(config, endpoint)
    with opened(site or Place(directory=directory)) as ca, IntuneClient(settings) as client:
        name = issuer_name or settings.issuer_name or ca.issuer.common_name
        try:
            summary = process_revocations(client, ca, issuer_name=name, max_requests=max_requests)
        except ServiceUnavailable as error:
            raise _unavailable(error) from error
    data: dict[str, Any] = {
        "asked": summary.asked,
        "revoked": [f"{serial:x}" for serial in summary.revoked],
        "failed": [
            {"context": one.context, "error": one.error.name, "message": one.message}
            for one in summary.failed
        ],
        "unreleased": [f"{serial:x}" for serial in summary.unreleased],
    }
    lines = [f"{summary.asked} asked for, {len(summary.revoked)} revoked"]
    lines += [
        f"not revoked: {visible(one.context)}: {one.error.name}: {one.message}"
        for one in summary.failed
    ]
    lines += [
        f"revoked, because Intune never heard of it: {serial:x}" for serial in summary.unreleased
    ]
    out.result(data, "\n".join(lines))


def _settings(path: str, endpoint: str | None) -> tuple[IntuneSettings, Place | None]:
    """The settings in a file, or in the one that a site's configuration names, with its CA."""
    from pyscep.integrations.intune import load_settings

    try:
        with Path(path).open("rb") as file:
            of_site = "endpoint" in tomllib.load(file)
        if of_site:
            name, settings = _of_site(path, endpoint)
            place = Place(directory="", config=path, endpoint=name)
            return load_settings(settings), place
        if endpoint is not None:
            raise Failed("--endpoint goes with the configuration of a site")
        return load_settings(path), None
    except ValueError as error:
        raise Failed(str(error), code="intune") from error


def _of_site(path: str, name: str | None) -> tuple[str, str]:
    """The endpoint of a site that Intune judges for, and the file of its settings."""
    config, builder = read_config(path)
    builder.close()
    found: dict[str, str] = {}
    for endpoint, section in config.endpoint.items():
        for one in section.challenges:
            challenge = config.challenge[one]
            if challenge.kind == "intune":
                found[endpoint] = str(builder.files.path(challenge.settings))
    if name is None and len(found) > 1:
        raise Failed(f"say which endpoint: --endpoint {' or '.join(found)}")
    if not found or (name is not None and name not in found):
        which = "none of its endpoints" if name is None else f"the endpoint {name!a} is none that"
        raise Failed(f"{path}: {which} has a challenge of the kind intune", code="intune")
    name = name or next(iter(found))
    return name, found[name]


def _unavailable(error: Exception) -> Failed:
    return Failed(visible(str(error)), code="intune", exit_code=TRANSPORT)
