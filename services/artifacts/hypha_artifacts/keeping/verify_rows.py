from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from asyncpg import Record

    from hypha_common.db import Shard

__all__ = ["BlobState", "Finding", "blob_states", "read_states", "row_findings"]

_PAGE = 500
_PATIENCE_S = 600
_FIRST = UUID(int=0)

_STATES = """
    SELECT b.id, b.key, b.size, b.etag, b.sealed, NOT b.sealed AND (b.direct OR b.writing) AS changing,
           (SELECT f.artifact_id::text || '/' || f.seq || '/' || f.path FROM artifact_files f
            WHERE f.blob_id = b.id LIMIT 1) AS committed,
           (SELECT s.artifact_id::text || '/draft/' || s.path FROM artifact_staged_files s
            WHERE s.blob_id = b.id LIMIT 1) AS staged,
           EXISTS (SELECT FROM artifact_uploads u WHERE u.blob_id = b.id) AS uploading,
           l.blob_id IS NOT NULL AS loose,
           coalesce(l.since <= now() - $1::interval, false) AND b.writable_until <= now() - $1::interval AS overdue
    FROM blobs b LEFT JOIN loose_blobs l ON l.blob_id = b.id
"""
_PAGE_OF_STATES = f"{_STATES} WHERE b.id > $2 AND ($3::text IS NULL OR b.workspace = $3) ORDER BY b.id LIMIT $4"
_SOME_STATES = f"{_STATES} WHERE b.id = ANY($2::uuid[])"

# What constraints rule out, unless a backup was restored without them.
_DANGLING = """
    SELECT a.workspace || '/' || a.alias || ': ' || r.path AS place FROM (
        SELECT artifact_id, path, blob_id FROM artifact_files
        UNION ALL SELECT artifact_id, path, blob_id FROM artifact_staged_files WHERE blob_id IS NOT NULL
        UNION ALL SELECT artifact_id, path, blob_id FROM artifact_uploads
    ) r LEFT JOIN artifacts a ON a.id = r.artifact_id
    WHERE ($1::text IS NULL OR a.workspace = $1) AND NOT EXISTS (SELECT FROM blobs b WHERE b.id = r.blob_id)
"""
_WITHOUT_VERSION = """
    SELECT f.artifact_id || '/' || f.seq || ': ' || f.path AS place FROM artifact_files f
    WHERE $1::text IS NULL AND NOT EXISTS (
        SELECT FROM artifact_versions v WHERE v.artifact_id = f.artifact_id AND v.seq = f.seq
    )
"""
_MISCOUNTED = """
    SELECT a.workspace || '/' || a.alias AS place, a.file_count, n.files FROM artifacts a
    CROSS JOIN LATERAL (
        SELECT count(*) AS files FROM artifact_files f
        WHERE f.artifact_id = a.id
          AND f.seq = (SELECT max(v.seq) FROM artifact_versions v WHERE v.artifact_id = a.id)
    ) n
    WHERE ($1::text IS NULL OR a.workspace = $1) AND a.file_count <> n.files
"""
_NOT_REMOVED = """
    SELECT key AS place FROM dead_objects WHERE $2::text IS NULL AND queued_at <= now() - $1::interval
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be: ``kind`` is a word, ``place`` a key or a file, ``about`` a sentence."""

    kind: str
    place: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class BlobState:
    """A row of ``blobs`` and what refers to it."""

    id: UUID
    key: str
    size: int | None
    etag: str | None
    sealed: bool
    changing: bool  # somebody may be writing it
    committed: str | None  # a file that it is: artifact/version/path
    staged: str | None
    uploading: bool
    loose: bool
    overdue: bool  # loose, and the sweep should have taken it

    @property
    def has_object(self) -> bool:
        """Tell whether the store must have this, with these bytes."""
        if self.size is None or self.changing:
            return False
        return self.committed is not None or self.staged is not None

    def findings(self) -> Iterable[Finding]:
        """Yield what is wrong with the row itself."""
        if self.key.split("/", 4)[3:4] != [str(self.id)]:
            yield Finding("misplaced", self.key, "the key is not in the object's own folder")
        if self.committed is not None and self.size is None:
            yield Finding("unsettled", self.key, f"committed as {self.committed}, but nobody knows its size")
        if self.committed is not None and not self.sealed:
            yield Finding("unsealed", self.key, f"committed as {self.committed}, but may still be written")
        if self.committed is None and self.staged is None and not self.uploading:
            if not self.loose:
                yield Finding("forgotten", self.key, "nothing refers to it, and the sweep does not know")
            elif self.overdue:
                yield Finding("overdue", self.key, "nothing refers to it, and it is still there: is the sweep running?")


async def blob_states(shard: Shard, workspace: str | None, *, overdue: timedelta) -> AsyncIterator[list[BlobState]]:
    """Yield all rows of ``blobs``, a page at a time."""
    last = _FIRST
    while rows := await shard.fetch(_PAGE_OF_STATES, overdue, last, workspace, _PAGE):
        yield [_state(row) for row in rows]
        last = rows[-1]["id"]


async def read_states(shard: Shard, ids: Sequence[UUID], *, overdue: timedelta) -> list[BlobState]:
    """Read some rows once more; those that are gone are left out."""
    return [_state(row) for row in await shard.fetch(_SOME_STATES, overdue, ids)]


async def row_findings(shard: Shard, workspace: str | None, *, overdue: timedelta) -> list[Finding]:
    """Return what is wrong among rows, whatever the store has."""
    dangling = await _patiently(shard, _DANGLING, workspace)
    found = [Finding("dangling", row["place"], "its object is not known") for row in dangling]
    found += [
        Finding("dangling", row["place"], "its version is not known")
        for row in await _patiently(shard, _WITHOUT_VERSION, workspace)
    ]
    found += [
        Finding("miscounted", row["place"], f"file_count is {row['file_count']}, the newest version has {row['files']}")
        for row in await _patiently(shard, _MISCOUNTED, workspace)
    ]
    found += [
        Finding("overdue", row["place"], "removed, but still in the store: is the sweep running?")
        for row in await _patiently(shard, _NOT_REMOVED, overdue, workspace)
    ]
    return found


async def _patiently(shard: Shard, query: str, *args: Any) -> list[Record]:
    """Read what takes a look at every row."""
    async with shard.transaction() as connection:
        await connection.execute(f"SET LOCAL statement_timeout = '{_PATIENCE_S}s'")
        rows: list[Record] = await connection.fetch(query, *args, timeout=_PATIENCE_S)
        return rows


def _state(row: Mapping[str, Any]) -> BlobState:
    return BlobState(**dict(row))
