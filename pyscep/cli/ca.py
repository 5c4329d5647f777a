"""``pyscep ca``: what becomes of the CA itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from pyscep.cli.admin import table, time_text
from pyscep.cli.problems import Failed
from pyscep.cli.serve import ca_password, directory_option
from pyscep.cli.session import Output, fingerprint, json_option

if TYPE_CHECKING:
    from pyscep.ca.directory import CaFiles

_KEY_TYPES = ("rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384")


@click.group("ca")
def ca_command() -> None:
    """The CA itself: how another one follows it. Each command takes --json.

    \b
    Examples:
      pyscep ca rollover prepare
      pyscep ca rollover status
      pyscep ca rollover switch
      pyscep ca rollover retire
    """


@ca_command.group("rollover")
def rollover_group() -> None:
    """Let another CA follow this one (RFC 8894 section 4.7).

    \b
    1. prepare   makes the next CA. The server hands it out (GetNextCACert), and issues under it
                 to clients that encrypt their request to it; all others get what they got.
    2. switch    makes it the present one. The one before issues no more, but its certificates
                 are still renewed (under the new one), revoked and listed in its CRL.

    Start the servers again after each step. In between, give devices and those who check their
    certificates the time to learn of the next CA.
    """


@rollover_group.command("prepare")
@directory_option
@click.option(
    "--common-name",
    metavar="TEXT",
    help="Of the next CA; by default that of the present one with G2, G3 and so on behind it.",
)
@click.option(
    "--key-type",
    type=click.Choice(_KEY_TYPES),
    default="rsa-3072",
    show_default=True,
    help="Of the next CA's new key.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    default=3650,
    show_default=True,
    help="How long the next CA is valid.",
)
@click.option(
    "--starts",
    type=click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M")),
    help="When the next CA and its certificates begin, in UTC; before that, `switch` refuses. "
    "By default at once, which suits clients that refuse what is not valid yet.",
)
@json_option
def prepare_command(
    out: Output,
    directory: str,
    common_name: str | None,
    key_type: str,
    days: int,
    starts: datetime | None,
) -> None:
    """Make the CA that is to follow, in DIR.

    Its keys are encrypted if those of the present one are (PYSCEP_CA_PASSWORD).

    \b
    Examples:
      pyscep ca rollover prepare
      pyscep ca rollover prepare --starts 2027-01-01 --key-type rsa-4096
    """
    from pyscep.ca import directory as files

    with _failures(directory):
        following = files.prepare_next(
            directory,
            common_name=common_name,
            key_type=key_type,
            validity=timedelta(days=days),
            starts=None if starts is None else starts.replace(tzinfo=UTC),
            password=ca_password(),
            now=datetime.now(UTC),
        )
    data = _described("next", following)
    text = (
        f"{_line(data)}\n\nStart the server again: it hands this CA out then. When devices know it:"
        " pyscep ca rollover switch"
    )
    out.result(data, text)


@rollover_group.command("status")
@directory_option
@json_option
def status_command(out: Output, directory: str) -> None:
    """Show which CAs there are, and in which turn."""
    from pyscep.ca import directory as files

    with _failures(directory):
        found = files.load(directory, password=ca_password())
    turns = [("present", found), *(("previous", one) for one in found.previous)]
    if found.next is not None:
        turns.insert(0, ("next", found.next))
    rows = [_described(turn, one) for turn, one in turns]
    text = table(
        ("turn", "begins", "ends", "subject", "certificate"),
        [
            (
                row["turn"],
                time_text(row["not_before"]),
                time_text(row["not_after"]),
                row["subject"],
                row["certificate"],
            )
            for row in rows
        ],
    )
    out.result({"cas": rows}, text)


@rollover_group.command("switch")
@directory_option
@json_option
def switch_command(out: Output, directory: str) -> None:
    """Make the next CA the present one. There is no way back."""
    from pyscep.ca import directory as files

    with _failures(directory):
        present = files.switch(directory, password=ca_password(), now=datetime.now(UTC))
    data = _described("present", present)
    out.result(
        data,
        f"{_line(data)}\n\nStart the server again: it issues under this CA then, and clients need "
        "its fingerprint.",
    )


@rollover_group.command("retire")
@directory_option
@json_option
def retire_command(out: Output, directory: str) -> None:
    """Stop answering for the CAs before the present one.

    Their certificates can't be renewed or revoked any more, and their CRLs are not published: do it
    when the last one has ended, or when a key is lost. The files stay where they are.
    """
    from pyscep.ca import directory as files

    with _failures(directory):
        gone = [str(path) for path in files.retire(directory)]
    text = "\n".join(f"retired: the CA in {path}" for path in gone)
    out.result({"retired": gone}, f"{text}\n\nStart the server again.")


@contextmanager
def _failures(directory: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise Failed(str(error), code="exists") from error
    except FileNotFoundError as error:
        raise Failed(str(error), code="ca") from error
    except ValueError as error:
        raise Failed(f"{directory}: {error}", code="ca") from error


def _described(turn: str, ca: CaFiles) -> dict[str, Any]:
    certificate = ca.ca.certificate
    return {
        "turn": turn,
        "subject": certificate.subject.rfc4514_string(),
        "fingerprint": fingerprint(certificate),
        "not_before": certificate.not_valid_before_utc,
        "not_after": certificate.not_valid_after_utc,
        "certificate": str(ca.path / "ca.pem"),
        "name": ca.name,
    }


def _line(data: dict[str, Any]) -> str:
    return (
        f"The {data['turn']} CA:  {data['subject']}\n"
        f"Fingerprint:  {data['fingerprint']}\n"
        f"Valid:        {time_text(data['not_before'])} to {time_text(data['not_after'])}\n"
        f"Certificate:  {data['certificate']}"
    )
