"""The way from a request to its answer, as ASGI and WSGI share it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pyscep.http import MEDIA_PKI_MESSAGE, HttpRequest, HttpResponse, text_response
from pyscep.messages import Failure, Outcome
from pyscep.server import Authority, AuthorityUnavailable, PkiRequest, Server

_logger = logging.getLogger("pyscep.adapters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response, and whether it is a FAILURE: that must not leave too early."""

    response: HttpResponse
    failed: bool = False


def respond(server: Server, authority: Authority, request: HttpRequest) -> Answer:
    """Answer a request with a plain authority."""
    accepted = accept(server, request)
    if isinstance(accepted, Answer):
        return accepted
    outcome: Outcome | Exception
    try:
        outcome = authority(accepted)
    except Exception as error:
        outcome = error
    return conclude(server, accepted, outcome)


def accept(server: Server, request: HttpRequest) -> PkiRequest | Answer:
    """Read a request; what needs no authority is answered here."""
    try:
        received = server.receive(request)
    except Exception:  # a defect: the peer learns nothing, the log gets the traceback
        _logger.exception("receiving a SCEP request failed")
        return Answer(response=text_response(500, "internal error"))
    if isinstance(received, PkiRequest):
        return received
    return Answer(response=received, failed=received.media_type == MEDIA_PKI_MESSAGE)


def conclude(server: Server, request: PkiRequest, outcome: Outcome | Exception) -> Answer:
    """Put the authority's outcome on the wire.

    What it raised, or an outcome that can't be sent, is a 503: devices give up on a FAILURE,
    so a fault of ours is never one.
    """
    if not isinstance(outcome, Exception):
        try:
            response = server.reply(request, outcome)
            return Answer(response=response, failed=isinstance(outcome, Failure))
        except Exception as error:
            outcome = error
    if isinstance(outcome, AuthorityUnavailable):
        _logger.warning("the authority is unavailable: %s", ascii(str(outcome)))
    else:
        _logger.error("the authority failed", exc_info=outcome)
    return Answer(response=server.unavailable(request, outcome))


def busy() -> HttpResponse:
    """Too much is being worked on at this moment."""
    return text_response(503, "busy", (("retry-after", "5"),))


def declared_length(value: str) -> int | None:
    """Content-Length, or None where it is absent or not a number."""
    value = value.strip()
    if not (value.isascii() and value.isdigit()):
        return None
    return int(value[:20])
