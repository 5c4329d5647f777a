"""``/healthz``: the process answers. ``/readyz``: the CA could issue a certificate now."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from pyscep.http import HttpResponse, text_response
from pyscep.site.reply import page_response

_logger = logging.getLogger("pyscep.site")

KEPT_SECONDS: Final = 5.0
"""How long an answer of ``/readyz`` counts: looking costs two commits, and anybody may ask."""
CHECK_SECONDS: Final = 10.0
"""How long a look may take before the answer is no."""

Check = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a look found. The reasons are in the log: the page is for everybody."""

    failed: tuple[str, ...]
    checks: tuple[str, ...]

    @property
    def ready(self) -> bool:
        """Whether nothing is wrong."""
        return not self.failed

    def response(self) -> HttpResponse:
        """200 or 503, as JSON."""
        found = {name: "failed" if name in self.failed else "ok" for name in self.checks}
        status = "ready" if self.ready else "not ready"
        body = json.dumps({"status": status, "checks": found}).encode() + b"\n"
        extra = () if self.ready else (("retry-after", "30"),)
        return page_response(200 if self.ready else 503, body, "application/json", extra)


class Health:
    """Looks whether everything works, at most once in a while.

    Args:
        checks: by name; each raises if something is wrong.
        kept: seconds that an answer counts.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        kept: float = KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = dict(checks)
        self._kept = kept
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: tuple[float, Readiness] | None = None

    @staticmethod
    def live() -> HttpResponse:
        """The answer of ``/healthz``."""
        return text_response(200, "ok\n")

    async def ready(self) -> Readiness:
        """What the last look found, or a new one does."""
        async with self._lock:
            now = self._clock()
            if self._last is None or now - self._last[0] >= self._kept:
                self._last = now, await self._look()
            return self._last[1]

    async def _look(self) -> Readiness:
        failed = []
        for name, check in self._checks.items():
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await asyncio.to_thread(check)
            except Exception as error:  # whatever it is, it stands in the way of issuing
                _logger.error("not ready: %s: %s", name, ascii(str(error))[:256])
                failed.append(name)
        return Readiness(failed=tuple(failed), checks=tuple(self._checks))
