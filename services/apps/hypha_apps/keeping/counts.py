from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from hypha_apps import metrics
from hypha_apps.session import Status
from hypha_common.errors import HyphaError

from .daemon_rows import DaemonRows

if TYPE_CHECKING:
    from hypha_common.db import Database

__all__ = ["Counts"]

log = structlog.get_logger(__name__)

_EVERY_S = 10.0


class Counts:
    """Keeps the gauges true: of all databases that this replica looks after."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._daemons = DaemonRows(database)

    async def run(self) -> None:
        """Run for the life of the replica."""
        while True:
            try:
                await self.count()
            except HyphaError as error:
                log.info("sessions_not_counted", error=str(error))
            await asyncio.sleep(_EVERY_S)

    async def count(self) -> None:
        totals = dict.fromkeys(map(str, Status), 0)
        for shard in self._database.mine():
            for row in await shard.fetch("SELECT status, count(*) AS number FROM app_sessions GROUP BY status"):
                totals[row["status"]] += row["number"]
        for status, number in totals.items():
            metrics.SESSIONS.labels(status).set(number)
        metrics.DAEMONS_WAITING.set(await self._daemons.waiting())
