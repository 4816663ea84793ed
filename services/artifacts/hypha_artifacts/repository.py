from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_common.db import Database, Shard

from .record import Artifact, Parent, Version, draft_of, load_json
from .reference import ArtifactName, Reference, partition_in

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["COLUMNS", "LONGER", "LONG_S", "ArtifactRows", "artifact_of"]

# For statements on all files of an artifact in one transaction: there may be more than they usually have time for.
LONG_S = 300
LONGER = f"SET LOCAL statement_timeout = '{LONG_S}s'"

# Rows of this shape become an Artifact: see artifact_of().
COLUMNS = """
    a.id, a.workspace, a.alias, a.type, a.manifest, a.config, a.created_by, a.created_at, a.last_modified,
    a.download_count, a.view_count, a.file_count, a.intent, a.staged_manifest, a.staged_config, a.staged_type,
    p.id AS parent_id, p.workspace AS parent_workspace, p.alias AS parent_alias, p.config AS parent_config,
    (SELECT json_agg(json_build_array(v.seq, v.name, v.comment, v.created_at) ORDER BY v.seq)
     FROM artifact_versions v WHERE v.artifact_id = a.id) AS versions
"""
_FROM = f"SELECT {COLUMNS} FROM artifacts a LEFT JOIN artifacts p ON p.id = a.parent_id"  # noqa: S608  # columns, no values
_BY_NAME = f"{_FROM} WHERE a.workspace = $1 AND a.alias = $2"
_BY_ID = f"{_FROM} WHERE a.id = $1"
_LOCK = "SELECT FROM artifacts WHERE id = $1 FOR NO KEY UPDATE"


class ArtifactRows:
    """Artifacts in the database of their workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def shard(self, reference: Reference) -> Shard:
        """Return the database that holds an artifact, if there is one."""
        if isinstance(reference, ArtifactName):
            return self._database.for_workspace(reference.workspace)
        return self._database.for_partition(partition_in(reference))

    async def find(self, reference: Reference) -> Artifact | None:
        """Return an artifact, or None."""
        if isinstance(reference, ArtifactName):
            row = await self.shard(reference).fetchrow(_BY_NAME, reference.workspace, reference.alias)
        else:
            row = await self.shard(reference).fetchrow(_BY_ID, reference)
        return None if row is None else artifact_of(row)

    async def lock(self, connection: PoolConnectionProxy[Record], identifier: UUID) -> Artifact | None:
        """Return an artifact and keep others from changing it until the transaction ends; it may get children."""
        # Two statements: the one that waited for the lock sees other tables as they were when it began to wait.
        await connection.execute(_LOCK, identifier)
        row = await connection.fetchrow(_BY_ID, identifier)
        return None if row is None else artifact_of(row)


def artifact_of(row: Mapping[str, Any]) -> Artifact:
    """Read a row that has :data:`COLUMNS`."""
    parent = None
    if row["parent_id"] is not None:
        parent = Parent(
            row["parent_id"],
            ArtifactName(row["parent_workspace"], row["parent_alias"]),
            load_json(row["parent_config"]),
        )
    return Artifact(
        id=row["id"],
        workspace=row["workspace"],
        alias=row["alias"],
        type=row["type"],
        manifest=load_json(row["manifest"]),
        config=load_json(row["config"]),
        created_by=row["created_by"],
        created_at=row["created_at"],
        last_modified=row["last_modified"],
        download_count=row["download_count"],
        view_count=row["view_count"],
        file_count=row["file_count"],
        parent=parent,
        draft=draft_of(row),
        versions=tuple(Version(*version) for version in load_json(row["versions"]) or ()),
    )
