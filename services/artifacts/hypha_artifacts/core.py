from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .access import Access
from .addresses import Addresses
from .blobs import BlobStore
from .counters import Counters
from .repository import ArtifactRows
from .workspaces import Workspaces

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.db import Database
    from hypha_common.settings import Settings

__all__ = ["Core"]


@dataclass(frozen=True, slots=True)
class Core:
    """What every part of this service works with."""

    settings: Settings
    bus: Bus
    database: Database
    store: BlobStore
    rows: ArtifactRows
    access: Access
    workspaces: Workspaces
    addresses: Addresses
    counters: Counters

    @classmethod
    def of(cls, settings: Settings, bus: Bus, database: Database) -> Core:
        rows, store = ArtifactRows(database), BlobStore(settings)
        return cls(
            settings, bus, database, store, rows, Access(rows), Workspaces(bus), Addresses(settings, store),
            Counters(database),
        )  # fmt: skip
