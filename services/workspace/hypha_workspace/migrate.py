from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.migrations import Schema

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["HEAD", "SCHEMA", "databases_of", "is_current", "migrate"]

HEAD = "0004"
SCHEMA = Schema("workspace", HEAD, Path(__file__).parent / "migrations")

is_current = SCHEMA.is_current


def databases_of(settings: Settings) -> list[str]:
    """Return the databases that have this schema: those of workspaces, and the one that says where partitions are."""
    return list(dict.fromkeys([*settings.workspace_databases, settings.database_url]))


def migrate(settings: Settings) -> None:
    """Bring all databases to the newest schema. Safe to run twice and concurrently."""
    SCHEMA.upgrade(databases_of(settings))
