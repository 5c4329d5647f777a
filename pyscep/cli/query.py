"""The commands that only fetch: caps, cacert, getnextcacert, getcert, crl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pyscep.cli import files
from pyscep.cli.outcome import describe, is_ca
from pyscep.cli.problems import Failed, visible
from pyscep.cli.session import (
    Output,
    ServerOptions,
    Session,
    fingerprint,
    json_option,
    load_identity,
    server_options,
)

_MAX_SERIAL_DIGITS = 100
"""Decimal digits of 40 octets, and some zeros."""


def signing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the certificate and key that sign a question."""
    function = click.option(
        "--key", "key_file", metavar="FILE", required=True, help="Its private key (PEM or DER)."
    )(function)
    return click.option(
        "--certificate",
        metavar="FILE",
        required=True,
        help="Your certificate from this CA (PEM or DER); it signs the question.",
    )(function)


def out_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add where the result goes."""
    function = click.option("--force", is_flag=True, help="Overwrite --out.")(function)
    function = click.option("--der", is_flag=True, help="Write DER instead of PEM.")(function)
    return click.option("--out", "out_file", metavar="FILE", help="Where the result goes.")(
        function
    )


@click.command("caps")
@server_options
@json_option
def caps_command(server: ServerOptions, out: Output) -> None:
    """Show what the server at URL can do (GetCACaps).

    The answer is not signed: whoever sits on the path can change it. No trust option is needed.

    \b
    Example:
      pyscep caps http://ca.example/scep
    """
    session = Session(server, trust_required=False)
    keywords = [visible(word) for word in session.run(session.client.get_ca_caps()).keywords]
    text = "\n".join(keywords) if keywords else "(the server announces nothing)"
    out.result({"capabilities": keywords}, text)


@click.command("cacert")
@server_options
@out_options
@json_option
def cacert_command(
    server: ServerOptions, out: Output, out_file: str | None, der: bool, force: bool
) -> None:
    """Fetch and show the CA certificates of the server at URL (GetCACert).

    Without a trust option the certificates are only shown, and not verified: compare the
    fingerprint with one that came by another way, then pass it as --fingerprint. --out writes
    the CA certificates, the issuer first; RA certificates are left out.

    \b
    Examples:
      pyscep cacert http://ca.example/scep
      pyscep cacert http://ca.example/scep --fingerprint sha256:9f86... --out ca.pem
    """
    if out_file and not (server.fingerprint or server.ca_certificate or server.trust_on_first_use):
        raise Failed("--out needs --fingerprint, --ca-certificate or --trust-on-first-use")
    files.refuse_existing(out_file, force=force)
    session = Session(server, trust_required=False)
    found = session.run(session.client.get_ca_cert())
    others = [c for c in found.certificates if c != found.ca]
    data: dict[str, Any] = {
        "authenticated": session.authenticated,
        "ca": describe(found.ca),
        "recipient": fingerprint(found.recipient),
        "signers": [fingerprint(certificate) for certificate in found.signers],
        "others": [describe(certificate) for certificate in others],
    }
    if out_file:
        _write_certificates(out_file, [found.ca], others, der=der, force=force)
        data["file"] = out_file
    out.result(data, _ca_text(data))


def _ca_text(data: dict[str, Any]) -> str:
    lines = []
    for title, entry in (("CA", data["ca"]), *(("also", entry) for entry in data["others"])):
        roles = [
            role
            for role, held in (
                ("opens requests", entry["fingerprint"] == data["recipient"]),
                ("signs answers", entry["fingerprint"] in data["signers"]),
            )
            if held
        ]
        lines += [
            f"{title}: {entry['subject']}" + (f" ({', '.join(roles)})" if roles else ""),
            f"  valid until: {entry['not_after']}",
            f"  fingerprint: {entry['fingerprint']}",
        ]
    if not data["authenticated"]:
        lines.append(
            "NOT VERIFIED: compare the CA's fingerprint with one from its operator before use."
        )
    return "\n".join(lines)


def _write_certificates(
    path: str,
    first: Sequence[x509.Certificate],
    others: Sequence[x509.Certificate],
    *,
    der: bool,
    force: bool,
) -> None:
    authorities = [*first, *(c for c in others if is_ca(c))]
    if der:
        data = authorities[0].public_bytes(Encoding.DER)
    else:
        data = files.certificates_pem(authorities)
    files.write(path, data, mode=files.PUBLIC_MODE, replace=force)


@click.command("getnextcacert")
@server_options
@out_options
@json_option
def getnextcacert_command(
    server: ServerOptions, out: Output, out_file: str | None, der: bool, force: bool
) -> None:
    """Fetch the certificates that the CA at URL will change to (GetNextCACert).

    The answer is signed by the present CA, and that signature is verified.

    \b
    Example:
      pyscep getnextcacert http://ca.example/scep --ca-certificate ca.pem --out next.pem
    """
    files.refuse_existing(out_file, force=force)
    session = Session(server)
    found = session.run(session.client.get_next_ca_cert())
    # A SET has no order. With its RAs, which --next-ca-certificate needs.
    found = tuple(sorted(found, key=lambda one: not is_ca(one)))
    data: dict[str, Any] = {"certificates": [describe(certificate) for certificate in found]}
    if out_file:
        pem = files.certificates_pem(found)
        written = found[0].public_bytes(Encoding.DER) if der else pem
        files.write(out_file, written, mode=files.PUBLIC_MODE, replace=force)
        data["file"] = out_file
    lines = [f"{entry['subject']}\n  {entry['fingerprint']}" for entry in data["certificates"]]
    out.result(data, "\n".join(lines))


@click.command("getcert")
@server_options
@click.argument("serial")
@signing_options
@out_options
@json_option
def getcert_command(
    server: ServerOptions,
    out: Output,
    serial: str,
    certificate: str,
    key_file: str,
    out_file: str | None,
    der: bool,
    force: bool,
) -> None:
    """Fetch the certificate with the number SERIAL from the CA at URL (GetCert).

    SERIAL is decimal, or hexadecimal with 0x in front, with colons, or with a letter in it.
    Without --out the certificate goes to standard output.

    \b
    Example:
      pyscep getcert http://ca.example/scep 0x1f3a --ca-certificate ca.pem \\
        --certificate device.pem --key device.key --out other.pem
    """
    number = parse_serial(serial)
    files.refuse_existing(out_file, force=force)
    session = Session(server)
    identity = load_identity(certificate, key_file)
    found = session.run(session.client.get_cert(identity, number))
    encoded = found.public_bytes(Encoding.DER if der else Encoding.PEM)
    _deliver(out, encoded, describe(found), out_file, force=force, der=der)


@click.command("crl")
@server_options
@signing_options
@click.option(
    "--serial",
    metavar="SERIAL",
    help="Number of the certificate whose CRL is wanted; the default is --certificate's own.",
)
@out_options
@json_option
def crl_command(
    server: ServerOptions,
    out: Output,
    certificate: str,
    key_file: str,
    serial: str | None,
    out_file: str | None,
    der: bool,
    force: bool,
) -> None:
    """Fetch the certificate revocation list of the CA at URL (GetCRL).

    Without --out the CRL goes to standard output.

    \b
    Example:
      pyscep crl http://ca.example/scep --ca-certificate ca.pem \\
        --certificate device.pem --key device.key --out ca.crl
    """
    number = parse_serial(serial) if serial else None
    files.refuse_existing(out_file, force=force)
    session = Session(server)
    identity = load_identity(certificate, key_file)
    crl = x509.load_der_x509_crl(session.run(session.client.get_crl(identity, number)))
    following = crl.next_update_utc
    data = {
        "issuer": crl.issuer.rfc4514_string(),
        "this_update": crl.last_update_utc.isoformat(),
        "next_update": following.isoformat() if following else None,
        "revoked": len(crl),
    }
    encoded = crl.public_bytes(Encoding.DER if der else Encoding.PEM)
    _deliver(out, encoded, data, out_file, force=force, der=der)


def _deliver(
    out: Output,
    encoded: bytes,
    data: dict[str, Any],
    out_file: str | None,
    *,
    force: bool,
    der: bool,
) -> None:
    if out_file:
        files.write(out_file, encoded, mode=files.PUBLIC_MODE, replace=force)
        out.result(data | {"file": out_file}, f"written: {out_file}")
    elif out.as_json:
        text = encoded.hex() if der else encoded.decode("ascii")
        out.result(data | {"der" if der else "pem": text}, "")
    else:
        click.echo(encoded, nl=False)


def parse_serial(text: str) -> int:
    """A serial number as people and tools write it.

    Raises:
        Failed: it is neither decimal nor hexadecimal.
    """
    word = text.strip().lower().replace(":", "")
    digits = word.removeprefix("0x")
    hexadecimal = ":" in text or digits != word or any(char in "abcdef" for char in digits)
    allowed = "0123456789abcdef" if hexadecimal else "0123456789"
    number = 0
    if 0 < len(digits) <= _MAX_SERIAL_DIGITS and all(char in allowed for char in digits):
        number = int(digits, 16 if hexadecimal else 10)
    if not 0 < number.bit_length() <= 40 * 8:
        raise Failed(f"{text!a} is not a serial number (decimal, or hexadecimal with 0x)")
    return number
