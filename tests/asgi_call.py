"""One call of an ASGI application, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

from pyscep.http import HttpResponse


def call(
    app: Any,
    path: str,
    *,
    method: str = "GET",
    query: bytes = b"",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    peer: str | None = "192.0.2.1",
    root_path: str = "",
) -> HttpResponse:
    """The answer of `app` to one request."""
    return asyncio.run(
        acall(app, path, method=method, query=query, headers=headers, body=body, peer=peer,
              root_path=root_path))


async def acall(
    app: Any,
    path: str,
    *,
    method: str = "GET",
    query: bytes = b"",
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    peer: str | None = "192.0.2.1",
    root_path: str = "",
) -> HttpResponse:
    """The same, in a loop that runs."""
    sent: list[Any] = []
    scope = {
        "type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": path,
        "root_path": root_path, "query_string": query, "client": (peer, 1234) if peer else None,
        "headers": [(key.encode(), value.encode()) for key, value in (headers or {}).items()]}

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    return HttpResponse(
        status=start["status"],
        headers=tuple((key.decode(), value.decode()) for key, value in start["headers"]),
        body=b"".join(message["body"] for message in rest))
