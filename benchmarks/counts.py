"""What does not depend on the load of the machine: calls and bytes."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

from benchmarks.ratios import Work


def count_calls(work: Work) -> dict[str, int]:
    """Calls that sys.setprofile sees in one run, after a run to warm up."""
    work()
    counts = {"calls": 0, "key loads": 0}

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            counts["calls"] += 1
        elif event == "c_call":
            counts["calls"] += 1
            name = getattr(argument, "__name__", "")
            counts["key loads"] += "private" in name and ("load" in name or "from" in name)

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    counts["calls"] -= 1  # setprofile(None) itself
    return counts


def peak(work: Work) -> int:
    """The most bytes that Python objects took at once, above what was there."""
    work()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
