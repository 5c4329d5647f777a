"""What both ways of ``pyscep serve`` share: the socket or the workers, and what is shown."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pyscep.cli.problems import Failed
from pyscep.cli.session import Output

if TYPE_CHECKING:
    from pyscep.site.limits import SourceConnections
    from pyscep.site.operations import Operations
    from pyscep.site.workers import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An open site."""

    app: Any
    """The ASGI application."""
    connections: SourceConnections | None
    """Says who may hold connections open."""
    ready: Callable[[socket.socket], dict[str, Any]]
    """What is shown when requests are answered on a socket; makes a challenge."""


OpenSite = Callable[[], AbstractContextManager[Served]]


def listen(
    out: Output,
    host: str,
    port: int,
    workers: int,
    layer: Operations,
    open_site: OpenSite,
    text: Callable[[dict[str, Any]], str],
) -> None:
    """Serve until a signal comes.

    Args:
        out: shows that it is ready.
        host: to listen on.
        port: to listen on; 0 takes a free one.
        workers: processes that answer; one is this one.
        layer: limits, numbers and health.
        open_site: opens what is served, in the process that serves it.
        text: what is shown, for people.

    Raises:
        Failed: the address is taken.
        SystemExit: of workers, with the exit code.
    """
    from pyscep.site import serve as site

    def show(ready: dict[str, Any]) -> None:
        click.echo(json.dumps(ready) if out.as_json else text(ready))

    with _logs(out):
        if workers > 1:
            _serve_by_workers(out, host, port, workers, layer, open_site, show)
        with open_site() as served, _bound(host, port, 1)[0] as sock:
            site.serve(
                served.app,
                sock,
                on_ready=lambda: show(served.ready(sock)),
                connections=served.connections,
            )


@contextlib.contextmanager
def _logs(out: Output) -> Iterator[None]:
    """With --json, also what the logging package brings to standard error is a JSON object."""
    if not out.as_json:
        yield
        return
    from pyscep.site.logs import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def event_printer(out: Output, layer: Operations) -> Callable[[Any], None]:
    """Counts each event, and shows it as a line on standard error."""
    from pyscep.site import serve as site
    from pyscep.site.logs import json_line

    def on_event(event: Any) -> None:
        layer.on_event(event)
        record = site.describe_event(event)
        text = json_line(record) if out.as_json else site.event_line(record)
        with contextlib.suppress(OSError):  # nobody reads any more: go on serving
            click.echo(text, err=True)

    return on_event


def _serve_by_workers(
    out: Output,
    host: str,
    port: int,
    workers: int,
    layer: Operations,
    open_site: OpenSite,
    show: Callable[[dict[str, Any]], None],
) -> None:
    from pyscep.site import serve as site
    from pyscep.site.shared_numbers import SharedNumbers
    from pyscep.site.workers import Supervisor

    numbers = SharedNumbers(workers)

    def work(worker: Worker) -> None:
        layer.metrics.share(numbers, worker.number)
        with open_site() as served:
            site.serve(
                served.app,
                worker.sock,
                on_ready=lambda: worker.announce(served.ready(worker.sock) if worker.first else {}),
                lifeline=worker.parent,
                connections=served.connections,
            )

    def on_ready(ready: dict[str, Any]) -> None:
        show(ready | {"pid": os.getpid(), "workers": workers})

    def on_replaced(number: int, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        reason = f"worker {number} (process {pid}) ended with {how}; another one takes its place"
        record = {"event": "worker_replaced", "worker": number, "pid": pid, "reason": reason}
        with contextlib.suppress(OSError):
            click.echo(json.dumps(record) if out.as_json else reason, err=True)

    sockets = _bound(host, port, workers)
    supervisor = Supervisor(sockets, work, on_ready=on_ready, on_replaced=on_replaced)
    raise SystemExit(supervisor.run())


def _bound(host: str, port: int, count: int) -> list[socket.socket]:
    from pyscep.site import serve as site

    try:
        return [site.bind(host, port)] if count == 1 else site.bind_shared(host, port, count)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failed(f"can't listen on {host} port {port}: {reason}", code="address") from error
