"""Applications on a loopback port for the length of a with block; they end by themselves."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def wsgi(app: Any) -> Iterator[str]:
    """Serve a WSGI application with the standard library; yields ``http://127.0.0.1:port``."""
    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


@contextmanager
def asgi(app: Any) -> Iterator[str]:
    """Serve an ASGI application with uvicorn; yields ``http://127.0.0.1:port``."""
    import uvicorn

    config = uvicorn.Config(
        app, http="h11", h11_max_incomplete_event_size=70_000, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def aiohttp(app: Any) -> Iterator[str]:
    """Serve an aiohttp application; yields ``http://127.0.0.1:port``."""
    from aiohttp import web

    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    started = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def main() -> None:
            runner = web.AppRunner(app, access_log=None, max_line_size=65_536)
            await runner.setup()
            await web.SockSite(runner, listener).start()
            started.set()
            await stop.wait()
            await runner.cleanup()

        thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
        thread.start()
        try:
            assert started.wait(10)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            loop.close()
