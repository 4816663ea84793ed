from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from .process_metrics import loop_lag_s
from .version import __version__

__all__ = ["BUS_AWAY", "diagnosis", "liveness"]

BUS_AWAY = "bus disconnected"

_STALLED_S = 10.0  # longer than anything that a loop does on purpose; then the process is started again
_SLOW_S = 1.0
_STARTED = time.monotonic()
_PENALTY_CRITICAL, _PENALTY_WARNING = 50, 20


def liveness(detail: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """
    Return status and body of ``/health/liveness``.

    It depends on the event loop alone: one that is stuck does not answer, one that is hopelessly late answers 503.
    A dependency that is away is no reason to start this process again.

    """
    late_s = loop_lag_s()
    if late_s >= _STALLED_S:
        return 503, {"status": "DOWN", "detail": f"the event loop is {late_s:.0f} s late"}
    return 200, {"status": "OK", "detail": {"event_loop": "running", **(detail or {})}}


def diagnosis(
    role: str, instance: str, *, critical: Sequence[str] = (), warnings: Sequence[str] = (), **details: Any
) -> tuple[int, dict[str, Any]]:
    """
    Return status and body of ``/health``: what an operator looks at first, and nothing about single users.

    CRITICAL, and 503: nothing can be served. WARNING: something is missing, or slow.

    """
    late_s = loop_lag_s()
    late = f"the event loop is {late_s:.1f} s late"
    critical = [*critical, *([late] if late_s >= _STALLED_S else [])]
    warnings = [*warnings, *([late] if _SLOW_S <= late_s < _STALLED_S else [])]
    status = "CRITICAL" if critical else "WARNING" if warnings else "HEALTHY"
    score = 100 - _PENALTY_CRITICAL * len(critical) - _PENALTY_WARNING * len(warnings)
    body = {
        "timestamp": datetime.now(UTC).isoformat(),
        "status": status,
        "health_score": max(0, score),
        "issues": [*critical, *warnings],
        "role": role,
        "instance": instance,
        "version": __version__,
        "uptime_seconds": round(time.monotonic() - _STARTED, 1),
        "memory": _memory(),
        "tasks": {"total": len(asyncio.all_tasks())},
        "event_loop": {"lag_seconds": round(late_s, 3)},
        **details,
    }
    return 503 if critical else 200, body


def _memory() -> dict[str, float | None]:
    """Return what this process takes, in MB, and in per cent of what it may take."""
    try:
        pages = [int(number) for number in Path("/proc/self/statm").read_text().split()[:2]]
    except (OSError, ValueError):
        return {"rss_mb": None, "vms_mb": None, "percent": None}
    vms, rss = (number * os.sysconf("SC_PAGE_SIZE") for number in pages)
    return {
        "rss_mb": round(rss / 2**20, 1),
        "vms_mb": round(vms / 2**20, 1),
        "percent": round(100 * rss / _memory_limit(), 1),
    }


@cache
def _memory_limit() -> int:
    """Return the bytes that the container may take, else those that the machine has."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return machine
