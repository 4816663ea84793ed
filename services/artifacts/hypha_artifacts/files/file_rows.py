from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .view import View

if TYPE_CHECKING:
    from hypha_common.db import Shard

__all__ = ["FileRow", "find_files"]

# $2 the version, $4 whether the draft is meant. Scalar subqueries are index look-ups for each path; as joins they were
# planned badly while the tables were small.
_FIND = """
    SELECT w.path, b.key, b.size, b.etag, b.content_type, b.modified_at,
        NOT b.sealed AND (b.direct OR b.writing) AS changing
    FROM (
        SELECT path, CASE WHEN $4 AND (
            SELECT s.path FROM artifact_staged_files s WHERE s.artifact_id = $1 AND s.path = p.path
        ) IS NOT NULL THEN (
            SELECT s.blob_id FROM artifact_staged_files s WHERE s.artifact_id = $1 AND s.path = p.path
        ) ELSE (
            SELECT f.blob_id FROM artifact_files f WHERE f.artifact_id = $1 AND f.seq = $2 AND f.path = p.path
        ) END AS blob_id
        FROM unnest($3::text[]) AS p (path)
    ) w JOIN blobs b ON b.id = w.blob_id
"""


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file and the object that holds its bytes."""

    path: str
    key: str
    size: int | None  # None: its bytes are not known to be there
    etag: str | None
    content_type: str | None
    modified_at: float | None  # Unix time, seconds
    changing: bool = False  # what is recorded may be out of date


async def find_files(shard: Shard, view: View, paths: Sequence[str]) -> dict[str, FileRow]:
    """Return those of some paths that are files, with or without bytes."""
    rows = await shard.fetch(_FIND, view.artifact, view.seq, list(paths), view.staged)
    return {row["path"]: _file(row) for row in rows}


def _file(row: Any) -> FileRow:
    return FileRow(*(row[name] for name in FileRow.__slots__))
