from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.record import Artifact
from hypha_artifacts.repository import COLUMNS, artifact_of
from hypha_common.errors import PayloadTooLarge

from .statement import Statement

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_common.db import Shard

__all__ = ["Page", "fetch_page"]

# Unlike everything else, these statements are planned for the values that they get: the same filter may fit ten
# artifacts or all of a hundred thousand. Workers of a parallel plan cost more than they save where pages are short.
_PLANNING = """
    SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
    SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = on;
    SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL random_page_cost = 1.1
"""
# Who may see what has been decided: of a parent, whose config may be large, the name is enough.
_COLUMNS = COLUMNS.replace("p.config AS", "'{}'::jsonb AS")
_ARTIFACTS = f"""
    SELECT {_COLUMNS} FROM artifacts a LEFT JOIN artifacts p ON p.id = a.parent_id WHERE a.id = ANY ($1::uuid[])
"""  # noqa: S608  # columns, no values
_STAGED_FILES = """
    SELECT s.* FROM unnest($1::uuid[]) AS n (id) CROSS JOIN LATERAL (
        SELECT artifact_id, path, download_weight, blob_id IS NULL AS removed FROM artifact_staged_files
        WHERE artifact_id = n.id ORDER BY path LIMIT $2
    ) s
"""
_MAX_STAGED_FILES = 1000  # of each artifact
_ROWS_AT_ONCE = 250
_MAX_BYTES = 64 * 2**20  # of manifests and configs in a page

StagedFiles = dict[UUID, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Page:
    """``total`` counts what all pages have together, None where it was not asked for."""

    artifacts: list[Artifact]
    staged_files: StagedFiles
    total: int | None


async def fetch_page(shard: Shard, statement: Statement, *, with_total: bool, with_drafts: bool) -> Page:
    """Run a listing; everything is as of one moment. Raises PayloadTooLarge."""
    async with shard.transaction() as connection:
        await connection.execute(_PLANNING)
        ids = [row["id"] for row in await connection.fetch(statement.page, *statement.page_values)]
        total = await _total(connection, statement, len(ids)) if with_total else None
        artifacts = await _artifacts(connection, ids)
        drafts = [artifact.id for artifact in artifacts if with_drafts and artifact.draft is not None]
        staged = await _staged_files(connection, drafts) if drafts else {}
    return Page(artifacts, staged, total)


async def _total(connection: PoolConnectionProxy[Record], statement: Statement, found: int) -> int:
    if statement.offset == 0 and found < statement.limit:
        return found
    total: int = await connection.fetchval(statement.total, *statement.total_values)
    return total


async def _artifacts(connection: PoolConnectionProxy[Record], ids: list[UUID]) -> list[Artifact]:
    found: dict[UUID, Artifact] = {}
    size = 0
    for start in range(0, len(ids), _ROWS_AT_ONCE):
        rows = await connection.fetch(_ARTIFACTS, ids[start : start + _ROWS_AT_ONCE])
        size += sum(len(row["manifest"]) + len(row["config"]) for row in rows)
        if size > _MAX_BYTES:
            raise PayloadTooLarge("The artifacts are too large for one page; ask for less with 'limit'")
        found.update((row["id"], artifact_of(row)) for row in rows)
    return [found[identifier] for identifier in ids]


async def _staged_files(connection: PoolConnectionProxy[Record], drafts: list[UUID]) -> StagedFiles:
    staged: StagedFiles = defaultdict(list)
    for row in await connection.fetch(_STAGED_FILES, drafts, _MAX_STAGED_FILES):
        entry: dict[str, Any] = {"path": row["path"]}
        if row["removed"]:
            entry["_remove"] = True
        elif row["download_weight"]:
            entry["download_weight"] = row["download_weight"]
        staged[row["artifact_id"]].append(entry)
    return staged
