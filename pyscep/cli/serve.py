"""``pyscep serve``: a CA on this machine, without configuration."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyscep.cli import files
from pyscep.cli.problems import Failed
from pyscep.cli.serve_socket import Served, event_printer, listen
from pyscep.cli.session import POLICIES, Output, json_option

if TYPE_CHECKING:
    from pyscep.ca import CertificateAuthority
    from pyscep.site.operations import Operations
    from pyscep.site.serve import ServeSettings

DIRECTORY = "pyscep-ca"


def directory_option(function: Any) -> Any:
    """Add where the CA is."""
    return click.option(
        "--directory",
        metavar="DIR",
        default=DIRECTORY,
        show_default=True,
        help="Keys, certificates and database of the CA.",
    )(function)


def ca_password() -> bytes | None:
    """The password of the CA's key files, from the environment."""
    word = os.environ.get("PYSCEP_CA_PASSWORD")
    return word.encode() if word else None


@click.command("serve")
@click.option(
    "--config",
    metavar="FILE",
    help="Serve the endpoints of a configuration (see `pyscep config`). Only --host, --port, "
    "--workers, --trusted-proxy and --json go with it.",
)
@directory_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default="modern",
    show_default=True,
    help="modern: SHA-2 and AES. compatible: also SHA-1 and 3DES. legacy: also MD5 and "
    "single DES (micromdm's scepclient, old Cisco).",
)
@click.option(
    "--topology",
    type=click.Choice(("ra", "ca")),
    default="ra",
    show_default=True,
    help="Who talks to clients: an RA certificate, or the CA's own key. Counts when the CA is "
    "made.",
)
@click.option(
    "--approval",
    type=click.Choice(("automatic", "manual")),
    default="automatic",
    show_default=True,
    help="manual: a new device waits for `pyscep approve`; renewals do not.",
)
@click.option(
    "--static-challenge-file",
    metavar="FILE",
    help="Also accept the challenge in FILE, from any device, any number of times. Or set "
    "PYSCEP_STATIC_CHALLENGE.",
)
@click.option(
    "--allow-anyone",
    is_flag=True,
    help="Open enrollment: every challenge is right, and a request without one waits for "
    "approval. Whoever reaches the port gets a certificate.",
)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    metavar="NETWORK",
    multiple=True,
    help="A reverse proxy, as address or network, whose X-Forwarded-For is believed. May be "
    "given several times.",
)
@click.option(
    "--base-url",
    metavar="URL",
    help="Where clients and whoever checks certificates reach this server by http, such as "
    "http://pki.example:8080, or `auto` for --host and --port. Certificates then name the "
    "addresses of CRL and CA certificate below it: without them Windows refuses the chain, and "
    "nobody sees a revocation. Kept in DIR for the next time.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that answer, on one port and one store; one for each processor is enough.",
)
@json_option
@click.pass_context
def serve_command(
    context: click.Context,
    out: Output,
    config: str | None,
    directory: str,
    host: str,
    port: int,
    policy: Any,
    topology: Any,
    approval: Any,
    static_challenge_file: str | None,
    allow_anyone: bool,
    trusted_proxies: tuple[str, ...],
    base_url: str | None,
    workers: int,
) -> None:
    """Run a CA, and make one first where there is none.

    Shows the URL for clients, the CA's SHA-256 fingerprint and a challenge for one device (good
    for an hour; more with `pyscep challenge`). Ctrl-C stops it gently. PYSCEP_CA_PASSWORD
    encrypts and opens the CA's key files.

    With --json the line on standard output that says it is ready is a JSON object, and each
    event is one on standard error.

    \b
    Examples:
      pyscep serve
      pyscep serve --directory /var/lib/pyscep --host 0.0.0.0 --policy compatible
      pyscep serve --host 0.0.0.0 --base-url http://pki.example:8080
      pyscep serve --approval manual --port 0 --json
      pyscep serve --workers 4
      pyscep serve --config scep.toml
    """
    if config is not None:
        _serve_config(context, out, config, host, port)
        return
    from pyscep.site import operations
    from pyscep.site import serve as site

    settings = site.ServeSettings(
        directory=Path(directory),
        policy=policy,
        topology=topology,
        approval=approval,
        static_challenge=_static_challenge(static_challenge_file),
        allow_anyone=allow_anyone,
        password=ca_password(),
        base_url=_base_url(base_url, host, port),
    )
    layer = operations_for(trusted_proxies, workers)

    @contextlib.contextmanager
    def open_site() -> Iterator[Served]:
        with _open(settings) as ca:
            ca.store.on_decision = layer.on_decision
            yield Served(
                app=layer.app(
                    site.site(ca, settings, on_event=event_printer(out, layer)),
                    operations.readiness([ca]),
                ),
                connections=layer.connections,
                ready=lambda sock: _ready(ca, settings, site.url_of(sock, host)),
            )

    listen(out, host, port, workers, layer, open_site, _ready_text)


