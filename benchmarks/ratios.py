"""Time things side by side, so that a busy neighbor hits all of them.

Each round measures the base, every other work once, and the base again. The ratio of a round
is taken against the mean of its two bases, and the median of the rounds is what counts.
Absolute times only tell what machine this was. Times are CPU times of the measuring thread.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

Work = Callable[[], object]
Results = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How long to measure."""

    rounds: int = 15
    sample: float = 0.02
    """Seconds in each measurement: a call is repeated until it takes about that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One work beside its base; times in microseconds, medians over the rounds."""

    base: float
    time: float
    ratio: float
    """Of the times, median over the rounds: larger is slower than the base."""


def compare(settings: Settings, base: Work, *works: Work) -> list[Measured]:
    """Interleave the base and the works; one result for each work."""
    repeats = [_calibrate(work, settings.sample) for work in (base, *works)]
    bases: list[float] = []
    times: list[list[float]] = [[] for _ in works]
    ratios: list[list[float]] = [[] for _ in works]
    with no_gc():
        for _ in range(settings.rounds):
            before = timed(base, repeats[0])
            samples = [timed(*pair) for pair in zip(works, repeats[1:], strict=True)]
            around = (before + timed(base, repeats[0])) / 2
            bases.append(around)
            for number, sample in enumerate(samples):
                times[number].append(sample)
                ratios[number].append(sample / around)
    median = statistics.median
    return [
        Measured(base=median(bases), time=median(some), ratio=median(their))
        for some, their in zip(times, ratios, strict=True)
    ]


@contextmanager
def no_gc() -> Iterator[None]:
    """Without the cyclic collector, whose turn comes when it likes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _calibrate(work: Work, sample: float) -> int:
    """How often to call, after a call to warm up."""
    work()
    repeat, seconds = 1, timed(work, 1) / 1e6
    while seconds * repeat < sample / 4 and repeat < 1 << 20:
        repeat *= 4
        seconds = timed(work, repeat) / 1e6
    return max(1, round(sample / seconds))


def timed(call: Work, repeat: int, clock: Callable[[], float] = time.thread_time) -> float:
    """Microseconds for each of so many calls.

    Args:
        clock: by default the CPU time of this thread, kernel included: what other processes
            do on the same core is not counted. Take time.perf_counter where waiting counts.
    """
    start = clock()
    for _ in range(repeat):
        call()
    return (clock() - start) / repeat * 1e6


def note(results: Results, name: str, measured: Measured) -> None:
    """Enter the ratio, and the time in microseconds."""
    results[name] = measured.ratio
    results[f"{name} us"] = measured.time


def pin() -> None:
    """Stay on one core, so that nothing is moved while it is measured."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
