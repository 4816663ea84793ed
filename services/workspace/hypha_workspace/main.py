from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from hypha_common.audit import Audit
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import HyphaError
from hypha_common.ids import MANAGER_ADDRESS
from hypha_common.partition_keeper import PartitionKeeper, replica_name
from hypha_common.rpc.host import RoleHost
from hypha_common.service_process import Dependencies, keep_running, serve_replica, until_available
from hypha_common.settings import Settings
from hypha_common.telemetry import LoopWatch

from .admin.backend import AdminBackend
from .admin.service import create_admin_utils
from .connections import Connections
from .events import Events
from .lifetime import Lifetime
from .manager.providers import Providers
from .manager.service import create_manager
from .migrate import SCHEMA, databases_of
from .queues.service import TaskQueues
from .registry.applications import Applications
from .registry.resolver import Resolver
from .registry.usage import Usage
from .stores import Stores

__all__ = ["run"]

log = structlog.get_logger(__name__)

_ROLE = "workspace"
_COUNT_INTERVAL_S = 30.0


class WorkspaceService:
    """One replica of the workspace role: everything it is made of, started and stopped in order."""

    def __init__(self, settings: Settings, *, on_fatal: Callable[[str], None]) -> None:
        self._settings = settings
        self.bus = Bus.from_settings(settings, _ROLE, on_fatal=on_fatal)
        # Whose connection it is: they are ended where a replica does not hear that a partition is being moved.
        self._database = Database.from_settings(settings, replica_name(_ROLE, self.bus.instance))
        self._keeper = PartitionKeeper(self._database, self.bus)
        self._on_fatal = on_fatal
        self._dependencies = Dependencies(self.bus, self._database)

    def readiness(self) -> list[str]:
        """Return what is missing, in words; nothing: ready."""
        return self._dependencies.missing()

    async def start(self, stack: AsyncExitStack) -> None:
        """Connect, wait for the schema, serve. Whatever was started is undone by ``stack``, the last first."""
        await self._database.connect()
        stack.push_async_callback(self._database.close)
        await until_available(self.bus.connect, waits_for="bus")
        stack.push_async_callback(self.bus.close)
        await until_available(lambda: SCHEMA.require(databases_of(self._settings)), waits_for="database")
        await until_available(self._keeper.start, waits_for="database")
        settings, stores, events = self._settings, Stores.of(self._database, self._settings), Events(self.bus)
        lifetime = Lifetime(
            stores, events, self.bus, grace_s=settings.workspace_unload_grace_period,
            event_log_s=settings.event_log_retention,
        )  # fmt: skip
        host = RoleHost(
            self.bus, _ROLE, server_base_url=settings.public_base_url, drain_window_s=settings.drain_window,
            missing=self.readiness, partitions=self.bus.partitions,
            about=self._keeper.about,
        )  # fmt: skip
        providers, applications = Providers(host.peer), Applications(self.bus)
        resolver = Resolver(
            stores.services, stores.gateways, providers, applications, startup_client=settings.startup_client
        )
        manager = create_manager(
            stores=stores, resolver=resolver, applications=applications, lifetime=lifetime, events=events,
            providers=providers, bus=self.bus, settings=settings,
        )  # fmt: skip
        host.add_service(manager, addresses=[MANAGER_ADDRESS])
        queues = TaskQueues(stores.queues, self.bus)
        host.add_service(queues.service())
        audit = Audit(self.bus)
        stack.push_async_callback(audit.close)
        admin = AdminBackend(
            stores=stores, lifetime=lifetime, usage=Usage(self._database), bus=self.bus, audit=audit, settings=settings
        )
        host.add_service(create_admin_utils(admin), addresses=filter(None, [host.root_address]))
        stack.push_async_callback(queues.close)
        await queues.start()
        stack.push_async_callback(host.close)
        await host.start()
        self._dependencies.host = host
        stack.callback(queues.drain)  # before the host waits for the calls that run
        works = (
            self._keeper.run(),
            lifetime.run(),
            LoopWatch().run(),
            _keep_counting(lifetime),
            self._dependencies.watch(),
        )
        keep_running(stack, works, self._on_fatal)
        # First when stopping: no new requests, while those that run still find everything they need.
        stack.push_async_callback(self.bus.stop_serving)
        connections = Connections(
            stores, resolver, lifetime, providers, self.bus, startup_client=settings.startup_client
        )
        await connections.serve()
        await self.bus.flush()


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run a replica until ``stop`` is set. Raises Unavailable where the bus was lost for good."""
    await serve_replica(settings, stop, lambda on_fatal: WorkspaceService(settings, on_fatal=on_fatal))


async def _keep_counting(lifetime: Lifetime) -> None:
    while True:
        try:
            await lifetime.count()
        except HyphaError as error:
            log.info("rows_not_counted", error=str(error))
        await asyncio.sleep(_COUNT_INTERVAL_S)
