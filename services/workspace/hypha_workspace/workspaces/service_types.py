from __future__ import annotations

from typing import Any

import asyncpg

from hypha_common.db import Database
from hypha_common.errors import Conflict, NotFound
from hypha_common.wire import pack, unpack

__all__ = ["ServiceTypes"]


class ServiceTypes:
    """Service types of a workspace; the map stored is ServiceTypeInfo with the short id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, workspace: str, info: dict[str, Any]) -> None:
        """Raises Conflict (KeyError) ``Service type already exists: X``, NotFound where the workspace is gone."""
        try:
            added = await self._database.for_workspace(workspace).execute(
                "INSERT INTO service_types (workspace, type_id, info) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                workspace,
                info["id"],
                pack(info),
            )
        except asyncpg.ForeignKeyViolationError:
            raise NotFound(f"Workspace {workspace} does not exist or is not accessible") from None
        if not added:
            raise Conflict(f"Service type already exists: {info['id']}", rpc_type="KeyError")

    async def get(self, workspace: str, type_id: str) -> dict[str, Any] | None:
        """Return a type, or None."""
        info = await self._database.for_workspace(workspace).fetchval(
            "SELECT info FROM service_types WHERE workspace = $1 AND type_id = $2", workspace, type_id
        )
        return None if info is None else unpack(info)

    async def of_workspace(self, workspace: str) -> list[dict[str, Any]]:
        """Return all, oldest first."""
        rows = await self._database.for_workspace(workspace).fetch(
            "SELECT info FROM service_types WHERE workspace = $1 ORDER BY created_at, type_id", workspace
        )
        return [unpack(row["info"]) for row in rows]
