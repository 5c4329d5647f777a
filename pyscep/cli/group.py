"""The group of commands: loaded one at a time, with one place for errors and exit codes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from pyscep.cli.problems import Problem, describe

# Name: (section, module, one line for the list). The command is the module's `<name>_command`.
_COMMANDS = {
    "enroll": ("Client", "pyscep.cli.enroll", "Make a key and get a certificate for it."),
    "renew": ("Client", "pyscep.cli.renew", "Get a new certificate by an old one."),
    "poll": ("Client", "pyscep.cli.poll", "Ask again for a certificate that was pending."),
    "caps": ("Client", "pyscep.cli.query", "Show what a server can do (GetCACaps)."),
    "cacert": ("Client", "pyscep.cli.query", "Fetch the CA certificates (GetCACert)."),
    "getnextcacert": ("Client", "pyscep.cli.query", "Fetch the next CA certificates."),
    "getcert": ("Client", "pyscep.cli.query", "Fetch an issued certificate by its number."),
    "crl": ("Client", "pyscep.cli.query", "Fetch the revocation list (GetCRL)."),
    "serve": ("Server", "pyscep.cli.serve", "Run a CA; makes one when there is none."),
    "config": ("Server", "pyscep.cli.config", "Make, check and explain a configuration."),
    "challenge": ("Server", "pyscep.cli.admin", "Make one-time or sealed challenges."),
    "approve": ("Server", "pyscep.cli.admin", "As pending: list, approve and deny."),
    "pending": ("Server", "pyscep.cli.pending", "List, approve and deny pending requests."),
    "revoke": ("Server", "pyscep.cli.revoke", "Revoke certificates; list what was issued."),
    "ca": ("Server", "pyscep.cli.ca", "Let another CA follow this one (rollover)."),
    "intune": ("Server", "pyscep.cli.intune", "Check the connection to Intune; revocations."),
    "inspect": ("Tools", "pyscep.cli.inspect", "Explain a SCEP message in every detail."),
    "info": ("Tools", "pyscep.cli.info", "Show versions and the codec's back end."),
}

EPILOG = """\b
Exit codes:
  0  done
  1  transport: no usable answer (network, HTTP status, time, size)
  2  usage: a wrong option, a file that is missing or in the way
  3  refused: the CA answered FAILURE
  4  protocol or security: bad signature, wrong fingerprint, refused algorithm
  5  pending: the CA has yet to decide; the state is saved, see `pyscep poll`

With --json, standard output is one JSON object, and an error is one JSON object on standard
error.
"""


class _Commands(click.Group):
    """Imports a command's module when the command is used, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(entry[1])
        found = getattr(module, f"{cmd_name}_command")
        assert isinstance(found, click.Command)  # noqa: S101 - for the type checker
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click 8.2 lists close names, and would import every command for that.
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!a}; see `pyscep --help`")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(entry[0] for entry in _COMMANDS.values()):
            rows = [(name, text) for name, (part, _, text) in _COMMANDS.items() if part == section]
            with formatter.section(section):
                formatter.write_dl(rows)

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Run, and turn whatever goes wrong into one message and a documented exit code."""
        words = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        try:
            status = super().main(words, *rest, **extra)
        except Exception as error:
            problem = describe(error)
            if problem is None:
                raise
            _show(problem, as_json="--json" in words)
            sys.exit(problem.exit_code)
        sys.exit(status if isinstance(status, int) else 0)


def _show(problem: Problem, *, as_json: bool) -> None:
    click.echo(problem.to_json() if as_json else problem.text(), err=True)


def package_version() -> str:
    """Of this package, as it was imported."""
    return str(sys.modules["pyscep"].__version__)


@click.group(cls=_Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_version(), message="pyscep %(version)s")
def pyscep() -> None:
    """SCEP (RFC 8894): enroll devices, run a CA, look into messages.

    \b
    Try it on one machine:
      pyscep serve                                  # shows URL, fingerprint and a challenge
      pyscep enroll URL --fingerprint F --key k.pem --out c.pem --subject "CN=me"
      pyscep renew URL --fingerprint F --certificate c.pem --key k.pem --new-key k2.pem --out c2.pem

    Each command explains itself: pyscep COMMAND --help
    """
