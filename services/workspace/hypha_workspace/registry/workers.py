from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypha_common.db import Database

__all__ = ["RegisteredWorkers"]

# `xmin` is another one after every registration, of the same connection, too.
_WORKERS = """
    SELECT s.client_id, s.service_id, s.app_id, s.visibility, s.authorized_workspaces,
           s.generation || '.' || s.xmin::text AS version
    FROM services s JOIN clients c
        ON c.workspace = s.workspace AND c.client_id = s.client_id AND c.generation >= s.generation
    WHERE s.workspace = $1 AND s.type = 'server-app-worker'
    ORDER BY s.seq LIMIT 1000
"""


class RegisteredWorkers:
    """Who offers to run apps (contract 03 §2.1); for the apps service, which asks them what they can run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """
        ``{workspace}`` -> ``[{client_id, service_id, app_id, visibility, authorized_workspaces, version}]``.

        In order of registration, unlisted ones, too. What a worker said of itself is true as long as its version is.

        """
        workspace = message["workspace"]
        rows = await self._database.for_workspace(workspace).fetch(_WORKERS, workspace)
        return [dict(row) for row in rows]
