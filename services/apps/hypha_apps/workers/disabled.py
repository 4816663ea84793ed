from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.errors import QuotaExceeded

if TYPE_CHECKING:
    from hypha_common.db import Database

__all__ = ["DisabledWorkers"]

_MAX_DISABLED = 1000  # in one workspace
_DISABLE = """
    INSERT INTO disabled_workers (workspace, worker_id) SELECT $1, $2
    WHERE (SELECT count(*) FROM disabled_workers WHERE workspace = $1) < $3
    ON CONFLICT DO NOTHING RETURNING 1
"""


class DisabledWorkers:
    """Workers that are not to be given apps: of one workspace, or of all where it is their own that says so."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, *workspaces: str) -> frozenset[str]:
        """Return the full ids of workers that any of the workspaces has disabled."""
        ids: set[str] = set()
        for workspace in dict.fromkeys(workspaces):
            rows = await self._database.for_workspace(workspace).fetch(
                "SELECT worker_id FROM disabled_workers WHERE workspace = $1", workspace
            )
            ids.update(row["worker_id"] for row in rows)
        return frozenset(ids)

    async def disable(self, workspace: str, worker_id: str) -> None:
        """Raises QuotaExceeded."""
        shard = self._database.for_workspace(workspace)
        if await shard.fetchval(_DISABLE, workspace, worker_id, _MAX_DISABLED) is None and worker_id not in (
            await self.of(workspace)
        ):
            raise QuotaExceeded(f"Workspace {workspace} has disabled {_MAX_DISABLED} workers already")

    async def enable(self, workspace: str, worker_id: str) -> bool:
        """Take it back. False: it was not disabled."""
        return bool(
            await self._database.for_workspace(workspace).execute(
                "DELETE FROM disabled_workers WHERE workspace = $1 AND worker_id = $2", workspace, worker_id
            )
        )
