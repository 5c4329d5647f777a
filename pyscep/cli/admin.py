"""The commands for the people who run a CA: challenge, approve."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from pyscep.cli.place import Place, opened, place_option
from pyscep.cli.problems import Failed, visible
from pyscep.cli.seal import seal_command
from pyscep.cli.session import Output, json_option

if TYPE_CHECKING:
    from pyscep.ca import Attempt, CertificateAuthority


@click.group("challenge", invoke_without_command=True)
@place_option
@click.option(
    "--count",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="How many to make.",
)
@click.option(
    "--minutes",
    type=click.IntRange(1, 60 * 24 * 366),
    default=60,
    show_default=True,
    help="How long they can be used.",
)
@click.option(
    "--subject",
    metavar="NAME",
    help="Only for a request with this subject (RFC 4514).",
)
@click.option("--list", "listing", is_flag=True, help="Show the challenges there are instead.")
@json_option
@click.pass_context
def challenge_command(
    context: click.Context,
    out: Output,
    place: Place,
    count: int,
    minutes: int,
    subject: str | None,
    listing: bool,
) -> None:
    """Make one-time challenges for devices, one a line.

    Each enrolls one key. It can't be shown again: the CA keeps only a check value.

    \b
    Examples:
      pyscep challenge
      pyscep challenge --count 20 --minutes 1440 > for-the-workshop.txt
      pyscep challenge --subject "CN=device-1,O=Lab"
      pyscep challenge --list
      pyscep challenge seal --help
    """
    if context.invoked_subcommand is not None:
        return
    with opened(place) as ca:
        if listing:
            _list_challenges(ca, out)
            return
        lifetime = timedelta(minutes=minutes)
        try:
            made = [ca.new_challenge(subject=subject, lifetime=lifetime) for _ in range(count)]
        except ValueError as error:
            raise Failed(str(error)) from error
    data = {"challenges": made, "minutes": minutes, "subject": subject}
    out.result(data, "\n".join(made))


challenge_command.add_command(seal_command)


def _list_challenges(ca: CertificateAuthority, out: Output) -> None:
    from pyscep.site.challenges import list_challenges

    found = list_challenges(ca)
    text = table(
        ("id", "state", "expires", "subject"),
        [(one.id, one.state, time_text(one.expires_at), one.subject or "any") for one in found],
    )
    data = {"challenges": [asdict(one) for one in found]}
    out.result(data, text if found else "There are no challenges.")


@click.command("approve")
@click.argument("ids", nargs=-1, type=int, metavar="[ID]...")
@place_option
@click.option("--deny", is_flag=True, help="Refuse the requests instead.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the CA's records.")
@json_option
def approve_command(
    ids: tuple[int, ...], out: Output, place: Place, deny: bool, reason: str
) -> None:
    """List the pending requests; with IDs, approve or deny them.

    An approved device gets its certificate when it polls. Look at the whole row before you
    approve: the names come from the device.

    \b
    Examples:
      pyscep approve
      pyscep approve 17 18
      pyscep approve 19 --deny --reason "unknown serial number"
    """
    if reason and not deny:
        raise Failed("--reason goes with --deny")
    with opened(place) as ca:
        if not ids:
            if deny:
                raise Failed("say which request to deny: `pyscep approve` lists them")
            list_pending(ca.pending(), out)
            return
        decide_requests(ca, ids, out, deny=deny, reason=reason)


def decide_requests(
    ca: CertificateAuthority, ids: tuple[int, ...], out: Output, *, deny: bool, reason: str
) -> None:
    """Approve or deny pending requests, all of them or none, and show what was done.

    Raises:
        Failed: one of them is not pending.
    """
    waiting = {attempt.id for attempt in ca.pending()}
    missing = [number for number in ids if number not in waiting]
    if missing:
        names = ", ".join(map(str, missing))
        raise Failed(f"no pending request with the id {names}; nothing was done", code="unknown")
    done = [_decide(ca, number, deny=deny, reason=reason) for number in ids]
    data = {"decided": done}
    lines = [f"{one['id']}: {one['decision']}" for one in done]
    out.result(data, "\n".join(lines))


def _decide(ca: CertificateAuthority, number: int, *, deny: bool, reason: str) -> dict[str, Any]:
    try:
        if deny:
            ca.deny(number, reason)
            return {"id": number, "decision": "denied"}
        certificate = ca.approve(number)
    except LookupError as error:  # decided by somebody else a moment ago
        raise Failed(f"{number}: {error}", code="unknown") from error
    return {
        "id": number,
        "decision": "approved",
        "serial_number": f"{certificate.serial_number:x}",
    }


def list_pending(attempts: tuple[Attempt, ...], out: Output) -> None:
    """Show the requests that wait, one a row."""
    rows = [
        {
            "id": attempt.id,
            "subject": attempt.subject,
            "sans": list(attempt.sans),
            "source": attempt.source,
            "credential": attempt.credential,
            "csr_key": attempt.csr_key,
            "transaction_id": attempt.transaction_id,
            "created_at": attempt.created_at,
        }
        for attempt in attempts
    ]
    text = table(
        ("id", "since", "source", "subject", "names", "key (SHA-256)"),
        [
            (
                str(attempt.id),
                time_text(attempt.created_at),
                attempt.source or "-",
                attempt.subject or "-",
                ", ".join(attempt.sans) or "-",
                attempt.csr_key[:16],
            )
            for attempt in attempts
        ],
    )
    out.result({"pending": rows}, text if rows else "Nothing is pending.")


def time_text(moment: Any) -> str:
    """A time to the second."""
    return str(moment.isoformat(sep=" ", timespec="seconds"))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Columns of equal width, whatever the peer has put into them."""
    cells = [head, *(tuple(visible(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