def operations_for(trusted_proxies: tuple[str, ...], workers: int = 1) -> Operations:
    """Limits, numbers and health, as `pyscep serve` has them.

    Raises:
        Failed: an address that is none.
    """
    from pyscep.site import operations

    try:
        return operations.for_serving(trusted_proxies, workers)
    except ValueError as error:
        raise Failed(f"--trusted-proxy: {error}") from error


def _serve_config(context: click.Context, out: Output, config: str, host: str, port: int) -> None:
    from pyscep.cli.serve_config import serve_config

    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    others = given - {"config", "host", "port", "as_json", "trusted_proxies", "workers"}
    if others:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(others))
        raise Failed(f"{names}: say that in the configuration instead")
    serve_config(
        out,
        config,
        host if "host" in given else None,
        port if "port" in given else None,
        context.params["trusted_proxies"],
        context.params["workers"] if "workers" in given else None,
    )


def _base_url(text: str | None, host: str, port: int) -> str | None:
    if text != "auto":
        return None if text is None else text.rstrip("/")
    from pyscep.site import serve as site

    if port == 0:
        raise Failed("--base-url auto needs a --port that stays: certificates will name it")
    return site.origin_of(host, port)


def _open(settings: ServeSettings) -> CertificateAuthority:
    from pyscep.site import serve as site

    try:
        return site.open_ca(settings)
    except ValueError as error:
        raise Failed(str(error), code="ca") from error


def _static_challenge(path: str | None) -> str | None:
    if path is not None:
        return files.read_word(path)
    return os.environ.get("PYSCEP_STATIC_CHALLENGE") or None


def _ready(ca: CertificateAuthority, settings: ServeSettings, url: str) -> dict[str, Any]:
    from pyscep.site import serve as site

    ready: dict[str, Any] = {
        "status": "ready",
        "url": url,
        "fingerprint": ca.fingerprint,
        "challenge": None if settings.allow_anyone else ca.new_challenge(),
        "directory": str(settings.directory.absolute()),
        "policy": settings.policy,
        "crl": ca.issuer.crl_urls[0] if ca.issuer.crl_urls else None,
        "pid": os.getpid(),
    }
    if warning := site.WEAK_POLICIES.get(settings.policy):
        ready["warning"] = f"policy {settings.policy}: {warning}"
    return ready


def _ready_text(ready: dict[str, Any]) -> str:
    lines = [
        f"SCEP URL:     {ready['url']}",
        f"Fingerprint:  {ready['fingerprint']}",
    ]
    if ready["challenge"]:
        lines.append(f"Challenge:    {ready['challenge']}   (one device, one hour)")
    else:
        lines.append("Challenge:    any (--allow-anyone)")
    lines.append(f"Directory:    {ready['directory']}")
    hint = "no address in the certificates: see --base-url"
    lines.append(f"CRL:          {ready['crl'] or hint}")
    if "warning" in ready:
        lines.append(f"Warning:      {ready['warning']}")
    lines += ["", "Ready. Ctrl-C stops it."]
    return "\n".join(lines)
