"""``pyscep enroll``: a key, a request, a certificate."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from cryptography import x509

from pyscep import pkcs10
from pyscep.cli import files
from pyscep.cli.outcome import Job, Polling, absolute, conclude, polling_options, refuse_pending
from pyscep.cli.problems import Failed
from pyscep.cli.session import Output, ServerOptions, Session, json_option, server_options
from pyscep.errors import DecodeError

KEY_SIZES = ("2048", "3072", "4096")


def challenge_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The ways to give a challenge, safest first."""
    function = click.option(
        "--challenge",
        metavar="TEXT",
        help="The challenge itself. Every user of this machine can read it in the list of "
        "processes, and your shell remembers it: use --challenge-file.",
    )(function)
    return click.option(
        "--challenge-file",
        metavar="FILE",
        help="File with the challenge; - reads standard input. Or set PYSCEP_CHALLENGE.",
    )(function)


def outcome_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """A new key, how long to wait for its certificate, and what may be overwritten."""
    for option in (
        click.option("--force", is_flag=True, help="Overwrite --out, --ca-out and the state file."),
        polling_options(max_polls=0),
        click.option(
            "--key-size",
            type=click.Choice(KEY_SIZES),
            default="2048",
            show_default=True,
            help="Bits of a new RSA key.",
        ),
    ):
        function = option(function)
    return function


@click.command("enroll")
@server_options
@click.option(
    "--key",
    "key_file",
    metavar="FILE",
    required=True,
    help="Private key (PEM or DER): used when the file exists, made and written (mode 0600) "
    "before anything is sent when it does not. Never overwritten.",
)
@click.option(
    "--out",
    "out_file",
    metavar="FILE",
    required=True,
    help="Where the certificate goes (PEM), followed by its chain if the server sent one.",
)
@click.option(
    "--ca-out", metavar="FILE", help="Where the CA certificates go (PEM); they are verified first."
)
@click.option(
    "--subject",
    metavar="NAME",
    default="",
    help='As in RFC 4514: "CN=device-1,O=Lab". The server may demand its own.',
)
@click.option("--dns", multiple=True, metavar="NAME", help="DNS name; may be repeated.")
@click.option("--email", multiple=True, metavar="ADDRESS", help="E-mail address.")
@click.option("--ip", multiple=True, metavar="ADDRESS", help="IP address.")
@click.option("--uri", multiple=True, metavar="URI", help="URI.")
@challenge_options
@click.option("--no-challenge", is_flag=True, help="Ask without a challenge, and don't prompt.")
@outcome_options
@json_option
def enroll_command(
    server: ServerOptions,
    out: Output,
    polling: Polling,
    key_file: str,
    out_file: str,
    ca_out: str | None,
    subject: str,
    dns: tuple[str, ...],
    email: tuple[str, ...],
    ip: tuple[str, ...],
    uri: tuple[str, ...],
    challenge: str | None,
    challenge_file: str | None,
    no_challenge: bool,
    key_size: str,
    state_file: str | None,
    force: bool,
) -> int:
    """Make a key and get a certificate for it from the SCEP server at URL.

    When the CA has to decide first, the state is saved beside --out and the exit code is 5;
    `pyscep poll` goes on from there. After a lost answer just run the same command again: the
    same key gives the same certificate.

    \b
    Examples:
      pyscep enroll http://ca.example/scep --fingerprint sha256:9f86... \\
        --key device.key --out device.pem --subject "CN=device-1,O=Lab" \\
        --dns device-1.example --challenge-file word.txt
      PYSCEP_CHALLENGE=... pyscep enroll URL --ca-certificate ca.pem ... --max-polls 10
    """
    names = alternative_names(dns, email, ip, uri)
    name = parse_subject(subject)
    if not subject and not names:
        raise Failed("give --subject, or a name with --dns, --email, --ip or --uri")
    job = Job(
        server=server,
        signer_key=absolute(key_file),
        out_file=absolute(out_file),
        ca_out=absolute(ca_out) if ca_out else None,
        state=absolute(state_file) if state_file else None,
        force=force,
    )
    session = Session(server)
    files.refuse_existing(out_file, ca_out, force=force)
    refuse_pending(job)
    word = None if no_challenge else obtain_challenge(challenge, challenge_file)
    key, made = files.load_or_make_key(key_file, int(key_size))
    if made:
        out.note(f"made a new {key_size}-bit RSA key: {key_file}")
    try:
        csr = pkcs10.create(key, name, challenge_password=word, sans=names)
    except (TypeError, ValueError, DecodeError) as error:
        raise Failed(f"the request can't be made: {error}") from error
    result = session.run(session.client.enroll(key, csr))
    return conclude(session, job, result, key, polling, out)


def given_challenge(challenge: str | None, challenge_file: str | None) -> str | None:
    """The challenge from a file, the command line or the environment, or None.

    Raises:
        Failed: two were given, or the file holds none.
    """
    if challenge is not None and challenge_file is not None:
        raise Failed("give --challenge or --challenge-file, not both")
    if challenge_file is not None:
        return files.read_word(challenge_file)
    return challenge or os.environ.get("PYSCEP_CHALLENGE") or None


def obtain_challenge(challenge: str | None, challenge_file: str | None) -> str:
    """The challenge that was given, or that the person there types.

    Raises:
        Failed: none was given and nobody can be asked.
    """
    if word := given_challenge(challenge, challenge_file):
        return word
    if sys.stdin.isatty():
        return str(click.prompt("Challenge", hide_input=True, err=True))
    raise Failed(
        "no challenge: give --challenge-file FILE, set PYSCEP_CHALLENGE, or say --no-challenge"
    )


def parse_subject(text: str) -> x509.Name:
    """A name from its RFC 4514 form.

    Raises:
        Failed: it is none.
    """
    try:
        return x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise Failed(
            f'--subject {text!a} is not a name like "CN=device-1,O=Lab": {error}'
        ) from error


def alternative_names(
    dns: Sequence[str], email: Sequence[str], ip: Sequence[str], uri: Sequence[str]
) -> list[x509.GeneralName]:
    """The names for subjectAltName.

    Raises:
        Failed: an IP address that is none, or a name outside ASCII.
    """
    try:
        return [
            *(x509.DNSName(name) for name in dns),
            *(x509.RFC822Name(address) for address in email),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in ip),
            *(x509.UniformResourceIdentifier(name) for name in uri),
        ]
    except ValueError as error:
        raise Failed(f"a name for the certificate: {error}") from error
