"""``pyscep intune``: what a CA that Intune judges for needs beside its server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

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
    help="TOML with tenant, client_id, and client_secret_file or certificate_file and key_file.",
)


@click.group("intune")
def intune_command() -> None:
    """Work with Microsoft Intune as a third-party CA. Needs the packages msal and httpx.

    With --json behind its name, each command answers with one JSON object.

    \b
    Examples:
      pyscep intune check --config intune.toml
      pyscep intune revocations --config intune.toml --directory /var/lib/pyscep
    """


@intune_command.command("check")
@config_option
@json_option
def check_command(out: Output, config: str) -> None:
    """Get a token and the list of services: shows whether the app registration is right."""
    from pyscep.integrations.intune import IntuneClient
    from pyscep.integrations.intune.client import REVOCATION, VALIDATION
    from pyscep.integrations.web import ServiceUnavailable

    with IntuneClient(_settings(config)) as client:
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
    out: Output, config: str, directory: str, max_requests: int, issuer_name: str | None
) -> None:
    """Revoke what Intune wants revoked, and tell it. Run it once an hour, from a timer.

    Also revokes certificates that were kept back for more than an hour because Intune could
    not be told of them.
    """
    from pyscep.integrations.intune import IntuneClient, process_revocations
    from pyscep.integrations.web import ServiceUnavailable

    settings = _settings(config)
    with opened(Place(directory=directory)) as ca, IntuneClient(settings) as client:
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


def _settings(path: str) -> IntuneSettings:
    from pyscep.integrations.intune import load_settings

    try:
        return load_settings(path)
    except ValueError as error:
        raise Failed(str(error), code="intune") from error


def _unavailable(error: Exception) -> Failed:
    return Failed(visible(str(error)), code="intune", exit_code=TRANSPORT)
