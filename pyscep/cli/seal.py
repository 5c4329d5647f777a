"""``pyscep challenge seal``: a challenge for one request, made where the CA is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click
from cryptography import x509

from pyscep.cli import files
from pyscep.cli.problems import Failed
from pyscep.cli.session import Output, json_option, load_identity


@click.command("seal")
@click.option("--service-certificate", required=True, metavar="FILE", help="Who signs (PEM).")
@click.option("--service-key", required=True, metavar="FILE", help="Its private key.")
@click.option(
    "--recipient", required=True, metavar="FILE", help="Certificate of the CA's policy module."
)
@click.option("--subject", required=True, metavar="NAME", help="Of the request (RFC 4514).")
@click.option(
    "--san",
    "sans",
    multiple=True,
    metavar="KIND:TEXT",
    help="Alternative name such as dns:a.example; may be repeated. The request has to have "
    "exactly these.",
)
@click.option(
    "--key-usage", multiple=True, metavar="USAGE", help="Exactly these, such as digitalSignature."
)
@click.option(
    "--extended-key-usage", multiple=True, metavar="USAGE", help="Exactly these: clientAuth, OIDs."
)
@click.option("--key", metavar="KIND", help="Kind and size of the key: rsa-2048, ec-p256.")
@click.option("--profile", metavar="NAME", help="What is to be issued.")
@click.option(
    "--minutes",
    type=click.IntRange(1, 60 * 24 * 366),
    default=60,
    show_default=True,
    help="How long it can be used.",
)
@click.option("--data", metavar="FILE", help="Anything of the service's own, to go along.")
@json_option
def seal_command(
    out: Output,
    service_certificate: str,
    service_key: str,
    recipient: str,
    subject: str,
    sans: tuple[str, ...],
    key_usage: tuple[str, ...],
    extended_key_usage: tuple[str, ...],
    key: str | None,
    profile: str | None,
    minutes: int,
    data: str | None,
) -> None:
    """Make a sealed challenge: good for one request only, and unreadable for the device.

    It is signed by a management service and encrypted to the CA's policy module, which checks
    it without asking anybody. A field that is left out is not compared, except alternative
    names: without --san the request must have none.

    \b
    Example:
      pyscep challenge seal --service-certificate mdm.pem --service-key mdm.key \\
        --recipient module.pem --subject "CN=device-1,O=Lab" --san dns:device-1.example \\
        --key rsa-2048
    """
    from pyscep.integrations.binding import Binding
    from pyscep.integrations.sealed import seal

    service = load_identity(service_certificate, service_key)
    (module, *_) = files.load_certificates(recipient)
    try:
        binding = Binding(
            subject=x509.Name.from_rfc4514_string(subject),
            sans=sans,
            key_usage=key_usage or None,
            extended_key_usage=extended_key_usage or None,
            key=key,
            profile=profile,
        )
        text = seal(
            binding,
            service=service,
            recipient=module,
            lifetime=timedelta(minutes=minutes),
            data=files.read(data, limit=64 * 1024) if data is not None else b"",
        )
    except ValueError as error:
        raise Failed(str(error)) from error
    result: dict[str, Any] = {"challenge": text, "minutes": minutes, "subject": subject}
    out.result(result, text)
