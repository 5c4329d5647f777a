"""How often somebody may ask: a token bucket for each source.

No limit here is shared by all: one anonymous sender can slow down himself and nobody else.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Final, assert_never

from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected, ServerEvent
from pyscep.messages import Failure
from pyscep.site.proxies import TrustedProxies, address_of

_LONGEST: Final = 100
"""Characters of an address, generously: anything longer is not kept in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How much one source may ask for. IPv6 counts by /64, which is one customer's."""

    rate: float = 20.0
    """Requests in a second, in the long run."""
    burst: int = 200
    """Requests at once."""
    failure_cost: float = 20.0
    """What a refused request takes, in requests: guessing is slow, enrolling is not."""
    max_delay: float = 2.0
    """Seconds that a request is held back before it is refused with 429 instead."""
    max_concurrent: int = 32
    """Requests at a time, so that slow ones of one source don't fill the queue."""
    max_sources: int = 10_000
    """Of how many sources to keep count; the one unheard of for longest is forgotten."""

    def __post_init__(self) -> None:
        """Refuse what would let nobody in.

        Raises:
            ValueError: a number that is not positive.
        """
        for name in ("rate", "burst", "max_concurrent", "max_sources"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")

    def shared_by(self, processes: int) -> RateLimit:
        """The share of each of several processes, none of which knows what the others let in."""
        return replace(
            self,
            rate=self.rate / processes,
            burst=math.ceil(self.burst / processes),
            max_concurrent=math.ceil(self.max_concurrent / processes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What becomes of a request."""

    delay: float = 0.0
    """Seconds to hold it back."""
    retry_after: int | None = None
    """Seconds; the request is refused with 429. None: it is let in."""


class _Bucket:
    """What is left to one source."""

    __slots__ = ("concurrent", "tokens", "updated")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.updated = now
        self.concurrent = 0


class SourceLimits:
    """A token bucket for each source. Usable from several threads.

    This machine's own addresses are not limited: behind a proxy that isn't named among the
    trusted ones, everybody would have them.

    Args:
        limit: the numbers.
        clock: seconds, monotonic.
    """

    def __init__(
        self, limit: RateLimit | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit or RateLimit()
        self._clock = clock
        self._lock = Lock()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def admit(self, source: str | None) -> Admission:
        """Decide on a request; whoever is let in must be released."""
        key = _key(source)
        if key is None:
            return Admission()
        limit = self._limit
        with self._lock:
            bucket = self._bucket(key)
            if bucket.concurrent >= limit.max_concurrent:
                return Admission(retry_after=1)
            wait = max(0.0, (1 - bucket.tokens) / limit.rate)
            if wait > limit.max_delay:
                return Admission(retry_after=math.ceil(wait))
            bucket.tokens -= 1
            bucket.concurrent += 1
            return Admission(delay=wait)

    def release(self, source: str | None) -> None:
        """A request that was let in is over."""
        key = _key(source)
        with self._lock:
            if key is not None and (bucket := self._buckets.get(key)) is not None:
                bucket.concurrent = max(0, bucket.concurrent - 1)

    def charge(self, source: str | None, tokens: float) -> None:
        """Take more from a source, at most as much as it could ever have."""
        key = _key(source)
        if key is None:
            return
        with self._lock:
            bucket = self._bucket(key)
            bucket.tokens = max(bucket.tokens - tokens, -float(self._limit.burst))

    def on_event(self, event: ServerEvent) -> None:
        """Take more for requests that were refused."""
        match event:
            case RequestRejected(source=source):
                self.charge(source, self._limit.failure_cost)
            case RequestAnswered(source=source, outcome=Failure()):
                self.charge(source, self._limit.failure_cost)
            case RequestAnswered() | AuthorityFailed():
                pass
            case _:
                assert_never(event)

    def _bucket(self, key: str) -> _Bucket:
        now, limit = self._clock(), self._limit
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= limit.max_sources:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = _Bucket(float(limit.burst), now)
        self._buckets.move_to_end(key)
        earned = (now - bucket.updated) * limit.rate
        bucket.tokens = min(float(limit.burst), bucket.tokens + max(0.0, earned))
        bucket.updated = now
        return bucket


class SourceConnections:
    """How many connections each source holds open, in one event loop.

    Trusted proxies, who hold those of many, are not counted, nor is this machine.

    Args:
        most: of one source; the next ones are to be closed.
        proxies: who is trusted.
        on_refused: called for each of these.
    """

    def __init__(
        self, most: int, proxies: TrustedProxies, on_refused: Callable[[], None] = lambda: None
    ) -> None:
        self._most = most
        self._proxies = proxies
        self._on_refused = on_refused
        self._open: dict[str, int] = {}

    def opened(self, peer: str | None) -> bool:
        """Whether a connection may stay; whoever is let in must be closed."""
        key = self._counted(peer)
        if key is None:
            return True
        count = self._open.get(key, 0)
        if count >= self._most:
            self._on_refused()
            return False
        self._open[key] = count + 1
        return True

    def closed(self, peer: str | None) -> None:
        """A connection that was let in has ended."""
        key = self._counted(peer)
        if key is None:
            return
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]

    def _counted(self, peer: str | None) -> str | None:
        return None if self._proxies.trusts(peer) else _key(peer)


def _key(source: str | None) -> str | None:
    """What is counted together; None for what is not counted."""
    if source is not None and len(source) > _LONGEST:
        return _key_of.__wrapped__(source)
    return _key_of(source)


@lru_cache(maxsize=1024)
def _key_of(source: str | None) -> str | None:
    address = address_of(source)
    if address is None or address.is_loopback:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
