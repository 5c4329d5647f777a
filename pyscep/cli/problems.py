"""What goes wrong, as one message, one code for machines and one exit code."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import click

from pyscep.enums import FailInfo
from pyscep.errors import (
    AlgorithmError,
    DecodeError,
    DecryptionError,
    EnrollmentRefused,
    ProtocolError,
    ScepError,
    SignatureError,
    TransportError,
    UnknownCertificate,
)

OK, TRANSPORT, USAGE, REFUSED, PROTOCOL, PENDING = range(6)

_PROTOCOL_CODES: tuple[tuple[type[ProtocolError], str], ...] = (
    (DecodeError, "decode"),
    (SignatureError, "signature"),
    (DecryptionError, "decryption"),
    (AlgorithmError, "algorithm"),
    (UnknownCertificate, "unknown_certificate"),
    (ProtocolError, "protocol"),
)
_PACKAGES = ("sqlalchemy", "uvicorn", "httpx", "msal", "pydantic")
"""Of extras, which may be missing."""
_REFUSED_ALGORITHM = re.compile(
    r"the policy '(\w+)' refuses the (?:cipher|digest) (\S+) \(allowed by the policy '(\w+)'\)"
)
_ALGORITHM_NAMES = {
    "des-cbc": "single DES",
    "des-ede3-cbc": "triple DES",
    "md5": "MD5",
    "sha1": "SHA-1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One failure of a command."""

    code: str
    exit_code: int
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One JSON object on one line."""
        body = {"code": self.code, "exit_code": self.exit_code, "message": self.message}
        return json.dumps({"error": body | self.details})

    def text(self) -> str:
        """For people."""
        return f"Error: {self.message}"


class Failed(click.ClickException):
    """A command's own failure, with its code."""

    def __init__(
        self,
        message: str,
        *,
        code: str = "usage",
        exit_code: int = USAGE,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = exit_code
        self.details = details or {}


def visible(text: str) -> str:
    """Foreign text, made safe for a terminal: control and bidi characters become escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text.encode("utf-8", "backslashreplace").decode("utf-8")
    )


def describe(error: Exception) -> Problem | None:
    """The problem that an exception stands for, or None for a defect of this program."""
    match error:
        case click.Abort():
            return Problem(code="aborted", exit_code=130, message="Aborted")
        case Failed(code=code, status=status):
            message = error.format_message()
            return Problem(code=code, exit_code=status, message=message, details=error.details)
        case click.ClickException():
            return Problem(code="usage", exit_code=USAGE, message=_usage_text(error))
        case EnrollmentRefused():
            return _refusal(error)
        case TransportError():
            return _transport(error)
        case ProtocolError():
            code = next(name for kind, name in _PROTOCOL_CODES if isinstance(error, kind))
            return Problem(code=code, exit_code=PROTOCOL, message=_switches(str(error)))
        case ScepError():
            return Problem(code="protocol", exit_code=PROTOCOL, message=visible(str(error)))
        case FileExistsError(filename=name):
            return _file_problem(f"{name} exists already: choose another name or pass --force")
        case OSError(filename=str() as name, strerror=str() as reason):
            return _file_problem(f"{visible(name)}: {reason}")
        case ModuleNotFoundError(name=str() as name) if name in _PACKAGES:
            message = f"this needs the package {name}: in a checkout, pip install '.[all]'"
            return Problem(code="missing_package", exit_code=USAGE, message=message)
        case _ if type(error).__module__.startswith("sqlalchemy."):
            message = f"the database: {visible(str(error).partition(chr(10))[0])}"
            return Problem(code="database", exit_code=USAGE, message=message)
        case _:
            return None


def _usage_text(error: click.ClickException) -> str:
    message = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        message += f"\nTry `{error.ctx.command_path} --help`."
    return message


def _file_problem(message: str) -> Problem:
    return Problem(code="file", exit_code=USAGE, message=message)


def _refusal(error: EnrollmentRefused) -> Problem:
    name = error.fail_info
    shown = name.rfc_name if isinstance(name, FailInfo) else name
    message = f"the CA refused the request: {'no failInfo' if shown is None else shown}"
    if error.text:
        message += f" ({visible(error.text)})"
    if name is FailInfo.BAD_REQUEST:
        message += "; it says no more than that (a wrong or used challenge looks the same)"
    details = {"fail_info": shown, "text": error.text}
    return Problem(code="refused", exit_code=REFUSED, message=message, details=details)


def _transport(error: TransportError) -> Problem:
    message = visible(str(error))
    if error.retry_after is not None:
        message += f"; the server asks to wait {error.retry_after:g} seconds"
    details = {"status": error.status, "retry_after": error.retry_after}
    return Problem(code="transport", exit_code=TRANSPORT, message=message, details=details)


def _switches(text: str) -> str:
    """The text of the library, with the options of this command line in place of its own."""
    found = _REFUSED_ALGORITHM.search(text)
    if found:
        policy, name, wanted = found.groups()
        return (
            f"the server answered with {_ALGORITHM_NAMES.get(name, name)}, which the policy "
            f"{policy!a} refuses: if you have to live with that server, pass --policy {wanted}"
        )
    return visible(text).replace(
        "check_key_usage=False overlooks that, and so does the policy 'legacy'",
        "--ignore-key-usage overlooks that, and so does --policy legacy",
    )
