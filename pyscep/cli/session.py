"""What every client command shares: the options that name a server, and talking to it."""

from __future__ import annotations

import functools
import json
import ssl
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pyscep.adapters.transport import Sender, run, urllib_sender
from pyscep.cli import files
from pyscep.cli.problems import Failed
from pyscep.client import Client
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.http import HttpRequest, HttpResponse
from pyscep.identity import Identity

T = TypeVar("T")

POLICIES = ("modern", "compatible", "legacy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """A server, how far it is trusted, and how to reach it."""

    url: str
    fingerprint: str | None = None
    ca_certificate: tuple[str, ...] = ()
    ra_fingerprint: tuple[str, ...] = ()
    next_ca_certificate: tuple[str, ...] = ()
    trust_on_first_use: bool = False
    policy: str = "modern"
    ignore_key_usage: bool = False
    method: str = "auto"
    ca_identifier: str | None = None
    timeout: float = 30.0
    tls_ca: str | None = None
    environment_proxies: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For the state file of a pending request."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ServerOptions:
        """The reverse of to_dict.

        Raises:
            ValueError: it is not what to_dict made.
        """
        try:
            options = cls(**data)
        except TypeError as error:
            raise ValueError(f"server options: {error}") from error
        return replace(
            options,
            ca_certificate=tuple(options.ca_certificate),
            ra_fingerprint=tuple(options.ra_fingerprint),
            next_ca_certificate=tuple(options.next_ca_certificate),
        )


class Output:
    """Results on standard output, progress on standard error, and neither mixed up."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.interactive = not as_json and sys.stderr.isatty()

    def note(self, text: str) -> None:
        """A line of progress for people."""
        if not self.as_json:
            click.echo(text, err=True)

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """The result: one JSON object, or text."""
        click.echo(json.dumps(data, indent=2, default=str) if self.as_json else text)


class Session:
    """One client with its transport."""

    def __init__(self, options: ServerOptions, *, trust_required: bool = True) -> None:
        """Load what the options name.

        Args:
            options: of the command line, or of a state file.
            trust_required: False only where the certificates are just shown.

        Raises:
            Failed: options that contradict each other or that do not suffice.
        """
        anchors = _certificates(options.ca_certificate)
        self.authenticated = bool(options.fingerprint or anchors)
        first_use = options.trust_on_first_use or not trust_required
        if not self.authenticated and not first_use:
            raise Failed(
                "say which CA this is: --fingerprint SHA256 (from the CA's operator; "
                "`pyscep cacert URL` shows what the server claims), --ca-certificate FILE, or "
                "--trust-on-first-use"
            )
        self.options = options
        self.retry_after: float | None = None
        try:
            self.client = Client(
                options.url,
                ca_fingerprint=options.fingerprint,
                ca_certificates=anchors,
                ra_fingerprints=options.ra_fingerprint,
                next_ca_certificates=_certificates(options.next_ca_certificate),
                trust_on_first_use=first_use and not self.authenticated,
                policy=AlgorithmPolicy.named(options.policy),
                ca_identifier=options.ca_identifier,
                check_key_usage=False if options.ignore_key_usage or not trust_required else None,
                method=options.method,  # type: ignore[arg-type] # click.Choice has checked it
            )
            self._send = urllib_sender(
                options.timeout,
                proxies=options.environment_proxies,
                context=_tls_context(options.tls_ca),
            )
        except ValueError as error:
            raise Failed(str(error)) from error

    def run(self, flow: Generator[HttpRequest, HttpResponse, T]) -> T:
        """Carry a flow of the client to its end."""
        try:
            return run(flow, self._exchange)
        except ValueError as error:  # misuse: a URL or a key that can't be used
            raise Failed(str(error)) from error

    def _exchange(self, request: HttpRequest) -> HttpResponse:
        send: Sender = self._send
        response = send(request)
        self.retry_after = _seconds(response.header("retry-after"))
        return response


def _certificates(paths: Sequence[str]) -> list[x509.Certificate]:
    return [certificate for path in paths for certificate in files.load_certificates(path)]


def _seconds(value: str | None) -> float | None:
    """Retry-After in its form of seconds; a date is not worth a clock that may be wrong."""
    if value is not None and value.isascii() and value.strip().isdigit():
        return float(value.strip()[:9])
    return None


def _tls_context(tls_ca: str | None) -> ssl.SSLContext | None:
    if tls_ca is None:
        return None
    roots = files.read(tls_ca, limit=16 * 1024 * 1024).decode("ascii", "replace")
    try:
        return ssl.create_default_context(cadata=roots)
    except (ssl.SSLError, ValueError) as error:
        raise Failed(f"{tls_ca} holds no certificates in PEM: {error}", code="file") from error


def load_identity(certificate: str, key: str) -> Identity:
    """A certificate with its key, from two files.

    Raises:
        Failed: they do not belong together, or can't be read as such.
    """
    leaf, *chain = files.load_certificates(certificate)
    try:
        return Identity(leaf, files.load_key(key), tuple(chain))
    except ValueError as error:
        raise Failed(f"{certificate} and {key}: {error}", code="file") from error


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the DER, in the form that --fingerprint takes."""
    return f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json, and hand the command an Output as ``out``."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
    @functools.wraps(function)
    def command(*args: Any, as_json: bool, **options: Any) -> Any:
        return function(*args, out=Output(as_json=as_json), **options)

    return command


_SERVER_OPTIONS = (
    click.argument("url"),
    click.option(
        "--fingerprint",
        metavar="SHA256",
        help="Fingerprint of the CA certificate, from its operator. Colons and `sha256:` are "
        "allowed.",
    ),
    click.option(
        "--ca-certificate",
        metavar="FILE",
        multiple=True,
        help="CA certificate that you trust already (PEM or DER); may be repeated.",
    ),
    click.option(
        "--ra-fingerprint",
        metavar="SHA256",
        multiple=True,
        help="Fingerprint of a certificate that may act for the CA; no other one may, then. May be "
        "repeated.",
    ),
    click.option(
        "--next-ca-certificate",
        metavar="FILE",
        multiple=True,
        help="What `pyscep getnextcacert` wrote: ask for a certificate under the CA that comes "
        "next.",
    ),
    click.option(
        "--trust-on-first-use",
        is_flag=True,
        help="Believe whatever the server sends. Whoever sits on the path can then take its "
        "place, and learns the challenge.",
    ),
    click.option(
        "--policy",
        type=click.Choice(POLICIES),
        default="modern",
        show_default=True,
        help="modern: SHA-2 and AES. compatible: also SHA-1 and 3DES. legacy: also MD5 and "
        "single DES, which some servers answer with whatever they are asked in.",
    ),
    click.option(
        "--ignore-key-usage",
        is_flag=True,
        help="Encrypt to a certificate whose keyUsage does not allow it (micromdm scepserver); "
        "--policy legacy does so too.",
    ),
    click.option(
        "--method",
        type=click.Choice(("auto", "post", "get")),
        default="auto",
        show_default=True,
        help="How PKIOperation travels; auto asks the server.",
    ),
    click.option(
        "--ca-identifier", metavar="TEXT", help="Name of the CA, where a server has several."
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="For each exchange, from connecting to the last byte.",
    ),
    click.option("--tls-ca", metavar="FILE", help="Roots for an https URL (PEM)."),
    click.option(
        "--environment-proxies",
        is_flag=True,
        help="Use http_proxy, https_proxy and no_proxy of the environment.",
    ),
)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name a server; the command gets them as ``server``."""
    names = tuple(ServerOptions.__dataclass_fields__)

    @functools.wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        server = ServerOptions(**{name: options.pop(name) for name in names})
        return function(*args, server=server, **options)

    wrapped: Callable[..., Any] = command
    for option in reversed(_SERVER_OPTIONS):
        wrapped = option(wrapped)
    return wrapped
