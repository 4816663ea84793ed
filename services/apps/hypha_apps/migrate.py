from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.migrations import Schema

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["SCHEMA", "migrate"]

SCHEMA = Schema("apps", "0001", Path(__file__).parent / "migrations")


def migrate(settings: Settings) -> None:
    """Bring the databases of all workspaces to the newest schema. Safe to run twice and concurrently."""
    SCHEMA.upgrade(settings.workspace_databases)
