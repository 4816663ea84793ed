from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

from hypha_common.readings import Readings, gauge

if TYPE_CHECKING:
    from .worker import BrowserWorker

__all__ = ["STARTS", "START_SECONDS", "WORKERS"]

STARTS = Counter("browser_worker_starts", "Apps that this worker was asked to start", ["outcome"])
START_SECONDS = Histogram(
    "browser_worker_start_seconds",
    "Time until the page of an app was loaded",
    buckets=(0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 60),
)


def _readings(workers: list[BrowserWorker]) -> Iterable[Metric]:
    running = [worker.load() for worker in workers]
    return [
        gauge("browser_worker_sessions", "Apps that run here", sum(sessions for sessions, _ in running)),
        gauge("browser_worker_browsers", "Browsers that run here", sum(browsers for _, browsers in running)),
    ]


WORKERS = Readings(_readings)
