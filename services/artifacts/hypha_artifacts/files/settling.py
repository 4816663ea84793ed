from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from hypha_artifacts.record import Artifact
from hypha_common.errors import NotFound

from .bounded import gather_bounded
from .draft_rows import StagedFile, open_draft, stage

if TYPE_CHECKING:
    from hypha_artifacts.blobs import StoredBlob
    from hypha_artifacts.core import Core
    from hypha_common.db import Shard

    from .blob_rows import Blob, BlobRows

__all__ = ["copy_files", "missing_file", "settle"]

_BATCH = 500
_COPYING_S = 6 * 3600  # how long a copy is kept that nothing refers to yet

_UNSETTLED = """
    SELECT s.path, b.id, b.key, b.direct OR b.writing AS changing
    FROM artifact_staged_files s JOIN blobs b ON b.id = s.blob_id
    WHERE s.artifact_id = $1 AND s.path > $2 AND (b.size IS NULL OR b.direct OR b.writing)
    ORDER BY s.path LIMIT $3
"""
# Where the file has been staged anew in the meantime, the newer one stays.
_EXCHANGE = """
    UPDATE artifact_staged_files s SET blob_id = n.new
    FROM unnest($2::text[], $3::uuid[], $4::uuid[]) AS n (path, old, new)
    WHERE s.artifact_id = $1 AND s.path = n.path AND s.blob_id = n.old
"""
_FILES = """
    SELECT f.path, b.key FROM artifact_files f JOIN blobs b ON b.id = f.blob_id
    WHERE f.artifact_id = $1 AND f.seq = $2 AND f.path > $3 ORDER BY f.path LIMIT $4
"""


async def settle(core: Core, blobs: BlobRows, artifact: Artifact) -> None:
    """See :meth:`BlobRows.settle`."""
    shard = core.rows.shard(artifact.name)
    async for rows in _pages(shard, _UNSETTLED, artifact.id):
        await _settle_some(core, blobs, artifact, [row for row in rows if not row["changing"]])
        await _replace_some(core, blobs, artifact, [row for row in rows if row["changing"]])


async def copy_files(core: Core, blobs: BlobRows, source: Artifact, seq: int, target: Artifact) -> int:
    """See :meth:`BlobRows.copy`."""
    copied = 0
    shard = core.rows.shard(target.name)
    async for rows in _pages(core.rows.shard(source.name), _FILES, source.id, seq):
        copies, found = await _copy(core, blobs, target, [(row["key"], row["path"]) for row in rows])
        async with shard.transaction() as connection:
            await blobs.record(connection, found)
            draft = await open_draft(connection, target.id)
            await stage(connection, draft, [StagedFile(blob.path, blob.id) for blob in copies])
        copied += len(copies)
    return copied


def missing_file(path: str) -> NotFound:
    """Return the error for a file without bytes, or that is not there at all."""
    return NotFound(f"File '{path}' does not exist in the artifact.", rpc_type="FileNotFoundError")


async def _settle_some(core: Core, blobs: BlobRows, artifact: Artifact, rows: Sequence[Any]) -> None:
    """Record what the store has of objects that were announced."""
    if not rows:
        return
    heads = await gather_bounded(lambda row: core.store.head(row["key"]), rows)
    await blobs.record(core.rows.shard(artifact.name), [head for head in heads if head is not None])
    for row, head in zip(rows, heads, strict=True):
        if head is None:
            raise missing_file(row["path"])


async def _replace_some(core: Core, blobs: BlobRows, artifact: Artifact, rows: Sequence[Any]) -> None:
    """Take copies, under keys that nobody has an address of, of objects that may still be changed."""
    if not rows:
        return
    copies, found = await _copy(core, blobs, artifact, [(row["key"], row["path"]) for row in rows])
    async with core.rows.shard(artifact.name).transaction() as connection:
        await blobs.record(connection, found)
        await connection.execute(
            _EXCHANGE,
            artifact.id,
            [row["path"] for row in rows],
            [row["id"] for row in rows],
            [blob.id for blob in copies],
        )


async def _copy(
    core: Core, blobs: BlobRows, target: Artifact, sources: Sequence[tuple[str, str]]
) -> tuple[list[Blob], list[StoredBlob]]:
    """Copy objects, (key, path) each, to fresh keys of an artifact. Raises NotFound for the first that is missing."""
    shard = core.rows.shard(target.name)
    async with shard.transaction() as connection:
        copies = await blobs.announce(
            connection, target, [path for _, path in sources], writable_s=_COPYING_S, direct=False
        )

    async def copy(number: int) -> StoredBlob | None:
        try:
            await core.store.copy(sources[number][0], copies[number].key)
        except NotFound:
            return None
        return await core.store.head(copies[number].key)

    found = await gather_bounded(copy, range(len(sources)))
    for blob, head in zip(copies, found, strict=True):
        if head is None:
            raise missing_file(blob.path)
    return copies, [head for head in found if head is not None]


async def _pages(shard: Shard, query: str, *args: Any) -> AsyncIterator[Sequence[Any]]:
    """Yield rows that are sorted by path, a page at a time; the query takes the last path and a limit."""
    last = ""
    while rows := await shard.fetch(query, *args, last, _BATCH):
        yield rows
        last = rows[-1]["path"]
        if len(rows) < _BATCH:
            return
