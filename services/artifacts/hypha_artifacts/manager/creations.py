from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.record import NEW_VERSION, Artifact
from hypha_artifacts.reference import ArtifactName
from hypha_artifacts.repository import LONG_S, LONGER

from .values import dump_json, unix_now

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_artifacts.repository import ArtifactRows

__all__ = ["Creation", "Creations"]

# The artifact, its first version and that its parent is a collection: one statement, so that all or nothing is there.
_INSERT = """
    WITH made AS (
        INSERT INTO artifacts (id, workspace, alias, parent_id, type, manifest, config, secrets, intent, next_seq,
                               version_count, created_by, created_at, last_modified)
        SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, n, n, $10, $11, $11
        FROM (SELECT CASE WHEN $9::text IS NULL THEN 1 ELSE 0 END AS n) AS published
        ON CONFLICT ON CONSTRAINT _workspace_alias_uc DO NOTHING
        RETURNING id
    ), published AS (
        INSERT INTO artifact_versions (artifact_id, seq, name, comment, created_at, type, manifest, config)
        SELECT id, 0, $12, $13, $11, $5, $6, $7 FROM made WHERE $9::text IS NULL
    ), collection AS (
        UPDATE artifacts SET config = config || '{"is_collection": true}'
        WHERE id = $4 AND NOT config @> '{"is_collection": true}' AND EXISTS (SELECT FROM made)
    )
    SELECT count(*) FROM made
"""
_COUNT_CHILDREN = "SELECT count(*) FROM artifacts WHERE parent_id = $1"
_EMPTY = (
    "DELETE FROM artifact_staged_files WHERE artifact_id = $1",
    # The sweep ends uploads at the store, too; versions go with their files.
    "UPDATE artifact_uploads SET expires_at = now() WHERE artifact_id = $1 AND expires_at > now()",
    "DELETE FROM artifact_versions WHERE artifact_id = $1",
)
_RESET = """
    UPDATE artifacts SET type = $2, manifest = $3, config = $4, secrets = $5, intent = $6, created_by = $7,
        created_at = $8, last_modified = $8, staged_manifest = NULL, staged_config = NULL, staged_secrets = NULL,
        staged_type = NULL, file_count = 0, download_count = 0, view_count = 0,
        version_count = CASE WHEN $6::text IS NULL THEN 1 ELSE 0 END, next_seq = next_seq + 1
    WHERE id = $1 RETURNING next_seq - 1
"""
_FIRST_VERSION = """
    INSERT INTO artifact_versions (artifact_id, seq, name, comment, created_at, type, manifest, config)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


@dataclass(frozen=True, slots=True)
class Creation:
    """A new artifact as it goes into the database."""

    id: UUID
    name: ArtifactName
    parent_id: UUID | None
    type: str
    manifest: dict[str, Any]
    config: dict[str, Any]
    secrets: dict[str, Any]
    created_by: str
    version: str  # the name of the first version
    comment: str
    stage: bool

    @property
    def intent(self) -> str | None:
        return NEW_VERSION if self.stage else None


class Creations:
    """Makes artifacts, in the database of their workspace."""

    def __init__(self, rows: ArtifactRows) -> None:
        self._rows = rows

    async def insert(self, made: Creation, secrets: bytes | None) -> bool:
        """
        Make an artifact, with sealed secrets; False where another has its name.

        Raises asyncpg's error where the parent is gone.

        """
        count = await self._rows.shard(made.name).fetchval(
            _INSERT,
            made.id, made.name.workspace, made.name.alias, made.parent_id, made.type, dump_json(made.manifest),
            dump_json(made.config), secrets, made.intent, made.created_by, unix_now(), made.version, made.comment,
        )  # fmt: skip
        return bool(count)

    async def taken(self, workspace: str, aliases: list[str]) -> set[str]:
        """Return those of some aliases that are in use in a workspace."""
        rows = await self._rows.shard(ArtifactName(workspace, "")).fetch(
            "SELECT alias FROM artifacts WHERE workspace = $1 AND alias = ANY($2::text[])", workspace, aliases
        )
        return {row["alias"] for row in rows}

    async def count_children(self, connection: PoolConnectionProxy[Record], artifact: Artifact) -> int:
        count: int = await connection.fetchval(_COUNT_CHILDREN, artifact.id)
        return count

    async def reset(self, connection: PoolConnectionProxy[Record], made: Creation, secrets: bytes | None) -> None:
        """Make a locked artifact anew: no version, file, draft or count of before stays. Its UUID does."""
        await connection.execute(LONGER)
        for statement in _EMPTY:
            await connection.execute(statement, made.id, timeout=LONG_S)
        now = unix_now()
        manifest, config = dump_json(made.manifest), dump_json(made.config)
        # Sequence numbers go on: what somebody still holds of an old version must not mean a new one.
        seq = await connection.fetchval(
            _RESET, made.id, made.type, manifest, config, secrets, made.intent, made.created_by, now
        )
        if not made.stage:
            await connection.execute(
                _FIRST_VERSION, made.id, seq, made.version, made.comment, now, made.type, manifest, config
            )
