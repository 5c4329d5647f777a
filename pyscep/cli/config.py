"""``pyscep config``: make, check and explain the configuration of a site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyscep.cli import files
from pyscep.cli.problems import Failed
from pyscep.cli.serve import DIRECTORY, ca_password
from pyscep.cli.session import Output, json_option

if TYPE_CHECKING:
    from pyscep.site.building import Builder
    from pyscep.site.config import Config, ConfigError

FILE = "scep.toml"


def read_config(path: str) -> tuple[Config, Builder]:
    """The configuration in a file, and what opens the things it names.

    Raises:
        Failed: the file can't be used.
    """
    from pyscep.site.building import Builder
    from pyscep.site.config import ConfigError, load

    try:
        config = load(path)
    except ConfigError as error:
        raise config_failed(error) from error
    return config, Builder(config, Path(path).parent, name=path)


def config_failed(error: ConfigError) -> Failed:
    """What is wrong with a configuration, as the failure of a command."""
    found = [{"level": "error", "key": one.key, "text": one.text} for one in error.problems]
    return Failed(str(error), code="config", details={"problems": found})


@click.command("config")
@click.argument("action", type=click.Choice(("init", "check", "reference", "account")))
@click.option(
    "--config", "path", metavar="FILE", default=FILE, show_default=True, help="The configuration."
)
@click.option(
    "--directory",
    metavar="DIR",
    default=DIRECTORY,
    show_default=True,
    help="init: where the CA is, or is made.",
)
@click.option(
    "--topology",
    type=click.Choice(("ra", "ra-split", "ndes", "ca")),
    default="ra",
    show_default=True,
    help="init: who talks to clients, if the CA is made.",
)
@click.option(
    "--base-url",
    metavar="URL",
    help="init: where those who check certificates reach this server, such as "
    "http://pki.example; certificates name it for the CRL.",
)
@click.option("--name", metavar="NAME", help="account: of the account.")
@click.option(
    "--password-file",
    metavar="FILE",
    default="-",
    help="account: its password; standard input by default.",
)
@json_option
def config_command(
    out: Output,
    action: str,
    path: str,
    directory: str,
    topology: str,
    base_url: str | None,
    name: str | None,
    password_file: str,
) -> None:
    """Make, check or explain a configuration for `pyscep serve --config`.

    \b
    init       write a first file, and make a CA beside it if there is none
    check      open everything that the file names; say what is wrong, and what looks wrong
    reference  show every key with its unit and default, as Markdown
    account    make a line for the accounts file of an ndes endpoint

    check makes databases that are missing: run it as the user that serves. It ends with 0 when
    there are only warnings.

    \b
    Examples:
      pyscep config init --base-url http://pki.example
      pyscep config check --config /etc/pyscep/scep.toml
      pyscep config account --name console < password.txt >> accounts.txt
    """
    match action:
        case "init":
            _init(out, Path(path), directory, topology, base_url)
        case "check":
            _check(out, path)
        case "reference":
            from pyscep.site.reference import markdown

            text = markdown()
            out.result({"reference": text}, text.rstrip("\n"))
        case _:
            _account(out, name, password_file)


def _init(out: Output, path: Path, directory: str, topology: str, base_url: str | None) -> None:
    from pyscep.ca import CertificateAuthority
    from pyscep.site.reference import starter

    place = path.parent / directory
    files.refuse_existing(path, force=False)
    try:
        passphrase_env = None if ca_password() is None else "PYSCEP_CA_PASSWORD"
        text = starter(directory, base_url, passphrase_env)
    except ValueError as error:
        raise Failed(f"--base-url: {error}") from error
    try:
        with CertificateAuthority.load_or_create(
            place, topology=topology, password=ca_password()
        ) as ca:
            fingerprint = ca.fingerprint
    except ValueError as error:
        raise Failed(str(error), code="ca") from error
    files.write(path, text.encode(), mode=0o644)
    out.result(
        {"config": str(path), "directory": str(place), "fingerprint": fingerprint},
        f"{path} is written; the CA is in {place}.\nFingerprint:  {fingerprint}\n"
        f"Next:         pyscep config check --config {path}\n"
        f"              pyscep serve --config {path}",
    )


def _check(out: Output, path: str) -> None:
    config, builder = read_config(path)
    from pyscep.site.checking import check

    findings = check(config, builder)
    if any(one.level == "error" for one in findings):
        text = "\n".join(f"{path}: {one}" for one in findings)
        found = [{"level": one.level, "key": one.key, "text": one.text} for one in findings]
        raise Failed(text, code="config", details={"problems": found})
    data: dict[str, Any] = {
        "config": path,
        "endpoints": list(config.endpoint),
        "warnings": [{"key": one.key, "text": one.text} for one in findings],
    }
    lines = [str(one) for one in findings]
    out.result(data, "\n".join([*lines, f"{path} can be served."]))


def _account(out: Output, name: str | None, password_file: str) -> None:
    from pyscep.site.passwords import account_line

    if not name:
        raise Failed("say whose account it is: --name NAME")
    try:
        line = account_line(name, files.read_word(password_file))
    except ValueError as error:
        raise Failed(str(error)) from error
    out.result({"account": line}, line)
