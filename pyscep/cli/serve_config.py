"""``pyscep serve --config``: every endpoint of a configuration on one port."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from pyscep.cli.config import config_failed, read_config
from pyscep.cli.problems import Failed
from pyscep.cli.serve_socket import Served, event_printer, listen
from pyscep.cli.session import Output


def serve_config(
    out: Output,
    path: str,
    host: str | None,
    port: int | None,
    trusted_proxies: tuple[str, ...] = (),
    workers: int | None = None,
) -> None:
    """Serve until a signal comes.

    Args:
        out: shows that it is ready, and events.
        path: of the configuration.
        host: instead of the configuration's.
        port: likewise.
        trusted_proxies: besides the configuration's.
        workers: how many processes answer, instead of the configuration's number.

    Raises:
        Failed: the configuration can't be used, or the address is taken.
    """
    config, builder = read_config(path)
    from pyscep.site import serve as site
    from pyscep.site.building import operations_of
    from pyscep.site.config import ConfigError
    from pyscep.site.endpoints import OpenSite
    from pyscep.site.operations import readiness

    workers = config.server.workers if workers is None else workers
    try:
        layer = operations_of(config.server, trusted_proxies, workers)
    except ValueError as error:
        raise Failed(f"--trusted-proxy: {error}") from error
    bound_host = config.server.host if host is None else host

    @contextlib.contextmanager
    def open_site() -> Iterator[Served]:
        try:
            opened = OpenSite(config, builder, on_event=event_printer(out, layer))
        except ConfigError as error:
            raise config_failed(error) from error
        with opened:
            authorities = [one.ca for one in opened.endpoints]
            for ca in authorities:
                ca.store.on_decision = layer.on_decision

            def ready(sock: socket.socket) -> dict[str, Any]:
                origin = site.url_of(sock, bound_host).removesuffix(site.PATH)
                return _ready(opened, path, origin)

            app = layer.app(opened.app, readiness(authorities))
            yield Served(app=app, connections=layer.connections, ready=ready)

    port = config.server.port if port is None else port
    listen(out, bound_host, port, workers, layer, open_site, _ready_text)


def _ready(opened: Any, path: str, origin: str) -> dict[str, Any]:
    from pyscep.site.serve import WEAK_POLICIES

    endpoints = []
    for one in opened.endpoints:
        endpoint = {
            "name": one.name,
            "url": f"{origin}{one.path}",
            "fingerprint": one.ca.fingerprint,
            "policy": one.policy,
        }
        challenges = (opened.config.challenge[name] for name in one.config.challenges)
        if one.config.kind == "scep" and any(each.kind == "one-time" for each in challenges):
            endpoint["challenges"] = f"pyscep challenge --config {path} --endpoint {one.name}"
        if warning := WEAK_POLICIES.get(one.policy):
            endpoint["warning"] = f"policy {one.policy}: {warning}"
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
        if "challenges" in one:
            lines.append(f"Challenges:   {one['challenges']}")
        if "warning" in one:
            lines.append(f"Warning:      {one['warning']}")
        lines.append("")
    lines.append("Ready. Ctrl-C stops it.")
    return "\n".join(lines)
