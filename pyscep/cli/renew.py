"""``pyscep renew``: a new certificate, authorized by the one that ends."""

from __future__ import annotations

import click
from cryptography import x509

from pyscep import pkcs10
from pyscep.cli import files
from pyscep.cli.enroll import challenge_options, given_challenge, outcome_options
from pyscep.cli.outcome import (
    Job,
    Polling,
    absolute,
    conclude,
    refuse_pending,
)
from pyscep.cli.problems import Failed
from pyscep.cli.session import (
    Output,
    ServerOptions,
    Session,
    json_option,
    load_identity,
    server_options,
)
from pyscep.errors import DecodeError


@click.command("renew")
@server_options
@click.option(
    "--certificate",
    metavar="FILE",
    required=True,
    help="The certificate to renew (PEM or DER); it signs the request.",
)
@click.option("--key", "key_file", metavar="FILE", required=True, help="Its private key.")
@click.option(
    "--new-key",
    metavar="FILE",
    help="Key of the new certificate: used when the file exists, made (mode 0600) when not.",
)
@click.option("--same-key", is_flag=True, help="Keep the key; many servers refuse that.")
@click.option(
    "--out",
    "out_file",
    metavar="FILE",
    required=True,
    help="Where the new certificate goes (PEM). The old one's file needs --force.",
)
@click.option("--ca-out", metavar="FILE", help="Where the CA certificates go (PEM).")
@challenge_options
@outcome_options
@json_option
def renew_command(
    server: ServerOptions,
    out: Output,
    polling: Polling,
    certificate: str,
    key_file: str,
    new_key: str | None,
    same_key: bool,
    out_file: str,
    ca_out: str | None,
    challenge: str | None,
    challenge_file: str | None,
    key_size: str,
    state_file: str | None,
    force: bool,
) -> int:
    """Get a new certificate with the same names, signing with the old one.

    Sends RenewalReq where the server announces Renewal, and otherwise a PKCSReq signed by the
    old certificate. A challenge is sent only if you give one (some servers want it here too).

    \b
    Example:
      pyscep renew http://ca.example/scep --fingerprint sha256:9f86... \\
        --certificate device.pem --key device.key --new-key device-2.key --out device-2.pem
    """
    if bool(new_key) == same_key:
        raise Failed("say --new-key FILE or --same-key")
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
    identity = load_identity(certificate, key_file)
    word = given_challenge(challenge, challenge_file)
    key = identity.private_key
    if new_key:
        key, made = files.load_or_make_key(new_key, int(key_size))
        if made:
            out.note(f"made a new {key_size}-bit RSA key: {new_key}")
    old = identity.certificate
    try:
        csr = pkcs10.create(key, old.subject, challenge_password=word, sans=_alternative_names(old))
    except (TypeError, ValueError, DecodeError) as error:
        raise Failed(f"the request can't be made: {error}") from error
    result = session.run(session.client.renew(identity, key, csr))
    return conclude(session, job, result, identity.private_key, polling, out)


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(extension.value)
