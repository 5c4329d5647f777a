"""``pyscep revoke``: for the people who run a CA."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
from cryptography import x509

from pyscep.cli import files
from pyscep.cli.admin import table, time_text
from pyscep.cli.place import Place, opened, place_option
from pyscep.cli.problems import Failed
from pyscep.cli.session import Output, json_option

if TYPE_CHECKING:
    from pyscep.ca import CertificateAuthority

REASONS = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)
"""What RFC 5280 has for certificates of devices; the CA's own can't be revoked here."""
_LISTED = 1000


@click.command("revoke")
@click.argument("serial_numbers", nargs=-1, metavar="[SERIAL]...")
@place_option
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    metavar="FILE",
    help="A certificate to revoke, instead of its serial number. May be repeated.",
)
@click.option(
    "--reason",
    type=click.Choice(REASONS, case_sensitive=False),
    default="unspecified",
    show_default=True,
    metavar="REASON",
    help=f"What the CRL will say: {', '.join(REASONS)}.",
)
@click.option("--crl-out", metavar="FILE", help="Also write the new CRL, DER; replaces the file.")
@json_option
def revoke_command(
    serial_numbers: tuple[str, ...],
    out: Output,
    place: Place,
    certificates: tuple[str, ...],
    reason: str,
    crl_out: str | None,
) -> None:
    """Revoke certificates; without a SERIAL, list what was issued.

    A serial number is hexadecimal, as the list, the server's log and `openssl x509 -serial` show
    it; colons don't matter. The next CRL has it at once, and revocation is for good: the same
    request does not get the certificate again, and it can't be renewed.

    \b
    Examples:
      pyscep revoke
      pyscep revoke 5C1D0F... --reason keyCompromise
      pyscep revoke --certificate stolen.pem --crl-out ca.crl
    """
    numbers = [_serial_number(text) for text in serial_numbers]
    with opened(place) as ca:
        chosen = [(number, f"{number:x}") for number in numbers]
        chosen += [_of_file(ca, path) for path in certificates]
        if not chosen:
            _list_issued(ca, out)
            return
        _check_known(ca, chosen)
        for number, _ in chosen:
            ca.revoke(number, reason)
        crl = ca.crl()
    if crl_out is not None:
        files.write(crl_out, crl, mode=files.PUBLIC_MODE, replace=True)
    revoked = [f"{number:x}" for number, _ in chosen]
    data = {"revoked": revoked, "reason": reason, "crl": crl_out}
    out.result(data, "\n".join(f"{serial}: revoked ({reason})" for serial in revoked))


def _serial_number(text: str) -> int:
    digits = text.lower().removeprefix("serial=").removeprefix("0x").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{1,40}", digits) or int(digits, 16) == 0:
        raise Failed(f"{ascii(text)} is not a serial number in hexadecimal digits")
    return int(digits, 16)


def _of_file(ca: CertificateAuthority, path: str) -> tuple[int, str]:
    """The serial number of a certificate of this CA, and what to call it."""
    data = files.read(path)
    try:
        pem = b"-----BEGIN" in data
        load = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
        certificate = load(data)
        _verify_ours(ca, certificate)
    except Exception as error:  # a bad signature has no message, and other CAs any kind of fault
        raise Failed(f"{path} is no certificate that this CA issued", code="file") from error
    return certificate.serial_number, path


def _verify_ours(ca: CertificateAuthority, certificate: x509.Certificate) -> None:
    """See that one generation of the CA signed it; raises whatever cryptography does."""
    issuers = [one.certificate for one in ca.succession.issuers.values()]
    same = [one for one in issuers if one.subject == certificate.issuer]
    *others, last = same or issuers[:1]
    for issuer in others:
        with contextlib.suppress(Exception):  # of another generation: the next may have signed it
            certificate.verify_directly_issued_by(issuer)
            return
    certificate.verify_directly_issued_by(last)


def _check_known(ca: CertificateAuthority, chosen: list[tuple[int, str]]) -> None:
    """All of them or none: a typing error must not revoke half of a list."""
    unknown = [name for number, name in chosen if ca.find(number) is None]
    if unknown:
        names = ", ".join(unknown)
        raise Failed(f"no certificate was issued as {names}; nothing was done", code="unknown")


def _list_issued(ca: CertificateAuthority, out: Output) -> None:
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {
            "serial_number": f"{record.serial_number:x}",
            "state": "expired"
            if record.state == "issued" and record.not_after <= now
            else record.state,
            "subject": record.subject,
            "not_after": record.not_after,
            "revoked_at": record.revoked_at,
            "reason": record.revocation_reason,
        }
        for record in ca.certificates(_LISTED)
    ]
    text = table(
        ("serial number", "state", "ends", "subject"),
        [
            (row["serial_number"], row["state"], time_text(row["not_after"]), row["subject"] or "-")
            for row in rows
        ],
    )
    out.result({"certificates": rows}, text if rows else "Nothing was issued.")
