from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from hypha_apps import metrics
from hypha_apps.starting import StartRequest
from hypha_common.errors import Conflict, HyphaError
from hypha_common.ids import PUBLIC_WORKSPACE

from .daemon_rows import DaemonRows
from .errands import Errands
from .rounds import Rounds

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import Starter
    from hypha_common.db import Shard
    from hypha_common.lease import Lease

    from .daemon_rows import Daemon

__all__ = ["Daemons"]

log = structlog.get_logger(__name__)

_EVERY_S = 1.0
_STEADY_EVERY_S = 15.0
_AT_ONCE = 5
_MAX_ERROR = 200  # what follows is the app's own log


class Daemons:
    """
    Sees to it that each daemon runs (contract 03 §1.9): after the cluster started, and after whatever it ran on died.

    One that a user stopped is left alone until somebody starts it, it is committed anew, or the apps service begins
    anew. It runs as who installed it.

    """

    def __init__(self, core: Core, starter: Starter) -> None:
        self._core = core
        self._starter = starter
        self._rows = DaemonRows(core.database)
        self._errands = Errands(_AT_ONCE)
        self._rounds = Rounds(core.database, core.bus.instance, "daemons", self.round, every_s=_EVERY_S)
        self._steady = Rounds(
            core.database, core.bus.instance, "steady daemons", self.count_steady, every_s=_STEADY_EVERY_S
        )

    async def begin(self) -> None:
        """Call before this replica says that it lives: where it is the first one, nothing stays stopped."""
        await self._rows.begin_anew(self._core.bus.instance)

    async def run(self) -> None:
        """Run for the life of the replica."""
        self._core.feed.on_worker.append(self._worker_came)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._steady.run())
                while True:
                    await asyncio.sleep(_EVERY_S)
                    for shard in self._core.database.mine():
                        # Most of the time there is nothing to do, which takes no lease to see.
                        if self._errands.free and await self._some_due(shard):
                            await self._rounds.once(shard)
        finally:
            await self._errands.close()

    async def round(self, shard: Shard, lease: Lease) -> None:
        """Start what has to be started in one database."""
        async with lease.effect() as connection:
            claimed = await self._rows.claim(connection, self._errands.free)
        for daemon in claimed:
            self._errands.begin(self._start(daemon), daemon=f"{daemon.workspace}/{daemon.app_id}")

    async def count_steady(self, shard: Shard, lease: Lease) -> None:
        """Forget the failures of those in one database that have been running for a while."""
        await self._rows.count_steady(shard)

    async def _start(self, daemon: Daemon) -> None:
        place = f"{daemon.workspace}/{daemon.app_id}"
        try:
            app = await self._core.apps.read(daemon.workspace, daemon.app_id, user=None)
            if not app.manifest.get("daemon"):
                raise Conflict(f"App '{app.id}' is no daemon any more")
        except HyphaError as error:
            if error.status not in (404, 409):  # the store is away, or has a fault
                raise
            await self._rows.drop(daemon)
            log.info("daemon_dropped", app=place, reason=str(error))
            return
        try:
            # As for a look-up: where somebody starts it at the same time, theirs will do.
            await self._starter.start(app, StartRequest(app.installer(), lazy=True))
        except HyphaError as error:
            if error.rpc_type == "WorkerNotFoundError":
                tell = log.warning if await self._rows.without_worker(daemon) else log.debug
                tell("daemon_without_worker", app=place, error=str(error))
                metrics.DAEMON_STARTS.labels("no_worker").inc()
                return
            metrics.DAEMON_STARTS.labels("failed").inc()
            log.warning("daemon_not_started", app=place, tries=daemon.tries + 1, error=str(error)[:_MAX_ERROR])
        else:
            metrics.DAEMON_STARTS.labels("started").inc()
        await self._rows.tried(daemon)

    async def _some_due(self, shard: Shard) -> bool:
        try:
            return await self._rows.some_due(shard)
        except HyphaError as error:
            log.info("daemons_not_read", error=str(error))
            return False

    def _worker_came(self, workspace: str) -> None:
        self._errands.begin(self._rows.worker_came(None if workspace == PUBLIC_WORKSPACE else workspace))
