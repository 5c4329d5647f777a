"""Drivers for the client's flows, and the senders that carry requests over HTTP.

The client yields HttpRequest values and is sent HttpResponse values. ``run`` and
``run_async`` connect such a flow with a sender: any callable that takes the request and
returns the response. A sender raises TransportError where nothing usable came back; an
HTTP error status is a response like any other, and the client judges it.
"""

from __future__ import annotations

import asyncio
import inspect
import ssl
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from pyscep.adapters import plain_http
from pyscep.errors import TransportError
from pyscep.http import HttpRequest, HttpResponse

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

Sender = Callable[[HttpRequest], HttpResponse]
AsyncSender = Callable[[HttpRequest], Awaitable[HttpResponse]]
AnySender = Callable[[HttpRequest], "HttpResponse | Awaitable[HttpResponse]"]


def run(flow: Generator[HttpRequest, HttpResponse, T], send: Sender) -> T:
    """Carry a flow to its end with a synchronous sender.

    A TransportError of the sender is thrown into the flow, which may go on from it (a
    failed GetCACaps is no capability, RFC 8894 section 3.5.2).

    Args:
        flow: what a method of Client returned.
        send: carries one request, for example ``urllib_sender()``.

    Returns:
        What the flow returns.

    Raises:
        ScepError: whatever the flow raises.
    """
    answer: HttpResponse | TransportError | None = None
    try:
        while not isinstance(request := _advance(flow, answer), _Ended):
            try:
                answer = send(request)
            except TransportError as error:
                answer = error
        return request.result
    finally:
        flow.close()


async def run_async(flow: Generator[HttpRequest, HttpResponse, T], send: AnySender) -> T:
    """Carry a flow to its end with a sender that may be asynchronous.

    The work between two requests is some milliseconds of cryptography and runs where this
    coroutine runs.

    Args:
        flow: what a method of Client returned.
        send: carries one request; what it returns is awaited where that is possible.

    Returns:
        What the flow returns.

    Raises:
        ScepError: whatever the flow raises.
    """
    answer: HttpResponse | TransportError | None = None
    try:
        while not isinstance(request := _advance(flow, answer), _Ended):
            try:
                sent = send(request)
                answer = await sent if inspect.isawaitable(sent) else sent
            except TransportError as error:
                answer = error
        return request.result
    finally:
        flow.close()


@dataclass(frozen=True, slots=True)
class _Ended(Generic[T]):
    """A flow is over."""

    result: T


def _advance(
    flow: Generator[HttpRequest, HttpResponse, T], answer: HttpResponse | TransportError | None
) -> HttpRequest | _Ended[T]:
    """What a flow wants sent after an answer, or its result; None begins it."""
    try:
        match answer:
            case None:
                return next(flow)
            case TransportError():
                return flow.throw(answer)
            case _:
                return flow.send(answer)
    except StopIteration as stop:
        return _Ended(stop.value)


def urllib_sender(
    timeout: float = 30.0,
    *,
    max_bytes: int | None = None,
    proxies: bool | Mapping[str, str] = False,
    context: ssl.SSLContext | None = None,
) -> Sender:
    """A sender on the standard library alone: one connection for each request.

    Redirects are not followed, the environment's proxies are not used unless asked for, and
    a compressed reply is refused (nothing is unpacked before it is authenticated).

    Args:
        timeout: seconds for the whole exchange, from connecting to the last byte of the
            reply; only the name look-up, which the operating system bounds, is not counted.
        max_bytes: the longest reply that is read, in bytes; None takes the request's own
            limit (1 MiB, and 64 MiB where a CRL was asked for).
        proxies: True takes the proxies of the environment (``http_proxy``,
            ``https_proxy``, ``no_proxy``); or a mapping from scheme to proxy URL.
        context: TLS settings for https; the default verifies against the system's roots.

    Returns:
        The sender; it raises TransportError when no reply came, and ValueError for a URL
        that is not http or https.
    """
    if timeout <= 0:
        raise ValueError("timeout is a positive number of seconds")
    return partial(
        plain_http.exchange, timeout=timeout, max_bytes=max_bytes, proxies=proxies, context=context
    )


