from __future__ import annotations

from typing import Any

import asyncpg

from hypha_common.db import Database
from hypha_common.errors import NotFound
from hypha_common.wire import pack, unpack

__all__ = ["Bookmarks"]


class Bookmarks:
    """Bookmarks of a workspace (a user's personal one): ``{bookmark_type, id, name, description[, config]}``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, workspace: str, item: dict[str, Any]) -> None:
        """Add, or replace the one of the same type and id. Raises NotFound where the workspace is gone."""
        try:
            await self._database.for_workspace(workspace).execute(
                "INSERT INTO bookmarks (workspace, bookmark_type, item_id, item) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (workspace, bookmark_type, item_id) DO UPDATE SET item = excluded.item",
                workspace,
                item["bookmark_type"],
                item["id"],
                pack(item),
            )
        except asyncpg.ForeignKeyViolationError:
            raise NotFound(f"Workspace {workspace} does not exist or is not accessible") from None

    async def remove(self, workspace: str, bookmark_type: str, item_id: str) -> bool:
        """Tell whether there was one to remove."""
        removed = await self._database.for_workspace(workspace).execute(
            "DELETE FROM bookmarks WHERE workspace = $1 AND bookmark_type = $2 AND item_id = $3",
            workspace,
            bookmark_type,
            item_id,
        )
        return removed > 0

    async def of_workspace(self, workspace: str) -> list[dict[str, Any]]:
        """Return all, oldest first."""
        rows = await self._database.for_workspace(workspace).fetch(
            "SELECT item FROM bookmarks WHERE workspace = $1 ORDER BY created_at, item_id", workspace
        )
        return [unpack(row["item"]) for row in rows]
