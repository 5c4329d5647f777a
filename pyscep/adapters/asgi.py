"""SCEP as an ASGI application: under uvicorn or hypercorn, or inside Starlette and FastAPI.

The instance is the endpoint: ``app.add_route("/scep{tail:path}", ScepApp(server, authority),
methods=["GET", "POST"])``. Frameworks decode queries; this takes the raw one from the scope.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pyscep.adapters.answer import Answer, accept, busy, conclude, declared_length, respond
from pyscep.http import HttpError, HttpRequest, HttpResponse, text_response
from pyscep.messages import Outcome
from pyscep.server import AsyncAuthority, Authority, PkiRequest, Server

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

THREADS = 64
_DRAIN_BYTES = 1024 * 1024
_DRAIN_SECONDS = 2.0


class _Gone(Exception):
    """The client hung up before its request was complete."""


class ScepApp:
    """An ASGI application that answers SCEP requests on whatever path it is given.

    Cryptography, and an authority that is a plain function, run in a pool of threads of its
    own, so the event loop stays free. An authority that is a coroutine function runs on the
    loop.

    Args:
        server: the server role.
        authority: decides; a function or a coroutine function.
        minimum_failure_seconds: no FAILURE leaves earlier than this after its request
            came, so that its timing says less about where the request failed.
        body_seconds: how long a request's body may take to arrive.
        max_pending: requests that are being worked on at one time; the next ones get a 503
            with Retry-After.
        threads: size of the pool. More than there are processors: a thread that waits for
            the store's commit needs none, and those that wait share it.
    """

    def __init__(
        self,
        server: Server,
        authority: Authority | AsyncAuthority,
        *,
        minimum_failure_seconds: float = 0.05,
        body_seconds: float = 10.0,
        max_pending: int = 256,
        threads: int | None = None,
    ) -> None:
        self._server = server
        self._authority: Any = authority
        self._is_async = is_async(authority)
        self._minimum_failure_seconds = minimum_failure_seconds
        self._body_seconds = body_seconds
        self._max_pending = max_pending
        self._threads = threads or THREADS
        self._pending = 0
        self._pool: ThreadPoolExecutor | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface: http and lifespan; a websocket is refused."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise RuntimeError(f"ScepApp knows no ASGI scope of type {other!r}")

    def close(self) -> None:
        """Let the threads end; the next request would start new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await asyncio.to_thread(self.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        if self._pending >= self._max_pending:
            await _refuse(scope, receive, send, busy())
            return
        self._pending += 1
        try:
            answer = await self._answer(scope, receive)
        except _Gone:
            return
        except HttpError as error:
            await _refuse(scope, receive, send, text_response(error.status, error.reason))
            return
        finally:
            self._pending -= 1
        if answer.failed:
            wait = started + self._minimum_failure_seconds - time.monotonic()
            await asyncio.sleep(max(0.0, wait))
        await _send(send, answer.response)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        body = b""
        if scope["method"] == "POST":
            body = await self._read_body(scope, receive)
        request = http_request(scope, body)
        if not self._is_async:
            return await self._in_thread(lambda: respond(self._server, self._authority, request))
        accepted = await self._in_thread(lambda: accept(self._server, request))
        if isinstance(accepted, Answer):
            return accepted
        return await self._decide(accepted)

    async def _decide(self, request: PkiRequest) -> Answer:
        outcome: Outcome | Exception
        try:
            outcome = await self._authority(request)
        except Exception as error:
            outcome = error
        return await self._in_thread(lambda: conclude(self._server, request, outcome))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="pyscep")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._server.limits.body_bytes
        length = declared_length(_header(scope, b"content-length"))
        if length is not None and length > limit:
            raise HttpError(413, "the body is longer than the limit")
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise HttpError(413, "the body is longer than the limit")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise HttpError(408, "the body took too long") from None


def is_async(authority: object) -> bool:
    """Whether calling the authority gives something to await."""
    call = getattr(authority, "__call__", None)  # noqa: B004 - an instance's own coroutine method
    return inspect.iscoroutinefunction(authority) or inspect.iscoroutinefunction(call)


def http_request(scope: Scope, body: bytes) -> HttpRequest:
    """The request in the protocol's form, its query as it was on the wire."""
    client = scope.get("client")
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"],
        headers=tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ),
        body=body,
        peer=client[0] if client else None,
    )


def _header(scope: Scope, name: bytes) -> str:
    for key, value in scope["headers"]:
        if key.lower() == name:
            return str(value.decode("latin-1"))
    return ""


async def _send(send: Send, response: HttpResponse, *, close: bool = False) -> None:
    headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": close})


async def _refuse(scope: Scope, receive: Receive, send: Send, response: HttpResponse) -> None:
    """Answer although the request's body was not read to its end.

    A connection that is closed while the client still writes is reset, and the client never
    sees why. So some more is read and dropped, within bounds, after the answer.
    """
    if not str(scope.get("http_version", "")).startswith("1"):
        await _send(send, response)
        return
    await _send(send, response, close=True)
    if scope["method"] != "GET":
        await _drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    dropped = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while dropped < _DRAIN_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                dropped += len(message.get("body", b""))
    except TimeoutError:
        return
