from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from hypha_common.errors import HyphaError

__all__ = ["Background"]

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Background:
    """Work that goes on whether or not whoever asked for it still waits."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin some work. Where nobody awaits it, an error of ours is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def close(self, *, within_s: float = 0.0) -> None:
        """Give what runs ``within_s`` to end by itself, and cancel the rest."""
        if self._tasks and within_s:
            await asyncio.wait(list(self._tasks), timeout=within_s)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, HyphaError):
            log.error("background_work_failed", exc_info=error)
