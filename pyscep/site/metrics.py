"""Numbers for Prometheus, in its text format 0.0.4.

Without the prometheus_client package: the format is a few lines, and that package keeps its
numbers in one global registry, where two sites of one process would mix. Labels come from
closed sets, so nobody outside can make them grow.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any, Final, assert_never

from pyscep.ca.audit import Decision
from pyscep.events import AuthorityFailed, RequestAnswered, RequestRejected, ServerEvent
from pyscep.messages import Failure, Pending
from pyscep.site.shared_numbers import SharedNumbers

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets."""

_HELP: Final = {
    "pyscep_info": ("gauge", "The version, in a label."),
    "pyscep_start_time_seconds": ("gauge", "When the process started, in Unix time."),
    "pyscep_messages_total": ("counter", "SCEP messages that were decided on, by pkiStatus."),
    "pyscep_rejected_total": ("counter", "Requests that did not get as far as a decision."),
    "pyscep_authority_failures_total": ("counter", "Requests that got 503: a fault of ours."),
    "pyscep_decisions_total": ("counter", "Decisions on certificates, as in the audit table."),
    "pyscep_http_responses_total": ("counter", "HTTP answers by status code."),
    "pyscep_http_in_progress": ("gauge", "HTTP requests that are being worked on."),
    "pyscep_http_seconds": ("histogram", "From a request's head to the end of its answer."),
    "pyscep_throttled_total": ("counter", "Requests held back, or refused with 429."),
    "pyscep_overload_total": ("counter", "Requests refused with 503 because the queue was full."),
    "pyscep_ready": ("gauge", "Whether the last look at database, key and clock was good."),
}

Labels = tuple[tuple[str, str], ...]
_COUNTERS: Final = frozenset(name for name, (kind, _) in _HELP.items() if kind == "counter")
_IN_PROGRESS: Final = "pyscep_http_in_progress"


class Metrics:
    """The numbers of one site. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._values: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._buckets = [0] * (len(SECONDS) + 1)
        self._sum = 0.0
        self._others: Callable[[], Sequence[Mapping[str, Any]]] = tuple
        self.set("pyscep_info", 1, version=_version())
        self.set("pyscep_start_time_seconds", round(time.time(), 3))
        self.set(_IN_PROGRESS, 0)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter or gauge."""
        with self._lock:
            self._values[name][tuple(sorted(labels.items()))] += amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name][tuple(sorted(labels.items()))] = value

    def observe(self, seconds: float) -> None:
        """Enter how long a request took."""
        position = next((i for i, limit in enumerate(SECONDS) if seconds <= limit), len(SECONDS))
        with self._lock:
            self._buckets[position] += 1
            self._sum += seconds

    def on_event(self, event: ServerEvent) -> None:
        """Count what the server tells."""
        match event:
            case RequestAnswered(message_type=kind, outcome=outcome):
                status = "SUCCESS"
                if isinstance(outcome, Failure | Pending):
                    status = "FAILURE" if isinstance(outcome, Failure) else "PENDING"
                self.add("pyscep_messages_total", message=kind, status=status)
            case RequestRejected(error=error, http_status=status):
                code = str(status)
                self.add("pyscep_rejected_total", http_status=code, error=type(error).__name__)
            case AuthorityFailed(error=error):
                self.add("pyscep_authority_failures_total", error=type(error).__name__)
            case _:
                assert_never(event)

    def on_decision(self, decision: Decision) -> None:
        """Count what the CA decides."""
        self.add("pyscep_decisions_total", action=decision.action, decision=decision.decision)

    def share(self, shared: SharedNumbers, number: int) -> None:
        """Tell of all workers from now on, and go on from what this one's predecessor had.

        Args:
            shared: the memory of all workers.
            number: of this one.
        """
        before = shared.read(number)
        if before is not None:
            self._take(before, gauges=False)
        self._others = lambda: shared.others(number)
        shared.keep_writing(number, self.numbers)

    def numbers(self) -> dict[str, Any]:
        """All numbers of this process, for JSON."""
        with self._lock:
            return {
                "values": [
                    [name, labels, value]
                    for name, of_labels in self._values.items()
                    for labels, value in of_labels.items()
                ],
                "buckets": list(self._buckets),
                "sum": self._sum,
            }

    def render(self) -> str:
        """All numbers as text."""
        others = self._others()
        if others:
            whole = Metrics()
            for numbers in (self.numbers(), *others):
                whole._take(numbers, gauges=True)
            return whole.render()
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _take(self, numbers: Mapping[str, Any], *, gauges: bool) -> None:
        """Add the numbers of another process; a gauge but one has the smallest value."""
        with self._lock:
            for name, labels, value in numbers["values"]:
                key = tuple((label, text) for label, text in labels)
                if name in _COUNTERS or (gauges and name == _IN_PROGRESS):
                    self._values[name][key] += value
                elif gauges:
                    self._values[name][key] = min(value, self._values[name].get(key, value))
            self._buckets = [
                ours + theirs
                for ours, theirs in zip(self._buckets, numbers["buckets"], strict=True)
            ]
            self._sum += numbers["sum"]

    def _lines(self) -> Iterator[str]:
        for name, (kind, text) in _HELP.items():
            if kind != "histogram" and not self._values.get(name):
                continue
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} {kind}"
            if kind == "histogram":
                yield from self._histogram(name)
                continue
            for labels, value in sorted(self._values[name].items()):
                yield f"{name}{_braces(labels)} {_number(value)}"

    def _histogram(self, name: str) -> Iterator[str]:
        total = 0
        for limit, count in zip((*SECONDS, float("inf")), self._buckets, strict=True):
            total += count
            bound = "+Inf" if limit == float("inf") else f"{limit:g}"
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _version() -> str:
    try:
        return version("pyscep")
    except PackageNotFoundError:
        return "unknown"
