"""HTTP answers of a site's own pages, in ASGI's terms: what is not SCEP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from pyscep.adapters.asgi import Receive, Scope, Send
from pyscep.http import Headers, HttpResponse, text_response

_DRAINED_BYTES = 64 * 1024
_DRAIN_SECONDS = 5.0


def header_of(scope: Scope, name: bytes) -> str | None:
    """The values of a header, joined with commas (RFC 9110 section 5.3); None if absent.

    Args:
        scope: of the request.
        name: in lower case.
    """
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ", ".join(values) if values else None


def path_of(scope: Scope) -> str:
    """The path below the place where the application is mounted, percent-decoded.

    ASGI leaves it open whether ``path`` includes ``root_path``: servers and frameworks
    differ, so both are understood.
    """
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


async def send_response(scope: Scope, send: Send, response: HttpResponse) -> None:
    """Send a whole answer; without its body where the method is HEAD."""
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else response.body
    await send({"type": "http.response.body", "body": body})


async def drain(receive: Receive) -> bool:
    """Read a request's body away, within bounds; False if the client is gone."""
    dropped = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while dropped <= _DRAINED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                if not message.get("more_body", False):
                    return True
                dropped += len(message.get("body", b""))
    except TimeoutError:
        pass
    return True


async def lifespan(receive: Receive, send: Send, close: Callable[[], None] = lambda: None) -> None:
    """The lifespan protocol of an application that has nothing to start.

    Args:
        receive, send: ASGI's.
        close: what is done at the end, in a thread.
    """
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await asyncio.to_thread(close)
            await send({"type": "lifespan.shutdown.complete"})
            return


def page_response(status: int, body: bytes, media_type: str, extra: Headers = ()) -> HttpResponse:
    """A page that nobody keeps, frames or sniffs.

    Args:
        status: of HTTP.
        body: encoded already.
        media_type: with its charset.
        extra: further headers, names in lower case.
    """
    headers = (
        ("content-type", media_type),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        *extra,
    )
    return HttpResponse(status=status, headers=headers, body=body)


def not_found() -> HttpResponse:
    """404."""
    return text_response(404, "There is nothing here.\n")


def not_allowed(methods: Iterable[str]) -> HttpResponse:
    """405, with the methods that would do."""
    return text_response(405, "This method has no meaning here.\n", [("allow", ", ".join(methods))])


def unavailable() -> HttpResponse:
    """503: something of ours failed; the log says what."""
    return text_response(503, "This can't be answered now; try again later.\n", [_RETRY])


_RETRY = ("retry-after", "30")
