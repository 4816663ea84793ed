from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common import migrations

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["HEAD", "is_current", "migrate"]

HEAD = "0004"  # newest revision under migrations/versions; revisions sort by name

_SCRIPTS = Path(__file__).parent / "migrations"
_VERSION_TABLE = "auth_schema"


def migrate(settings: Settings) -> None:
    """Bring the home database to the newest schema. Safe to run twice and concurrently."""
    migrations.upgrade([settings.database_url], scripts=_SCRIPTS, version_table=_VERSION_TABLE)


async def is_current(dsn: str) -> bool:
    """Tell whether the home database has this schema or a newer one. Raises Unavailable."""
    revision = await migrations.current_revision(dsn, version_table=_VERSION_TABLE)
    return revision is not None and revision >= HEAD
