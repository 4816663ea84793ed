from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog

from hypha_common.bus import Bus
from hypha_common.errors import HyphaError
from hypha_common.ids import APP_CLIENT_PREFIX
from hypha_common.subjects import broadcast, partition_of, role_verb

from .connection import Connection
from .table import ConnectionTable

__all__ = ["Activity"]

log = structlog.get_logger(__name__)

_INTERVAL_S = 4.0
_WINDOW_S = 60.0
_ASKED = broadcast("app_activity_asked")  # the apps service is about to stop what is idle


class Activity:
    """
    Tells the apps service what the instances of apps at this gateway do: how long ago each sent a frame, and how many
    it sends a minute. Without instances nothing is sent.

    """

    def __init__(self, *, bus: Bus, table: ConnectionTable, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._bus = bus
        self._table = table
        self._asked = asyncio.Event()
        self._rates: dict[int, _Rate] = {}  # by number of the connection

    async def run(self) -> None:
        """Report for the life of the gateway: every few seconds, and when asked."""
        await self._bus.subscribe(_ASKED, lambda subject, reply, payload: self._asked.set())
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_S):
                    await self._asked.wait()
            self._asked.clear()
            if self._bus.is_connected:
                await self.report()

    async def report(self) -> None:
        """Report once, to whoever serves the partition that an instance is in."""
        now = self._now()
        instances = [one for one in self._table if one.address.client.startswith(APP_CLIENT_PREFIX)]
        self._rates = {one.number: self._rates.get(one.number) or _Rate(now) for one in instances}
        told: dict[int, dict[str, Any]] = {}
        for one in instances:
            rate = self._rates[one.number].of(one, now)
            about = {"idle": round(now - one.last_sent, 3), "load": round(rate, 1)}
            told.setdefault(partition_of(one.address.workspace), {})[str(one.address)] = about
        await asyncio.gather(*(self._tell(partition, clients) for partition, clients in told.items()))

    async def _tell(self, partition: int, clients: dict[str, Any]) -> None:
        try:
            message = {"gateway": self._bus.instance, "clients": clients}
            await self._bus.request(role_verb("apps", partition, "activity"), message, timeout=_INTERVAL_S)
        except HyphaError as error:  # the next one says as much
            log.info("activity_not_reported", clients=len(clients), error=str(error))


class _Rate:
    """Frames of one instance in the last minute, from two counts: of this minute, and of the one before."""

    __slots__ = ("_before", "_counted", "_since")

    def __init__(self, now: float) -> None:
        self._since = now
        self._counted = 0  # frames until this window began
        self._before = 0  # frames of the window before

    def of(self, connection: Connection, now: float) -> float:
        sent = connection.frames_sent - self._counted
        elapsed_s = now - self._since
        if elapsed_s >= _WINDOW_S:
            self._before = sent if elapsed_s < 2 * _WINDOW_S else 0
            self._counted, self._since = connection.frames_sent, now
            sent, elapsed_s = 0, 0.0
        return sent + self._before * (1 - elapsed_s / _WINDOW_S)
