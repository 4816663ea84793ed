from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from hypha_common.errors import NotFound

if TYPE_CHECKING:
    from hypha_artifacts.workspaces import Workspaces
    from hypha_common.db import Shard
    from hypha_common.lease import Lease


__all__ = ["drop_departed"]

_LOOKED_AT = 200  # workspaces in one pass
_DROPPED = 500  # artifacts in one pass
_FILES_AT_ONCE = 5000

# From one workspace to the next by the index, however many artifacts each has.
_NEXT = """
    WITH RECURSIVE w AS (
        (SELECT workspace FROM artifacts WHERE workspace > $1 ORDER BY workspace LIMIT 1)
        UNION ALL
        SELECT (SELECT a.workspace FROM artifacts a WHERE a.workspace > w.workspace ORDER BY a.workspace LIMIT 1)
        FROM w WHERE w.workspace IS NOT NULL
    )
    SELECT workspace FROM w WHERE workspace IS NOT NULL LIMIT $2
"""
_MISSED = "INSERT INTO missed_workspaces (workspace) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
_FOUND = "DELETE FROM missed_workspaces WHERE workspace = ANY($1::text[])"
_LONG_MISSED = "SELECT workspace FROM missed_workspaces WHERE since <= now() - $1::interval ORDER BY since LIMIT $2"
_ARTIFACTS = "SELECT id FROM artifacts WHERE workspace = $1 ORDER BY id LIMIT $2"
_FILES = """
    DELETE FROM artifact_files WHERE (artifact_id, seq, path) IN (
        SELECT artifact_id, seq, path FROM artifact_files WHERE artifact_id = $1 LIMIT $2
    )
"""
_STAGED = """
    DELETE FROM artifact_staged_files WHERE (artifact_id, path) IN (
        SELECT artifact_id, path FROM artifact_staged_files WHERE artifact_id = $1 LIMIT $2
    )
"""
_ARTIFACT = "DELETE FROM artifacts WHERE id = $1"


async def drop_departed(shard: Shard, lease: Lease, workspaces: Workspaces, *, grace: timedelta) -> int:
    """
    Drop artifacts whose workspace has been missed for ``grace``; returns how many. Each pass looks at some workspaces.

    Raises Unavailable where the workspace service does not tell.

    """
    some = [row["workspace"] for row in await shard.fetch(_NEXT, lease.progress, _LOOKED_AT)]
    missed = [workspace for workspace in some if not await _exists(workspaces, workspace)]
    async with lease.effect() as connection:
        await connection.execute(_MISSED, missed)
        await connection.execute(_FOUND, list(set(some) - set(missed)))
    await lease.save(some[-1] if len(some) == _LOOKED_AT else "")
    dropped = 0
    for row in await shard.fetch(_LONG_MISSED, grace, _LOOKED_AT):
        if dropped < _DROPPED:
            dropped += await _drop(shard, lease, workspaces, row["workspace"], _DROPPED - dropped)
    return dropped


async def _drop(shard: Shard, lease: Lease, workspaces: Workspaces, workspace: str, limit: int) -> int:
    if await _exists(workspaces, workspace):  # somebody made it anew
        artifacts, is_back = [], True
    else:
        artifacts, is_back = [row["id"] for row in await shard.fetch(_ARTIFACTS, workspace, limit)], False
    for artifact in artifacts:
        await _drop_artifact(lease, artifact)
    if is_back or len(artifacts) < limit:
        async with lease.effect() as connection:
            await connection.execute(_FOUND, [workspace])
    return len(artifacts)


async def _drop_artifact(lease: Lease, artifact: UUID) -> None:
    """Piece by piece: an artifact may have more files than one statement has time for."""
    for statement in (_FILES, _STAGED):
        touched = _FILES_AT_ONCE
        while touched == _FILES_AT_ONCE:
            async with lease.effect() as connection:
                status = await connection.execute(statement, artifact, _FILES_AT_ONCE)
            touched = int(status.rpartition(" ")[2])
    async with lease.effect() as connection:
        await connection.execute(_ARTIFACT, artifact)


async def _exists(workspaces: Workspaces, workspace: str) -> bool:
    try:
        await workspaces.find(workspace)
    except NotFound:
        return False
    return True
