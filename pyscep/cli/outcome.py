"""From the server's answer to files: certificates, pending state, and polling in between."""

from __future__ import annotations

import functools
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from pyscep.cli import files
from pyscep.cli.problems import PENDING, Failed
from pyscep.cli.session import Output, ServerOptions, Session, fingerprint
from pyscep.errors import DecodeError, EnrollmentRefused, TransportError
from pyscep.messages import Success
from pyscep.transaction import PendingEnrollment

_LONGEST_WAIT = 3600.0
"""Seconds; a Retry-After beyond it is a mistake or an attack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling:
    """How patiently to wait for a decision."""

    interval: float
    max_polls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a request was for, as far as another process needs it to go on."""

    server: ServerOptions
    signer_key: str
    """File of the key that signed, and that polls."""
    out_file: str
    ca_out: str | None = None
    force: bool = False
    state: str | None = None
    """The file of a pending request."""
    resumed: bool = False
    """It comes from a state file: time has passed, the first poll is made at once."""

    @property
    def state_file(self) -> str:
        """Where a pending request is kept."""
        return self.state or f"{self.out_file}.pending.json"


def polling_options(
    max_polls: int, *, state: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of polling; the command gets them as ``polling``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--poll-interval",
            type=click.FloatRange(min=0.0),
            default=60.0,
            show_default=True,
            metavar="SECONDS",
            help="Between two polls; a Retry-After of the server makes it longer.",
        )
        @click.option(
            "--max-polls",
            type=click.IntRange(min=0),
            default=max_polls,
            show_default=True,
            metavar="COUNT",
            help="How often to ask again before giving up with exit code 5.",
        )
        @functools.wraps(function)
        def command(*args: Any, poll_interval: float, max_polls: int, **options: Any) -> Any:
            polling = Polling(interval=poll_interval, max_polls=max_polls)
            return function(*args, polling=polling, **options)

        if not state:
            return command
        return click.option(
            "--state",
            "state_file",
            metavar="FILE",
            help="Where a pending request is kept; the default is beside --out.",
        )(command)

    return decorate


def refuse_pending(job: Job) -> None:
    """Fail when an earlier request for the same file waits for its decision."""
    if not job.force and os.path.lexists(job.state_file):
        raise Failed(
            f"a request is pending already: `pyscep poll {job.state_file}` goes on with it, "
            "--force forgets it",
            code="file",
        )


def save_state(path: str, job: Job, pending: PendingEnrollment) -> None:
    """Write what `pyscep poll` needs. It names files and holds no secret."""
    data = {
        "format": "pyscep-pending-1",
        "server": job.server.to_dict(),
        "signer_key": job.signer_key,
        "out": job.out_file,
        "ca_out": job.ca_out,
        "force": job.force,
        "pending": json.loads(pending.to_json()),
    }
    text = json.dumps(data, indent=2) + "\n"
    files.write(path, text.encode(), mode=files.SECRET_MODE, replace=True)


def load_state(path: str) -> tuple[Job, PendingEnrollment]:
    """The reverse of save_state.

    Raises:
        Failed: the file is not one of save_state's.
        OSError: it cannot be read.
    """
    try:
        data = json.loads(files.read(path, limit=1024 * 1024))
        if data["format"] != "pyscep-pending-1":
            raise ValueError("unknown format")
        job = Job(
            server=ServerOptions.from_dict(data["server"]),
            signer_key=data["signer_key"],
            out_file=data["out"],
            ca_out=data["ca_out"],
            force=bool(data["force"]),
            state=path,
            resumed=True,
        )
        return job, PendingEnrollment.from_json(json.dumps(data["pending"]))
    except (ValueError, KeyError, TypeError, DecodeError) as error:
        raise Failed(f"{path} is not a state file of pyscep: {error}", code="file") from error


