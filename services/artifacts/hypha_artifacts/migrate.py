from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common import migrations

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["HEAD", "database_urls", "is_current", "migrate"]

HEAD = "0005"  # newest revision under migrations/versions; revisions sort by name

_SCRIPTS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "artifacts_schema"


def database_urls(settings: Settings) -> list[str]:
    """Return every database that holds artifacts: those of workspaces."""
    return list(dict.fromkeys(run.url for run in settings.partitions))


def migrate(settings: Settings) -> None:
    """Bring all databases to the newest schema. Safe to run twice and concurrently."""
    migrations.upgrade(database_urls(settings), scripts=_SCRIPTS, version_table=_VERSION_TABLE)


async def is_current(dsn: str) -> bool:
    """Tell whether a database has this schema, or a newer one: migrations only add until all replicas are replaced."""
    revision = await migrations.current_revision(dsn, version_table=_VERSION_TABLE)
    return revision is not None and revision >= HEAD