@overload
def httpx_sender(
    client: httpx.Client, *, timeout: float = ..., max_bytes: int | None = ...
) -> Sender: ...
@overload
def httpx_sender(
    client: httpx.AsyncClient, *, timeout: float = ..., max_bytes: int | None = ...
) -> AsyncSender: ...
def httpx_sender(
    client: httpx.Client | httpx.AsyncClient,
    *,
    timeout: float = 30.0,
    max_bytes: int | None = None,
) -> Sender | AsyncSender:
    """A sender on an httpx client of yours, with its TLS, proxy and pool settings.

    The URL goes out byte for byte as the request has it; redirects stay off.

    Args:
        client: ``httpx.Client`` gives a sender for ``run``, ``httpx.AsyncClient`` one for
            ``run_async`` under asyncio.
        timeout: seconds for the whole exchange. With a synchronous client it is checked
            whenever bytes of the body arrive; before that the client's own timeouts hold.
        max_bytes: the longest reply that is read, in bytes; None takes the request's own
            limit.

    Raises:
        TypeError: not a client of httpx.
    """
    import httpx

    if isinstance(client, httpx.AsyncClient):
        return partial(_httpx_async, client, seconds=timeout, max_bytes=max_bytes)
    if isinstance(client, httpx.Client):
        return partial(_httpx_sync, client, seconds=timeout, max_bytes=max_bytes)
    raise TypeError("httpx_sender takes an httpx.Client or an httpx.AsyncClient")


def _httpx_sync(
    client: httpx.Client, request: HttpRequest, *, seconds: float, max_bytes: int | None
) -> HttpResponse:
    import httpx

    deadline = time.monotonic() + seconds
    limit = plain_http.response_limit(request, max_bytes)
    try:
        response = client.send(_httpx_request(client, request), stream=True, follow_redirects=False)
        try:
            headers = _judge_headers(response, request, limit)
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                plain_http.check_size(len(body), limit)
                if time.monotonic() > deadline:
                    raise plain_http.too_slow(request, seconds)
        finally:
            response.close()
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise _httpx_failure(request, error) from error
    return HttpResponse(status=response.status_code, headers=headers, body=bytes(body))


async def _httpx_async(
    client: httpx.AsyncClient, request: HttpRequest, *, seconds: float, max_bytes: int | None
) -> HttpResponse:
    import httpx

    limit = plain_http.response_limit(request, max_bytes)
    try:
        async with asyncio.timeout(seconds):
            response = await client.send(
                _httpx_request(client, request), stream=True, follow_redirects=False
            )
            try:
                headers = _judge_headers(response, request, limit)
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    plain_http.check_size(len(body), limit)
            finally:
                await response.aclose()
    except TimeoutError as error:
        raise plain_http.too_slow(request, seconds) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise _httpx_failure(request, error) from error
    return HttpResponse(status=response.status_code, headers=headers, body=bytes(body))


def _httpx_request(client: httpx.Client | httpx.AsyncClient, request: HttpRequest) -> httpx.Request:
    """The request in httpx's form, its target untouched.

    httpx escapes and merges; the ``target`` extension of httpcore sends our bytes as they
    are, and the url is set again because parameters of the client would replace the query.
    """
    import httpx

    target = plain_http.split_url(request.url).target
    outgoing = client.build_request(
        request.method,
        request.url,
        headers=[*request.headers, ("accept-encoding", "identity")],
        content=request.body or None,
        extensions={"target": target.encode("ascii"), "timeout": client.timeout.as_dict()},
    )
    outgoing.url = httpx.URL(request.url)
    return outgoing


def _judge_headers(
    response: httpx.Response, request: HttpRequest, limit: int
) -> tuple[tuple[str, str], ...]:
    headers = tuple((name.lower(), value) for name, value in response.headers.multi_items())
    plain_http.judge(HttpResponse(status=response.status_code, headers=headers), request, limit)
    return headers


def _httpx_failure(request: HttpRequest, error: Exception) -> TransportError:
    place = plain_http.split_url(request.url).place
    detail = str(error) or type(error).__name__
    return TransportError(f"no answer from {place}: {detail!a}")
