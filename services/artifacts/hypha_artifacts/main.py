from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.partition_keeper import PartitionKeeper, replica_name
from hypha_common.rpc.host import RoleHost
from hypha_common.rpc.service import Service
from hypha_common.service_process import Dependencies, keep_running, serve_replica, until_available
from hypha_common.settings import Settings
from hypha_common.telemetry import LoopWatch

from .app_services import AppServices
from .applications import Applications
from .core import Core
from .data_port import DataPort
from .files.part import FilesPart
from .http.archives import ArchiveRoutes
from .http.metadata import Metadata
from .http.routes import HttpRoutes
from .http.views import ViewRoutes
from .keeping.sweep import Sweep
from .manager.departures import Departures
from .manager.lifecycle import lifecycle_methods
from .manager.listing import Listing
from .migrate import SCHEMA
from .views.rendering import Rendering
from .workspace_files import WorkspaceFiles

__all__ = ["ArtifactsService", "run"]

_ROLE = "artifacts"


class ArtifactsService:
    """One replica of the artifacts role: everything it is made of, started and stopped in order."""

    def __init__(self, settings: Settings, *, on_fatal: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_fatal = on_fatal
        self.bus = Bus.from_settings(settings, _ROLE, on_fatal=on_fatal)
        # Whose connection it is: they are ended where a replica does not hear that a partition is being moved.
        self._database = Database.from_settings(settings, replica_name(_ROLE, self.bus.instance))
        self._keeper = PartitionKeeper(self._database, self.bus)
        self.core = Core.of(settings, self.bus, self._database)
        self.workspace_files = WorkspaceFiles(self.core)
        self.data_port = DataPort(settings)
        self._rendering = Rendering()
        self._files = FilesPart(self.core)
        self._dependencies = Dependencies(self.bus, self._database, self.core.store)

    def readiness(self) -> list[str]:
        """Return what is missing, in words; nothing: ready."""
        return self._dependencies.missing()

    async def start(self, stack: AsyncExitStack) -> None:
        """Connect, wait for schema and store, serve. Whatever was started is undone by ``stack``, the last first."""
        await self._database.connect()
        stack.push_async_callback(self._database.close)
        await until_available(self.bus.connect, waits_for="bus")
        stack.push_async_callback(self.bus.close)
        await until_available(lambda: SCHEMA.require(self._settings.workspace_databases), waits_for="database")
        await until_available(self._keeper.start, waits_for="database")
        stack.push_async_callback(self.core.counters.flush)
        stack.push_async_callback(self.core.store.close)
        await until_available(self.core.store.open, waits_for="store")
        if not self._settings.enable_s3_proxy and self._settings.s3_admin_type == "generic":
            await self.core.store.allow_browsers()
        stack.push_async_callback(self.data_port.close)
        await self.data_port.start()
        stack.push_async_callback(self._rendering.close)
        host = RoleHost(
            self.bus, _ROLE, server_base_url=self._settings.public_base_url,
            drain_window_s=self._settings.drain_window, missing=self.readiness, partitions=self.bus.partitions,
            about=self._keeper.about,
        )  # fmt: skip
        for service in self._services():
            host.add_service(service)
        stack.push_async_callback(host.close)
        await host.start()
        self._dependencies.host = host
        departures = Departures(self.core)
        await departures.listen()
        works = (
            LoopWatch().run(),
            self._keeper.run(),
            self._dependencies.watch(),
            self.core.counters.run(),
            Sweep(self.core).run(),
            departures.run(),
            self.workspace_files.expiry.run(),
        )
        keep_running(stack, works, self._on_fatal)
        # First when stopping: no new requests, while those that run still find everything they need.
        stack.push_async_callback(self.bus.stop_serving)
        await self._routes().serve(self.bus)
        await Applications(self.core).serve(self.bus)
        await AppServices(self.core).serve(self.bus)
        await self.bus.flush()

    def _services(self) -> list[Service]:
        return [
            Service.of(
                "artifact-manager",
                *lifecycle_methods(self.core),
                Listing(self.core),
                *self._files.services(),
                name="Artifact Manager",
                description="Artifacts: versioned manifests with files, in collections.",
                visibility="public",
                config={"require_context": True},
            ),
            self.workspace_files.service(),
        ]

    def _routes(self) -> HttpRoutes:
        routes = HttpRoutes()
        routes.add(ArchiveRoutes(self.core, self.data_port).handlers())
        routes.add(ViewRoutes(self.core, self._rendering).handlers())
        routes.add(Metadata(self.core).handlers())
        self.workspace_files.add_to(routes)
        self._files.add_routes(routes)
        return routes


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run a replica until ``stop`` is set. Raises Unavailable where the bus was lost for good."""
    await serve_replica(settings, stop, lambda on_fatal: ArtifactsService(settings, on_fatal=on_fatal))
