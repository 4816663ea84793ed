from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from hypha_artifacts.record import EDIT_VERSION
from hypha_common.errors import BadRequest, Conflict

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["Draft", "NotStaged", "StagedFile", "check_folders", "open_draft", "stage", "unstage"]

# Whoever changes a draft waits for whoever else does, or commits it; readers do not wait.
_OPEN = """
    SELECT a.intent, (SELECT max(v.seq) FROM artifact_versions v WHERE v.artifact_id = a.id) AS newest
    FROM artifacts a WHERE a.id = $1 FOR NO KEY UPDATE
"""
# $3: paths that are going to be files, $4: the folders they are in. Scalar subqueries are index look-ups for each path;
# as joins they were planned badly while the tables were small.
_NOT_OVERLAID = "(SELECT s.path FROM artifact_staged_files s WHERE s.artifact_id = $1 AND s.path = f.path) IS NULL"
_CLASHES = f"""
    SELECT w.path, true AS is_folder FROM unnest($3::text[]) AS w (path)
    WHERE (
        SELECT s.path FROM artifact_staged_files s
        WHERE s.artifact_id = $1 AND s.path >= w.path || '/' AND s.path < w.path || '0' AND s.blob_id IS NOT NULL
        ORDER BY s.path LIMIT 1
    ) IS NOT NULL OR (
        SELECT f.path FROM artifact_files f
        WHERE f.artifact_id = $1 AND f.seq = $2 AND f.path >= w.path || '/' AND f.path < w.path || '0'
          AND {_NOT_OVERLAID}
        ORDER BY f.path LIMIT 1
    ) IS NOT NULL
    UNION ALL
    SELECT w.path, false FROM unnest($4::text[]) AS w (path)
    WHERE (
        SELECT s.blob_id FROM artifact_staged_files s WHERE s.artifact_id = $1 AND s.path = w.path
    ) IS NOT NULL OR (
        SELECT f.path FROM artifact_files f
        WHERE f.artifact_id = $1 AND f.seq = $2 AND f.path = w.path AND {_NOT_OVERLAID}
    ) IS NOT NULL
    LIMIT 1
"""  # noqa: S608  # constants
# $5: the objects of the paths, $6: their download weights. Nothing is staged where something clashes.
_STAGE = f"""
    WITH clash AS MATERIALIZED ({_CLASHES}), staged AS (
        INSERT INTO artifact_staged_files (artifact_id, path, blob_id, download_weight)
        SELECT $1, n.path, n.blob_id, n.weight
        FROM unnest($3::text[], $5::uuid[], $6::float8[]) AS n (path, blob_id, weight)
        WHERE NOT EXISTS (SELECT FROM clash)
        ON CONFLICT (artifact_id, path) DO UPDATE
        SET blob_id = excluded.blob_id, download_weight = excluded.download_weight
    )
    SELECT path, is_folder FROM clash
"""  # noqa: S608  # constants
# What the draft began with is marked as removed; so is what nobody knows, which is no error.
_UNSTAGE = """
    WITH known AS (
        SELECT EXISTS (SELECT FROM artifact_files WHERE artifact_id = $1 AND seq = $2 AND path = $3) AS committed
    ), dropped AS (
        DELETE FROM artifact_staged_files s USING known
        WHERE s.artifact_id = $1 AND s.path = $3 AND s.blob_id IS NOT NULL AND NOT known.committed RETURNING s.path
    )
    INSERT INTO artifact_staged_files (artifact_id, path, blob_id)
    SELECT $1, $3, NULL FROM known WHERE NOT EXISTS (SELECT FROM dropped)
    ON CONFLICT (artifact_id, path) DO UPDATE SET blob_id = NULL, download_weight = 0
"""


class NotStaged(BadRequest):
    """There is no draft that could be changed."""

    rpc_type = "AssertionError"

    def __init__(self, message: str = "Artifact must be in staging mode.") -> None:
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft that is locked until the transaction ends; ``seq`` is the version whose files it begins with."""

    artifact: UUID
    seq: int | None


@dataclass(frozen=True, slots=True)
class StagedFile:
    path: str
    blob: UUID
    weight: float = 0.0


async def open_draft(connection: PoolConnectionProxy[Record], artifact: UUID) -> Draft:
    """Lock the draft of an artifact. Raises NotStaged where there is none."""
    row = await connection.fetchrow(_OPEN, artifact)
    if row is None or row["intent"] is None:
        raise NotStaged
    return Draft(artifact, row["newest"] if row["intent"] == EDIT_VERSION else None)


async def check_folders(connection: PoolConnectionProxy[Record], draft: Draft, paths: Sequence[str]) -> None:
    """Raise Conflict where a path would be a file and a folder at once."""
    folders = _folders_of(paths)
    _check(await connection.fetchrow(_CLASHES, draft.artifact, draft.seq, paths, folders))


async def stage(connection: PoolConnectionProxy[Record], draft: Draft, files: Sequence[StagedFile]) -> None:
    """Put files, of different paths, into a draft. Raises Conflict where one would be a file and a folder at once."""
    paths = [file.path for file in files]
    folders = _folders_of(paths)
    blobs, weights = [file.blob for file in files], [file.weight for file in files]
    try:
        clash = await connection.fetchrow(_STAGE, draft.artifact, draft.seq, paths, folders, blobs, weights)
    except asyncpg.ForeignKeyViolationError:
        raise Conflict("Writing the file took too long; what was written is gone.") from None
    _check(clash)


async def unstage(connection: PoolConnectionProxy[Record], draft: Draft, path: str) -> None:
    """Remove a path from a draft: at the commit it is gone."""
    await connection.execute(_UNSTAGE, draft.artifact, draft.seq, path)


def _folders_of(paths: Sequence[str]) -> list[str]:
    """Return ``a``, ``a/b`` for ``a/b/c`` … Raises Conflict where one of the paths is a folder of others."""
    folders = {path[:end] for path in paths for end, sign in enumerate(path) if sign == "/"}
    for path in paths:
        if path in folders:
            raise _clash(path, is_folder=True)
    return list(folders)


def _check(clash: Record | None) -> None:
    if clash is not None:
        raise _clash(clash["path"], is_folder=clash["is_folder"])


def _clash(path: str, *, is_folder: bool) -> Conflict:
    if is_folder:
        return Conflict(f"File path '{path}' is a folder of other files.", rpc_type="ValueError")
    return Conflict(f"File path '{path}' is a file, it cannot be a folder as well.", rpc_type="ValueError")
