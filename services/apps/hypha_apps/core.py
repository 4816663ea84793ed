from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .app import Apps
from .artifact_store import ArtifactStore
from .feed import Feed
from .instance_tokens import InstanceTokens
from .registry import Registry
from .sessions import Sessions
from .workers import WorkerCalls, Workers

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.db import Database
    from hypha_common.rpc.host import RoleHost
    from hypha_common.settings import Settings

__all__ = ["Core"]


@dataclass(frozen=True, slots=True)
class Core:
    """What every part of this service works with."""

    settings: Settings
    bus: Bus
    database: Database
    host: RoleHost
    sessions: Sessions
    store: ArtifactStore
    apps: Apps
    registry: Registry
    tokens: InstanceTokens
    workers: Workers
    calls: WorkerCalls
    feed: Feed

    @classmethod
    def of(cls, settings: Settings, bus: Bus, database: Database, host: RoleHost) -> Core:
        store, registry, calls = ArtifactStore(bus, host), Registry(bus, host), WorkerCalls(host)
        return cls(
            settings, bus, database, host, Sessions(database), store, Apps(store), registry, InstanceTokens(bus),
            Workers(bus, host, registry, database, calls), calls, Feed(bus, database.serves),
        )  # fmt: skip
