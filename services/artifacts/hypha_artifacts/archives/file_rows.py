from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.reference import partition_in
from hypha_artifacts.versions import base_of_draft, find_version, is_stage
from hypha_common.db import Database, Shard

if TYPE_CHECKING:
    from hypha_artifacts.record import Artifact

__all__ = ["FileRow", "FileRows", "FileSet"]

_PAGE_ROWS = 1000

# $1 artifact, $2 seq of a version or null, $3 whether staged files lie over it.
_COMMITTED = """
    SELECT f.path, f.blob_id FROM artifact_files f WHERE f.artifact_id = $1 AND f.seq = $2 AND {where}
    AND NOT EXISTS (SELECT FROM artifact_staged_files s WHERE $3 AND s.artifact_id = $1 AND s.path = f.path)
"""
_STAGED = """
    SELECT f.path, f.blob_id FROM artifact_staged_files f
    WHERE $3 AND f.artifact_id = $1 AND f.blob_id IS NOT NULL AND {where}
"""
_COLUMNS = "f.path, b.key, b.size, b.etag, b.modified_at, b.content_type"


def _query(where: str, rest: str = "") -> str:
    parts = f"{_COMMITTED} UNION ALL {_STAGED}".format(where=where)
    return f"SELECT {_COLUMNS} FROM ({parts}) f JOIN blobs b ON b.id = f.blob_id {rest}"  # noqa: S608  # no values


_ONE = _query("f.path = $4")
_SOME = _query("f.path = ANY($4)", "ORDER BY f.path")
_ALL = _query("true", "ORDER BY f.path")


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of a version, or those of the draft."""

    artifact: UUID
    seq: int | None  # None: no version lies below
    draft: bool

    @classmethod
    def of(cls, artifact: Artifact, version: object = None, stage: object = False) -> FileSet:
        """Return what a client means by version and stage. Raises BadRequest."""
        draft = is_stage(artifact, version, stage)
        found = base_of_draft(artifact) if draft else find_version(artifact, version)
        return cls(artifact.id, None if found is None else found.seq, draft)

    def dump(self) -> list[Any]:
        return [str(self.artifact), self.seq, self.draft]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> FileSet:
        return cls(UUID(dumped[0]), dumped[1], dumped[2])


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file and the object that holds it. ``size`` is None until the bytes are known to be there."""

    path: str
    key: str
    size: int | None
    etag: str | None
    modified_at: float | None  # Unix time, seconds
    content_type: str | None


class FileRows:
    """The files of artifacts, for those who read them in order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, files: FileSet, path: str) -> FileRow | None:
        """Return a file, or None."""
        row = await self._shard(files).fetchrow(_ONE, files.artifact, files.seq, files.draft, path)
        return None if row is None else FileRow(*row)

    async def some(self, files: FileSet, paths: Sequence[str]) -> list[FileRow]:
        """Return those of some files that there are, by path."""
        rows = await self._shard(files).fetch(_SOME, files.artifact, files.seq, files.draft, list(paths))
        return [FileRow(*row) for row in rows]

    async def pages(self, files: FileSet) -> AsyncGenerator[list[FileRow], None]:
        """Yield all files by path as they are at one moment, a thousand at a time."""
        async with self._shard(files).transaction() as connection:
            cursor = await connection.cursor(_ALL, files.artifact, files.seq, files.draft)
            while rows := await cursor.fetch(_PAGE_ROWS):
                yield [FileRow(*row) for row in rows]

    def _shard(self, files: FileSet) -> Shard:
        return self._database.for_partition(partition_in(files.artifact))