def conclude(
    session: Session,
    job: Job,
    result: Success | PendingEnrollment,
    key: Any,
    polling: Polling,
    out: Output,
) -> int:
    """Poll as long as allowed, then write the certificate or the state.

    Returns:
        The exit code, 0 or 5.

    Raises:
        EnrollmentRefused: the decision came, and it is no; the state is removed.
        TransportError: the last poll had no answer; the state stays.
    """
    state = job.state_file
    done = 0
    failure: TransportError | None = None
    while not isinstance(result, Success):
        save_state(state, job, result)
        if done == polling.max_polls:
            if failure is not None:
                raise failure
            return _still_pending(state, result, out)
        done += 1
        if done > 1 or not job.resumed:
            _wait(_delay(polling, session.retry_after), done, polling, out)
        try:
            result, failure = session.run(session.client.poll(result, key)), None
        except TransportError as error:
            out.note(f"poll {done}: {error}")
            failure = error
        except EnrollmentRefused:
            _forget(state)
            raise
    _write(session, job, result, out)
    _forget(state)
    return 0


def _forget(state: str) -> None:
    if os.path.lexists(state):
        os.unlink(state)


def _still_pending(state: str, pending: PendingEnrollment, out: Output) -> int:
    data = {
        "status": "pending",
        "transaction_id": pending.transaction_id,
        "state_file": state,
    }
    text = f"Pending: the CA has yet to decide. Go on with:\n  pyscep poll {state}"
    out.result(data, text)
    return PENDING


def _write(session: Session, job: Job, success: Success, out: Output) -> None:
    leaf = success.certificates[0]
    pem = files.certificates_pem(success.certificates)
    files.write(job.out_file, pem, mode=files.PUBLIC_MODE, replace=job.force)
    if job.ca_out:  # second: whatever happens now, the certificate is safe
        pem = files.certificates_pem(authorities(session))
        files.write(job.ca_out, pem, mode=files.PUBLIC_MODE, replace=job.force)
    data = {"status": "success", "certificate_file": job.out_file} | describe(leaf)
    if job.ca_out:
        data["ca_file"] = job.ca_out
    text = (
        f"Certificate: {job.out_file}\n"
        f"  subject:     {data['subject']}\n"
        f"  issuer:      {data['issuer']}\n"
        f"  serial:      {data['serial_number']}\n"
        f"  valid until: {data['not_after']}\n"
        f"  fingerprint: {data['fingerprint']}"
    )
    out.result(data, text + (f"\nCA certificates: {job.ca_out}" if job.ca_out else ""))


def authorities(session: Session) -> list[x509.Certificate]:
    """The CA certificates of the server, the issuer first, RA certificates left out."""
    found = session.run(session.client.get_ca_cert())
    return [found.ca, *(c for c in found.certificates if c != found.ca and is_ca(c))]


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it is a CA's, going by basicConstraints."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """The parts of a certificate that people ask for first."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial_number": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "fingerprint": fingerprint(certificate),
    }


def _delay(polling: Polling, retry_after: float | None) -> float:
    """Seconds to wait, with some chance in it so that a fleet does not come in step."""
    seconds = max(polling.interval, retry_after or 0.0)
    spread = random.uniform(1.0, 1.1)  # noqa: S311 - no secret depends on it
    return min(seconds * spread, _LONGEST_WAIT)


def _wait(seconds: float, number: int, polling: Polling, out: Output) -> None:
    place = f"poll {number} of {polling.max_polls}"
    if not out.interactive:
        out.note(f"pending; {place} in {seconds:.0f} s")
        time.sleep(seconds)
        return
    from rich.console import Console

    end = time.monotonic() + seconds
    with Console(stderr=True).status("pending") as status:
        while (left := end - time.monotonic()) > 0:
            status.update(f"pending; {place} in {left:.0f} s (Ctrl-C keeps the state)")
            time.sleep(min(1.0, left))


def absolute(path: str) -> str:
    """A path that still holds when `pyscep poll` runs elsewhere."""
    return str(Path(path).absolute())
