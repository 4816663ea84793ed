from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .access import Access
from .blobs import BlobStore
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

    @classmethod
    def of(cls, settings: Settings, bus: Bus, database: Database) -> Core:
        rows = ArtifactRows(database)
        return cls(settings, bus, database, BlobStore(settings), rows, Access(rows), Workspaces(bus))
