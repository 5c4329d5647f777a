"""``pyscep inspect``: a message in every detail."""

from __future__ import annotations

import click

from pyscep.cli import files
from pyscep.cli.problems import PROTOCOL, Failed, visible
from pyscep.cli.session import Output, json_option
from pyscep.errors import DecodeError


@click.command("inspect")
@click.argument("file", metavar="FILE|-")
@click.option(
    "--key",
    "keys",
    metavar="FILE",
    multiple=True,
    help="Private key (PEM or DER) to open envelopes with; may be repeated.",
)
@click.option(
    "--certificate",
    "certificates",
    metavar="FILE",
    multiple=True,
    help="Certificate (PEM or DER) of a signer that the message does not bring along.",
)
@click.option(
    "--show-secrets",
    is_flag=True,
    help="Print the challengePassword; --json does so wherever a --key opens it.",
)
@json_option
def inspect_command(
    file: str,
    keys: tuple[str, ...],
    certificates: tuple[str, ...],
    show_secrets: bool,
    out: Output,
) -> None:
    """Explain a SCEP message: what it says, who signed it, and what is odd about it.

    FILE is a pkiMessage, a GetCACert or GetCACaps answer, a certificate, a CSR or a CRL, in DER,
    BER, PEM or base64, or a whole HTTP request or response, a URL or a line of a log; - is
    standard input. What is shown need not be verified, and nothing may be decided by it.

    \b
    Examples:
      pyscep inspect request.der
      pyscep inspect reply.der --key device.key --json
      grep PKIOperation access.log | tail -1 | pyscep inspect - --key ra.key
    """
    from pyscep import inspect

    data = files.read(file, limit=64 * 1024 * 1024)
    try:
        report = inspect.inspect(
            data,
            keys=[files.load_key(path) for path in keys],
            certificates=[one for path in certificates for one in files.load_certificates(path)],
        )
    except DecodeError as error:
        raise Failed(
            f"this is nothing that SCEP knows: {visible(str(error))}",
            code="decode",
            exit_code=PROTOCOL,
        ) from error
    if out.as_json:
        # A machine that brings the key may have what the key opens.
        out.result(report.to_dict(show_secrets=show_secrets or None), "")
        return
    from rich.console import Console

    inspect.render(report, Console(markup=False, highlight=False), show_secrets=show_secrets)
