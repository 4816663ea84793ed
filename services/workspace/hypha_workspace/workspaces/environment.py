from __future__ import annotations

from typing import Any

import asyncpg

from hypha_common.db import Database
from hypha_common.errors import NotFound
from hypha_common.wire import pack, unpack

__all__ = ["Environment"]


class Environment:
    """Environment variables of workspaces; a value is whatever msgpack holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, workspace: str, key: str, value: Any) -> None:
        """Store a value; None removes it. Raises NotFound where the workspace is gone."""
        shard = self._database.for_workspace(workspace)
        if value is None:
            await shard.execute("DELETE FROM environment WHERE workspace = $1 AND key = $2", workspace, key)
            return
        try:
            await shard.execute(
                "INSERT INTO environment (workspace, key, value) VALUES ($1, $2, $3)"
                " ON CONFLICT (workspace, key) DO UPDATE SET value = excluded.value",
                workspace,
                key,
                pack(value),
            )
        except asyncpg.ForeignKeyViolationError:
            raise NotFound(f"Workspace {workspace} does not exist or is not accessible") from None

    async def get(self, workspace: str, key: str) -> Any:
        """Return a value. Raises NotFound ``Environment variable 'K' not found in workspace WS``."""
        value = await self._database.for_workspace(workspace).fetchval(
            "SELECT value FROM environment WHERE workspace = $1 AND key = $2", workspace, key
        )
        if value is None:
            raise NotFound(f"Environment variable '{key}' not found in workspace {workspace}")
        return unpack(value)

    async def items(self, workspace: str) -> dict[str, Any]:
        """Return all variables."""
        rows = await self._database.for_workspace(workspace).fetch(
            "SELECT key, value FROM environment WHERE workspace = $1 ORDER BY key", workspace
        )
        return {row["key"]: unpack(row["value"]) for row in rows}
