"""SCEP as a WSGI application: under gunicorn, uWSGI or mod_wsgi, beside Flask or Django.

Frameworks decode queries, and with them the ``+`` of base64 is lost; so this stands beside the
framework, not inside one of its views: ``app.wsgi_app = mount("/scep", ScepApp(server,
authority), app.wsgi_app)``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pyscep.adapters.answer import declared_length, respond
from pyscep.adapters.asgi import is_async
from pyscep.http import HttpError, HttpRequest, HttpResponse, text_response
from pyscep.server import Authority, Server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

Environ = dict[str, Any]


class ScepApp:
    """A WSGI application that answers SCEP requests on whatever path it is given.

    Args:
        server: the server role.
        authority: decides; a plain function. WSGI has no loop for a coroutine function.
        minimum_failure_seconds: no FAILURE leaves earlier than this after its request
            came. Off by default: waiting holds one of the server's threads or processes.

    Raises:
        TypeError: the authority is a coroutine function.
    """

    def __init__(
        self, server: Server, authority: Authority, *, minimum_failure_seconds: float = 0.0
    ) -> None:
        if is_async(authority):
            raise TypeError("WSGI needs a plain authority; an async one works with adapters.asgi")
        self._server = server
        self._authority = authority
        self._minimum_failure_seconds = minimum_failure_seconds

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """The WSGI interface."""
        started = time.monotonic()
        try:
            request = http_request(environ, self._server.limits.body_bytes)
        except HttpError as error:
            return _send(start_response, text_response(error.status, error.reason))
        answer = respond(self._server, self._authority, request)
        if answer.failed:
            time.sleep(max(0.0, started + self._minimum_failure_seconds - time.monotonic()))
        return _send(start_response, answer.response)


def mount(prefix: str, scep: ScepApp, app: WSGIApplication) -> WSGIApplication:
    """Put SCEP on a path, and everything below it, beside another WSGI application.

    Args:
        prefix: such as ``/scep``; then ``/scep/pkiclient.exe`` is SCEP too.
        scep: answers there.
        app: answers everywhere else, a Flask or Django application for instance.
    """
    prefix = "/" + prefix.strip("/")

    def combined(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
            return scep(environ, start_response)
        return app(environ, start_response)

    return combined


def http_request(environ: Environ, body_bytes: int) -> HttpRequest:
    """The request in the protocol's form, its query as it was on the wire.

    Raises:
        HttpError: the body is too long, or of unknown length.
    """
    method = environ["REQUEST_METHOD"]
    headers = [
        (name[5:].replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers.append((name.replace("_", "-").lower(), environ[name]))
    return HttpRequest(
        method=method,
        path=_text(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")) or "/",
        query=raw_query(environ),
        headers=tuple(headers),
        body=_read_body(environ, body_bytes) if method == "POST" else b"",
        peer=environ.get("REMOTE_ADDR") or None,
    )


def raw_query(environ: Environ) -> bytes:
    """The query as it was on the wire.

    RAW_URI (gunicorn) and REQUEST_URI (uWSGI, mod_wsgi, waitress) are the request's target
    untouched; QUERY_STRING is so with those servers too, but not with every middleware.
    """
    for name in ("RAW_URI", "REQUEST_URI"):
        target = environ.get(name)
        if target:
            return str(target).partition("?")[2].encode("latin-1", "replace")
    return str(environ.get("QUERY_STRING", "")).encode("latin-1", "replace")


def _text(value: str) -> str:
    """WSGI's native string (bytes seen as Latin-1) as the text it stands for."""
    return value.encode("latin-1", "replace").decode("utf-8", "replace")


def _read_body(environ: Environ, limit: int) -> bytes:
    length = declared_length(environ.get("CONTENT_LENGTH") or "")
    if length is not None:
        if length > limit:
            raise HttpError(413, "the body is longer than the limit")
        return _read(environ["wsgi.input"].read, length)
    if environ.get("wsgi.input_terminated"):  # the server has undone the chunks
        body = _read(environ["wsgi.input"].read, limit + 1)
        if len(body) > limit:
            raise HttpError(413, "the body is longer than the limit")
        return body
    if environ.get("HTTP_TRANSFER_ENCODING"):
        raise HttpError(411, "this server needs a Content-Length")
    return b""


def _read(read: Callable[[int], bytes], length: int) -> bytes:
    parts = []
    while length > 0:
        part = read(length)
        if not part:
            break
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _send(start_response: StartResponse, response: HttpResponse) -> Iterable[bytes]:
    phrase = HTTPStatus(response.status).phrase
    start_response(f"{response.status} {phrase}", list(response.headers))
    return [response.body]
