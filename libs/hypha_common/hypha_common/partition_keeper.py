from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import structlog

from .errors import HyphaError
from .partition_map import read_places
from .placement import ranges
from .subjects import broadcast

if TYPE_CHECKING:
    from .bus import Bus
    from .db import Database

__all__ = ["MOVED", "PartitionKeeper", "find_partitions", "keep_looking", "replica_name"]

log = structlog.get_logger(__name__)

MOVED = broadcast("partitions")  # the map has changed: read it again
_LOOK_INTERVAL_S = 5.0  # the word may be lost


def replica_name(role: str, instance: str) -> str:
    """Return what PostgreSQL knows the connections of a replica by."""
    return f"hypha-{role} {instance}"


async def find_partitions(database: Database) -> None:
    """
    Read where partitions are and live by it: enough for a command, which has to be given anew after a move.

    Raises Unavailable where the home database is away.

    """
    database.apply(database.map.with_places(await read_places(database.home)))


async def keep_looking(look: Callable[[], Awaitable[None]], wake: asyncio.Event, *, interval_s: float) -> None:
    """Look every ``interval_s`` seconds, and whenever ``wake`` is set; runs for ever."""
    while True:
        try:
            async with asyncio.timeout(interval_s):
                await wake.wait()
        except TimeoutError:
            pass
        wake.clear()
        try:
            await look()
        except HyphaError as error:
            log.info("partitions_not_read", error=str(error))


class PartitionKeeper:
    """
    Keeps a process's map of partitions up to date, and tells which word it lives by.

    :attr:`epoch` is said only when nothing runs here any more that the map of that epoch forbids.

    """

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._wake = asyncio.Event()
        self.epoch = 0

    async def start(self) -> None:
        """Read the map and listen for changes. Raises Unavailable where the home database is away."""
        await self.look()
        await self._bus.subscribe(MOVED, lambda subject, reply, payload: self._wake.set())

    async def run(self) -> None:
        """Run for the life of the process."""
        await keep_looking(self.look, self._wake, interval_s=_LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Read the map once and live by it."""
        places = await read_places(self._database.home)
        current = self._database.map
        if places != list(current.places.values()):
            self._database.apply(current.with_places(places))
            log.info("partitions_changed", epoch=self._database.map.epoch)
        epoch = self._database.map.epoch
        if epoch != self.epoch:
            await self._database.settled()
            self.epoch = epoch

    def about(self) -> dict[str, Any]:
        """Return what the roll call says of this process."""
        return {
            "serves": ranges(self._database.served),
            "epoch": self.epoch,
            "databases": self._database.configuration,
            "away": ranges(self._database.unreachable),
        }
