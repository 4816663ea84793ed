from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from prometheus_client import Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import Metric

from .readings import Readings, gauge
from .version import __version__

__all__ = ["LoopWatch", "loop_lag_s"]

_PERIOD_S = 0.25
_SHOWN = 4  # periods that the gauge looks back

# A series more for each counter and histogram, which nobody looks at.
disable_created_metrics()  # type: ignore[no-untyped-call]

BUILD = Gauge("hypha_build_info", "1; the version that runs", ["version"])
LOOP_LAG = Gauge("eventloop_lag_seconds", "How late the event loop ran its timers, at worst within the last second")
LOOP_DELAY = Histogram(
    "eventloop_delay_seconds",
    "How late the event loop ran a timer; a stall that falls between two scrapes is seen here",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
BUILD.labels(__version__).set(1)

# Whose tasks run in our processes beside ours.
_LIBRARIES = frozenset({"aiobotocore", "aiohttp", "asyncio", "asyncpg", "hypercorn", "nats", "playwright", "starlette"})


class LoopWatch:
    """
    Measures how late the event loop runs while its task runs: ``lag_s``, a gauge and a histogram.

    The last one that began to run is what :func:`loop_lag_s` goes by.

    """

    last: LoopWatch | None = None

    def __init__(self) -> None:
        self.lag_s = 0.0
        self._latest: deque[float] = deque(maxlen=_SHOWN)
        self._due = float("inf")

    async def run(self) -> None:
        LoopWatch.last = self
        while True:
            self._due = time.monotonic() + _PERIOD_S
            await asyncio.sleep(_PERIOD_S)
            late_s = max(0.0, time.monotonic() - self._due)
            LOOP_DELAY.observe(late_s)
            self._latest.append(late_s)
            self.lag_s = max(self._latest)
            LOOP_LAG.set(self.lag_s)

    @property
    def lag_now_s(self) -> float:
        """How late the loop was of late, or is: its timer may be overdue."""
        return max(self.lag_s, time.monotonic() - self._due)


def loop_lag_s() -> float:
    """Return how late the event loop of this process is, in seconds; 0 before anything has measured it."""
    return 0.0 if LoopWatch.last is None else LoopWatch.last.lag_now_s


def _tasks(_: list[object]) -> Iterable[Metric]:
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # not asked from an event loop
        tasks = set()
    kinds = Counter((_kind_of(task.get_coro()),) for task in tasks)
    return [gauge("asyncio_tasks", "Tasks that are not done, by the code that they run", kinds, ("kind",))]


def _kind_of(coroutine: Any) -> str:
    """Return the module of ours that a task belongs to, in two parts, or the library."""
    frame = getattr(coroutine, "cr_frame", None)
    module = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    package, _, rest = module.partition(".")
    if package == "hypha" or package.startswith("hypha_"):
        return f"{package}.{rest.partition('.')[0]}" if rest else package
    return package if package in _LIBRARIES else "other"


Readings(_tasks)
