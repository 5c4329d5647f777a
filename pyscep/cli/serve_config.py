"""``pyscep serve --config``: every endpoint of a configuration on one port."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pyscep.cli.config import read_config
from pyscep.cli.problems import Failed
from pyscep.cli.serve_socket import Served, event_printer, listen
from pyscep.cli.session import Output

if TYPE_CHECKING:
    from pyscep.site.operations import Operations


def serve_config(
    out: Output, path: str, host: str | None, port: int | None, layer: Operations, workers: int
) -> None:
    """Serve until a signal comes.

    Args:
        out: shows that it is ready, and events.
        path: of the configuration.
        host: instead of the configuration's.
        port: likewise.
        layer: limits, numbers and health.
        workers: how many processes answer.

    Raises:
        Failed: the configuration can't be used, or the address is taken.
    """
    config, builder = read_config(path)
    from pyscep.site import serve as site
    from pyscep.site.config import ConfigError
    from pyscep.site.endpoints import OpenSite
    from pyscep.site.operations import readiness

    bound_host = config.server.host if host is None else host

    @contextlib.contextmanager
    def open_site() -> Iterator[Served]:
        try:
            opened = OpenSite(config, builder, on_event=event_printer(out, layer))
        except ConfigError as error:
            raise Failed(str(error), code="config") from error
        with opened:
            authorities = [one.ca for one in opened.endpoints]
            for ca in authorities:
                ca.store.on_decision = layer.on_decision

            def ready(sock: socket.socket) -> dict[str, Any]:
                origin = site.url_of(sock, bound_host).removesuffix(site.PATH)
                return _ready(opened, path, origin)

            yield Served(app=layer.app(opened.app, readiness(authorities)), ready=ready)

    port = config.server.port if port is None else port
    listen(out, bound_host, port, workers, layer, open_site, _ready_text)


def _ready(opened: Any, path: str, origin: str) -> dict[str, Any]:
    from pyscep.site.endpoints import DEFAULT_POLICIES
    from pyscep.site.serve import WEAK_POLICIES

    endpoints = []
    for one in opened.endpoints:
        policy = one.config.policy or DEFAULT_POLICIES[one.config.kind]
        endpoint = {
            "name": one.name,
            "url": f"{origin}{one.path}",
            "fingerprint": one.ca.fingerprint,
            "policy": policy,
        }
        if warning := WEAK_POLICIES.get(policy):
            endpoint["warning"] = f"policy {policy}: {warning}"
        endpoints.append(endpoint)
    return {"status": "ready", "config": path, "endpoints": endpoints, "pid": os.getpid()}


def _ready_text(ready: dict[str, Any]) -> str:
    lines = []
    for one in ready["endpoints"]:
        lines += [
            f"Endpoint:     {one['name']}",
            f"SCEP URL:     {one['url']}",
            f"Fingerprint:  {one['fingerprint']}",
        ]
        if "warning" in one:
            lines.append(f"Warning:      {one['warning']}")
        lines.append("")
    lines.append("Ready. Ctrl-C stops it.")
    return "\n".join(lines)
