from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from hypha_artifacts.record import Artifact, Version, load_json
from hypha_artifacts.reference import ArtifactName
from hypha_artifacts.repository import LONG_S, LONGER

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_artifacts.repository import ArtifactRows
    from hypha_common.db import Shard

__all__ = ["Deletions"]

_AT_ONCE = 200
_REMOVE = "DELETE FROM artifacts WHERE id = ANY($1::uuid[])"
_DESCENDANTS = """
    WITH RECURSIVE below AS (
        SELECT id, 1 AS depth FROM artifacts WHERE parent_id = $1
        UNION ALL
        SELECT a.id, b.depth + 1 FROM artifacts a JOIN below b ON a.parent_id = b.id
    )
    SELECT id FROM below WHERE id <> $1 ORDER BY depth DESC
"""
_NAMES = """
    SELECT workspace, alias, config->'permissions' AS permissions FROM artifacts WHERE id = ANY($1::uuid[])
"""
_OF_WORKSPACE = """
    SELECT id FROM artifacts WHERE workspace = $1 AND id < $2 ORDER BY id DESC LIMIT $3
"""
_MOVE_STAGED = "UPDATE artifact_staged_files SET artifact_id = $2 WHERE artifact_id = $1"
_REMOVE_VERSION = "DELETE FROM artifact_versions WHERE artifact_id = $1 AND seq = $2"
# What is the newest now says what it said; the config, permissions first of all, is of the artifact and stays.
_FALL_BACK = """
    UPDATE artifacts a SET version_count = version_count - 1, last_modified = $3, type = v.type, manifest = v.manifest,
        file_count = (SELECT count(*) FROM artifact_files f WHERE f.artifact_id = $1 AND f.seq = $2)
    FROM artifact_versions v WHERE a.id = $1 AND v.artifact_id = $1 AND v.seq = $2
"""
_ONE_LESS = "UPDATE artifacts SET version_count = version_count - 1, last_modified = $2 WHERE id = $1"
_NONE_LEFT = """
    UPDATE artifacts SET version_count = 0, file_count = 0, last_modified = $2,
        intent = CASE WHEN intent IS NULL THEN NULL ELSE 'new_version' END
    WHERE id = $1
"""


class Deletions:
    """Removes rows of artifacts; the sweep removes the bytes that nothing refers to any more."""

    def __init__(self, rows: ArtifactRows) -> None:
        self._rows = rows

    async def remove(self, artifacts: Sequence[UUID]) -> None:
        """Remove artifacts of one workspace with their files, the first ones first; children of theirs are orphans."""
        for start in range(0, len(artifacts), _AT_ONCE):
            some = artifacts[start : start + _AT_ONCE]
            async with self._rows.shard(some[0]).transaction() as connection:
                await connection.execute(LONGER)
                await connection.execute(_REMOVE, list(some), timeout=LONG_S)

    async def descendants(self, artifact: Artifact) -> list[UUID]:
        """Return all children, their children, and so on, committed or not; the deepest first."""
        return [row["id"] for row in await self._shard(artifact).fetch(_DESCENDANTS, artifact.id)]

    async def permissions(
        self, artifact: Artifact, below: Sequence[UUID]
    ) -> list[tuple[ArtifactName, dict[str, object]]]:
        """Return the names and permission maps of some descendants."""
        rows = await self._shard(artifact).fetch(_NAMES, list(below))
        return [(ArtifactName(row["workspace"], row["alias"]), load_json(row["permissions"]) or {}) for row in rows]

    async def remove_version(
        self, connection: PoolConnectionProxy[Record], artifact: Artifact, version: Version, now: int
    ) -> None:
        """Remove a version of a locked artifact with its files. The others keep theirs."""
        await connection.execute(LONGER)
        await connection.execute(_REMOVE_VERSION, artifact.id, version.seq, timeout=LONG_S)
        left = [known for known in artifact.versions if known.seq != version.seq]
        if not left:
            await connection.execute(_NONE_LEFT, artifact.id, now)
        elif version == artifact.versions[-1]:
            await connection.execute(_FALL_BACK, artifact.id, left[-1].seq, now)
        else:
            await connection.execute(_ONE_LESS, artifact.id, now)

    async def merge(self, connection: PoolConnectionProxy[Record], artifact: UUID, *, into: UUID) -> None:
        """Remove an artifact whose staged files another one has from now on, which has none."""
        await connection.execute(LONGER)
        await connection.execute(_MOVE_STAGED, artifact, into, timeout=LONG_S)
        await connection.execute(_REMOVE, [artifact])

    async def some_of_workspace(self, workspace: str, before: UUID) -> list[UUID]:
        """Return some artifacts of a workspace, the newest first: children before their collections, mostly."""
        shard = self._rows.shard(ArtifactName(workspace, ""))
        return [row["id"] for row in await shard.fetch(_OF_WORKSPACE, workspace, before, _AT_ONCE)]

    def _shard(self, artifact: Artifact) -> Shard:
        return self._rows.shard(artifact.id)
