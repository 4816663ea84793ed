from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from hypha_artifacts.record import Artifact
from hypha_artifacts.repository import LONG_S, LONGER

from .values import Values, dump_json, unix_now

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_artifacts.repository import ArtifactRows

__all__ = ["Drafts"]

# What was never published can only become a new version.
_STAGE = """
    UPDATE artifacts SET
        intent = CASE WHEN version_count = 0 THEN 'new_version' ELSE coalesce($2, intent, 'edit_version') END,
        staged_type = coalesce($3, staged_type), staged_manifest = coalesce($4, staged_manifest),
        staged_config = coalesce($5, staged_config), staged_secrets = coalesce($6, staged_secrets), last_modified = $7
    WHERE id = $1
"""
_DROP_FILES = "DELETE FROM artifact_staged_files WHERE artifact_id = $1"
# The sweep ends them at the store, too, and needs their rows for that.
_EXPIRE_UPLOADS = "UPDATE artifact_uploads SET expires_at = now() WHERE artifact_id = $1 AND expires_at > now()"
_DROP = """
    UPDATE artifacts SET intent = NULL, staged_type = NULL, staged_manifest = NULL, staged_config = NULL,
        staged_secrets = NULL WHERE id = $1
"""


class Drafts:
    """The drafts of artifacts: columns of their rows, and the staged files."""

    def __init__(self, rows: ArtifactRows) -> None:
        self._rows = rows

    async def stage(self, artifact: Artifact, values: Values, secrets: bytes | None, intent: str | None) -> bool:
        """Begin a draft, or change what one says; False where the artifact is gone."""
        count = await self._rows.shard(artifact.id).execute(
            _STAGE, artifact.id, intent, values.type, dump_json(values.manifest), dump_json(values.config), secrets,
            unix_now(),
        )  # fmt: skip
        return count > 0

    async def discard(self, artifact: Artifact) -> bool:
        """Drop a draft with its files, and nothing else; False where there is none."""
        async with self._rows.shard(artifact.id).transaction() as connection:
            locked = await self._rows.lock(connection, artifact.id)
            if locked is None or locked.draft is None:
                return False
            await self.drop(connection, artifact.id)
            return True

    async def drop(self, connection: PoolConnectionProxy[Record], identifier: UUID) -> None:
        """Drop the draft of a locked artifact."""
        await connection.execute(LONGER)
        for statement in (_EXPIRE_UPLOADS, _DROP_FILES, _DROP):
            await connection.execute(statement, identifier, timeout=LONG_S)
