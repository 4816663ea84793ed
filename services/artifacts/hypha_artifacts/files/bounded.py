from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["gather_bounded"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_WORKERS = 32


async def gather_bounded(function: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> list[Result]:
    """Return what ``function`` makes of each item, in order; 32 at a time. The first failure ends all."""
    numbered = list(enumerate(items))
    results: dict[int, Result] = {}
    waiting = iter(numbered)

    async def work() -> None:
        for number, item in waiting:
            results[number] = await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_WORKERS, len(numbered))):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [results[number] for number in range(len(numbered))]
