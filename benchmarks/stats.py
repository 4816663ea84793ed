from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

__all__ = ["latency_ms", "percentile", "throughput", "time_each"]


def percentile(values: Sequence[float], fraction: float) -> float:
    """The smallest value that at least ``fraction`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def latency_ms(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "count": len(seconds),
        "p50_ms": round(percentile(seconds, 0.5) * 1e3, 4),
        "p99_ms": round(percentile(seconds, 0.99) * 1e3, 4),
    }


async def time_each(action: Callable[[int], Awaitable[Any]], *, count: int, warmup: int = 10) -> list[float]:
    samples: list[float] = []
    for number in range(warmup + count):
        started = time.perf_counter()
        await action(number)
        samples.append(time.perf_counter() - started)
    return samples[warmup:]


async def throughput(
    action: Callable[[int], Awaitable[Any]], *, concurrency: int = 64, seconds: float = 3
) -> dict[str, float]:
    """Calls per second with a fixed number of calls under way."""
    finished = 0
    started = time.perf_counter()

    async def repeat() -> None:
        nonlocal finished
        while time.perf_counter() - started < seconds:
            await action(finished)
            finished += 1

    await asyncio.gather(*(repeat() for _ in range(concurrency)))
    return {"calls_per_s": round(finished / (time.perf_counter() - started), 1), "concurrency": concurrency}
