from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from hypha_common.bus import Bus
from hypha_common.errors import NobodyServes, Unavailable
from hypha_common.partition_keeper import MOVED, keep_looking
from hypha_common.subjects import PARTITIONS, role_verb

__all__ = ["Places"]

_LOOK_INTERVAL_S = 10.0  # the word of a move may be lost
_TIMEOUT_S = 3.0


class Places:
    """
    Which partitions are together in one database, as the workspace role says: a gateway knows no database.

    What concerns a whole database is asked of whoever serves one of its partitions.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._wake = asyncio.Event()
        self._served: dict[str, int] = {}  # a partition of each database that somebody served when asked last
        self.databases: dict[str, list[int]] = {}

    async def run(self) -> None:
        """Look for the life of the gateway: now and then, and when a partition has been moved."""
        await self._bus.subscribe(MOVED, lambda subject, reply, payload: self._wake.set())
        await keep_looking(self._look_if_connected, self._wake, interval_s=_LOOK_INTERVAL_S)

    async def look(self) -> None:
        """Ask once. Raises Unavailable or DeadlineExceeded where nobody tells."""
        _, answer = await self._first("places", {}, range(PARTITIONS), _TIMEOUT_S)
        self.databases = {str(name): list(partitions) for name, partitions in answer["databases"].items()}

    async def ask(self, database: str, verb: str, message: Mapping[str, Any], *, timeout: float = _TIMEOUT_S) -> Any:
        """
        Ask the workspace role about a database, at whichever of its partitions is served; the message names that.

        Raises as :meth:`Bus.request` does.

        """
        known = self._served.get(database)
        partitions = self.databases[database]
        first = [known] if known in partitions and known is not None else []
        partition, answer = await self._first(verb, message, [*first, *partitions], timeout)
        self._served[database] = partition
        return answer

    async def _look_if_connected(self) -> None:
        if self._bus.is_connected:
            await self.look()

    async def _first(
        self, verb: str, message: Mapping[str, Any], partitions: Iterable[int], timeout: float
    ) -> tuple[int, Any]:
        """Return the first partition at which somebody serves, and the answer."""
        nobody: NobodyServes | None = None
        for partition in partitions:
            subject = role_verb("workspace", partition, verb)
            try:
                return partition, await self._bus.request(subject, {**message, "partition": partition}, timeout=timeout)
            except NobodyServes as error:  # told within a millisecond
                nobody = nobody or error
        raise nobody or Unavailable("No partition is served")
