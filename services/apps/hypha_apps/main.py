from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.partition_keeper import PartitionKeeper, replica_name
from hypha_common.rpc.host import RoleHost
from hypha_common.service_process import Dependencies, keep_running, serve_replica, until_available
from hypha_common.settings import Settings
from hypha_common.telemetry import LoopWatch

from .controller import create_service
from .core import Core
from .keeping.activity import Activity
from .keeping.autoscaling import Autoscaling
from .keeping.counts import Counts
from .keeping.daemons import Daemons
from .keeping.deleted import DeletedWorkspaces
from .keeping.departures import Departures
from .keeping.idle import IdleApps
from .keeping.replicas import Replicas
from .keeping.upkeep import Upkeep
from .keeping.workspaces import WorkspaceEnds
from .migrate import SCHEMA
from .operator_verbs import OperatorVerbs
from .starting import Starter
from .starting.lazy import LazyStarts
from .stopping import Stopper

__all__ = ["AppsService", "run"]

_ROLE = "apps"


class AppsService:
    """One replica of the apps role: everything it is made of, started and stopped in order."""

    def __init__(self, settings: Settings, *, on_fatal: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self.bus = Bus.from_settings(settings, _ROLE, on_fatal=on_fatal)
        # Whose connection it is: they are ended where a replica does not hear that a partition is being moved.
        self._database = Database.from_settings(settings, replica_name(_ROLE, self.bus.instance))
        self._keeper = PartitionKeeper(self._database, self.bus)
        self._dependencies = Dependencies(self.bus, self._database)

    def readiness(self) -> list[str]:
        """Return what is missing, in words; nothing: ready."""
        return self._dependencies.missing()

    async def start(self, stack: AsyncExitStack) -> None:
        """Connect, wait for the schema, serve. Whatever was started is undone by ``stack``, the last first."""
        settings = self._settings
        await self._database.connect()
        stack.push_async_callback(self._database.close)
        await until_available(self.bus.connect, waits_for="bus")
        stack.push_async_callback(self.bus.close)
        await until_available(lambda: SCHEMA.require(settings.workspace_databases), waits_for="database")
        await until_available(self._keeper.start, waits_for="database")
        host = RoleHost(
            self.bus, _ROLE, server_base_url=settings.public_base_url, drain_window_s=settings.drain_window,
            missing=self.readiness, partitions=self.bus.partitions,
            about=self._keeper.about,
        )  # fmt: skip
        core = Core.of(settings, self.bus, self._database, host)
        stopper, upkeep = Stopper(core), Upkeep(self._database)
        starter = Starter(core, stopper)
        host.add_service(create_service(core, starter, stopper))
        stack.push_async_callback(host.close)
        await core.feed.start()
        daemons, replicas = Daemons(core, starter), Replicas(core, upkeep, starter, stopper)
        await until_available(daemons.begin, waits_for="database")
        await until_available(replicas.announce, waits_for="database")
        stack.push_async_callback(replicas.close)
        await host.start()
        self._dependencies.host = host
        stack.push_async_callback(starter.close)  # while workers can still be told
        ends = WorkspaceEnds(core, upkeep, stopper)
        stack.push_async_callback(ends.close)
        works = (
            LoopWatch().run(), self._keeper.run(), self._dependencies.watch(), replicas.run(),
            Departures(core, upkeep, stopper).run(), IdleApps(core, stopper).run(), daemons.run(),
            Autoscaling(core, starter, stopper).run(), DeletedWorkspaces(core).run(), Counts(self._database).run(),
        )  # fmt: skip
        keep_running(stack, works, self._on_fatal)
        # First when stopping: no new requests, while those that run still find everything they need.
        stack.push_async_callback(self.bus.stop_serving)
        lazy = LazyStarts(core, starter)
        stack.push_async_callback(lazy.close)
        await lazy.serve()
        await Activity(core).serve()
        await OperatorVerbs(core, stopper).serve()
        await self.bus.flush()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run a replica until ``stop`` is set. Raises Unavailable where the bus was lost for good."""
    await serve_replica(settings, stop, lambda on_fatal: AppsService(settings, on_fatal=on_fatal))
