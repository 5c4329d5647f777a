"""``[server]``: the table of what is common to all endpoints."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from pyscep.site.config.basis import Section
from pyscep.site.proxies import UNIX, ForwardedHeader


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{error}: give an address, or a network such as 10.0.0.0/24") from error
    return text


def _proxy(text: str) -> str:
    return text if text == UNIX else _network(text)


class LimitsConfig(Section):
    """``[server.limits]``: how much is done at one time, and for one source."""

    max_pending: int = Field(
        default=256,
        ge=1,
        description="Requests that are worked on at one time, of all endpoints together; the next "
        "ones get 503 before their bodies are read.",
    )
    retry_after_seconds: int = Field(
        default=5, ge=1, le=3600, description="Seconds after which those are told to come again."
    )
    per_source: bool = Field(
        default=True,
        description="false: none of the keys below counts. Sources are told apart behind "
        "`trusted_proxies`; IPv6 counts by /64; this machine's own addresses are not limited.",
    )
    rate_per_second: float = Field(
        default=20.0, gt=0, description="Requests per second of one source, in the long run."
    )
    burst: int = Field(default=200, ge=1, description="Requests of one source at once.")
    failure_cost: float = Field(
        default=20.0, ge=0, description="What a refused request takes of these, in requests."
    )
    max_delay_seconds: float = Field(
        default=2.0,
        ge=0,
        le=30,
        description="Seconds that what is above the rate is held back; after that it gets 429.",
    )
    max_concurrent: int = Field(
        default=32, ge=1, description="Requests of one source that are worked on at one time."
    )
    max_connections: int = Field(
        default=256,
        ge=1,
        le=1024,
        description="Connections that one source may hold open; the next ones are closed. Those "
        "of trusted proxies are not counted.",
    )
    max_sources: int = Field(
        default=10_000, ge=1, description="Of how many sources to keep count, in memory."
    )


class ServerConfig(Section):
    """``[server]``: where it listens, and whom it believes."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that answer; one for each processor is enough. Each has its share "
        "of the rates of `limits`.",
    )
    publish: bool = Field(
        default=True,
        description="Serve each CA's CRL at `/crl/<name>.crl` and its certificate at "
        "`/aia/<name>.cer`.",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(_proxy)], ...] = Field(
        default=(),
        description="Addresses and networks of reverse proxies, such as `10.0.0.0/24`; `unix` for "
        "one on a Unix socket. They are believed who is asking; so are those of "
        "`--trusted-proxy`.",
    )
    forwarded_header: ForwardedHeader = Field(
        default="x-forwarded-for",
        description="In which header they all say it; `forwarded` is that of RFC 7239. They have "
        "to write it themselves: another header they pass on from strangers.",
    )
    metrics_from: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=("127.0.0.0/8", "::1/128"),
        description="Addresses and networks that `/metrics` is shown to.",
    )
    limits: LimitsConfig = Field(default=LimitsConfig(), description="See below.")
