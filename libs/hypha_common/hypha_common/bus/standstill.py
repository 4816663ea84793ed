from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from . import metrics

__all__ = ["Standstill"]

log = structlog.get_logger(__name__)

STILL_S = 1.0  # shorter than whoever waits for us has patience for
TICK_S = 0.2


class Standstill:
    """
    Notices that this process stood still: it was suspended, its machine slept, or something blocked its event loop.

    What arrived meanwhile is then read all at once, though whoever sent it may have given it up and have told its
    caller so. ``over()`` is False from the moment in which that can be known until ``caught_up()`` returns, which is
    when everything has been read that was sent before.

    """

    def __init__(self, caught_up: Callable[[], Awaitable[None]], *, now: Callable[[], float] = time.monotonic) -> None:
        self._caught_up = caught_up
        self._now = now
        self._ticked = now()
        self._catching_up: asyncio.Task[None] | None = None

    def over(self) -> bool:
        """Tell whether what is read now was sent while this process ran."""
        # Whether messages or the clock come first after a stop is the event loop's choice.
        stood_s = self._now() - self._ticked
        if stood_s > STILL_S and self._catching_up is None:
            metrics.STANDSTILLS.inc()
            log.warning("process_stood_still", seconds=round(stood_s, 1))
            self._catching_up = asyncio.create_task(self._catch_up())
        return self._catching_up is None

    async def watch(self) -> None:
        """Notice standstills in which nothing arrives, too; runs as long as the process listens."""
        self._ticked = self._now()
        while True:
            await asyncio.sleep(TICK_S)
            self.over()
            self._ticked = self._now()

    async def _catch_up(self) -> None:
        try:
            await self._caught_up()
        finally:
            self._ticked = self._now()
            self._catching_up = None
