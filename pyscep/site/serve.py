"""A CA and its one endpoint, ready to be served: what ``pyscep serve`` puts together."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, assert_never

from pyscep.adapters import http_server
from pyscep.adapters.asgi import Receive, ScepApp, Scope, Send
from pyscep.ca import CertificateAuthority, ChallengeRequest, Granted, Profile
from pyscep.ca import directory as ca_directory
from pyscep.ca.challenge import Notification
from pyscep.ca.made_elsewhere import MadeElsewhere
from pyscep.cms.algorithms import AlgorithmPolicy
from pyscep.enums import FailInfo
from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected, ServerEvent
from pyscep.http import text_response
from pyscep.messages import Failure, Pending
from pyscep.site.publication import Publication

PATH: Final = "/scep"
PATHS: Final = (PATH, "/cgi-bin/pkiclient.exe")
"""What is answered, with everything below: Windows and Cisco append ``pkiclient.exe``."""

_EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - to compare with; operators choose

WEAK_POLICIES: Final = {
    "compatible": "SHA-1 signatures and triple DES are accepted",
    "legacy": "MD5, SHA-1, single and triple DES are accepted: only for devices that speak "
    "nothing else",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How to run one CA."""

    directory: Path = Path("pyscep-ca")
    policy: Literal["modern", "compatible", "legacy"] = "modern"
    topology: Literal["ra", "ra-split", "ca"] = "ra"
    """Used when the CA is made, not later."""
    approval: Literal["automatic", "manual"] = "automatic"
    static_challenge: str | None = field(default=None, repr=False)
    allow_anyone: bool = False
    password: bytes | None = field(default=None, repr=False)
    """Of the CA's key files."""
    base_url: str | None = None
    """Where this server is reached by http: certificates say that CRL and CA certificate are
    there. It is kept in the directory; None leaves what is kept there."""


class AnyChallenge(MadeElsewhere):
    """Every challenge is right: open enrollment, for those who have asked for it."""

    scheme = "anyone"
    notifies = False
    no_challenge = "anyone may enroll: there are no challenges"

    def verify(self, request: ChallengeRequest) -> Granted:
        """Granted."""
        del request
        return Granted(credential=self.scheme)

    def notify(self, notification: Notification) -> None:
        """Nothing was spent."""


def open_ca(settings: ServeSettings) -> CertificateAuthority:
    """The CA of a directory; made first when there is none.

    Raises:
        ValueError: settings that contradict each other, or a key file that can't be used.
        OSError: the directory can't be read or made.
    """
    if settings.allow_anyone and settings.static_challenge is not None:
        raise ValueError("a challenge that everybody may leave out is none: choose one")
    # A request without a challenge, then, waits for approval: the CA grants none unseen.
    profile = Profile(
        approval=settings.approval, challenge="optional" if settings.allow_anyone else "required"
    )
    if settings.base_url is not None and ca_directory.exists(settings.directory):
        ca_directory.publish_at(settings.directory, settings.base_url)
    return CertificateAuthority.load_or_create(
        settings.directory,
        base_url=settings.base_url,
        topology=settings.topology,
        password=settings.password,
        profiles=profile,
        challenge=AnyChallenge() if settings.allow_anyone else None,
        static_challenge=settings.static_challenge,
    )


class Site:
    """An ASGI application with one SCEP endpoint; other paths are 404.

    Args:
        scep: answers ``/``, ``/scep`` and ``/cgi-bin/pkiclient.exe`` and what is below.
        publication: answers for CRL and CA certificate; None: nobody does.
    """

    def __init__(self, scep: ScepApp, publication: Publication | None = None) -> None:
        self._scep = scep
        self._publication = publication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http" or _is_scep(scope["path"]):
            await self._scep(scope, receive, send)
            return
        if self._publication is not None and self._publication.answers(scope["path"]):
            await self._publication(scope, receive, send)
            return
        response = text_response(404, "There is no SCEP endpoint here.\n")
        headers = [(name.encode(), value.encode()) for name, value in response.headers]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})


def _is_scep(path: str) -> bool:
    return path in ("", "/") or any(
        path == prefix or path.startswith(f"{prefix}/") for prefix in PATHS
    )


def site(
    ca: CertificateAuthority,
    settings: ServeSettings,
    *,
    on_event: Callable[[ServerEvent], None] | None = None,
) -> Site:
    """The application for a CA of ``open_ca``; its CRL is at ``/crl/ca.crl``.

    After a rollover the next CA's is at ``/crl/ca-2.crl``, and so on.
    """
    policy = AlgorithmPolicy.named(settings.policy)
    scep = ScepApp(ca.server(policy, on_event=on_event), ca)
    return Site(scep, Publication(ca.published()))


def url_of(sock: socket.socket, host: str) -> str:
    """The URL under which a socket of ``http_server.bind`` is reached.

    Args:
        sock: listens.
        host: as it was asked for; an address that stands for all becomes this machine's name.
    """
    address, port = sock.getsockname()[:2]
    return origin_of(address if address in _EVERYWHERE else host, port) + PATH


def origin_of(host: str, port: int) -> str:
    """Where a server that listens there is reached, as ``http://host:port``."""
    if host in _EVERYWHERE:
        host = socket.gethostname()
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{port}"


def describe_event(event: ServerEvent, now: datetime | None = None) -> dict[str, Any]:
    """An event as plain values; texts of the peer in it are not escaped yet."""
    record: dict[str, Any] = {
        "time": (now or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "source": event.source,
        "transaction_id": event.transaction.transaction_id if event.transaction else None,
    }
    match event:
        case RequestAnswered(message_type=kind, outcome=outcome):
            record |= {"event": "answered", "message": kind} | _describe_outcome(outcome)
        case AuthorityFailed(error=error):
            record |= {"event": "authority_failed", "reason": type(error).__name__}
        case RequestRejected(error=error, http_status=status):
            record |= {"event": "rejected", "http_status": status, "reason": str(error)}
        case _:
            assert_never(event)
    return record


def _describe_outcome(outcome: object) -> dict[str, Any]:
    match outcome:
        case Failure(fail_info=code, reason=reason):
            name = code.rfc_name if isinstance(code, FailInfo) else code
            return {"status": "FAILURE", "fail_info": name, "reason": reason}
        case Pending():
            return {"status": "PENDING"}
        case _:
            certificates = getattr(outcome, "certificates", ())
            if not certificates:
                return {"status": "SUCCESS"}
            leaf = certificates[0]
            return {
                "status": "SUCCESS",
                "serial_number": f"{leaf.serial_number:x}",
                "subject": leaf.subject.rfc4514_string(),
            }


def event_line(record: Mapping[str, Any]) -> str:
    """A record of ``describe_event`` on one line, with everything foreign escaped."""
    head = [record["time"], record["source"] or "-", record["event"]]
    rest = [
        f"{name}={json.dumps(str(value)[:256])}"
        for name, value in record.items()
        if name not in ("time", "source", "event") and value is not None
    ]
    return " ".join([*head, *rest])


serve = http_server.serve
bind = http_server.bind
bind_shared = http_server.bind_shared
