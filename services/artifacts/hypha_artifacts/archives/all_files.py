from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from hypha_artifacts.files.file_rows import FileRow

if TYPE_CHECKING:
    from hypha_artifacts.files.view import View
    from hypha_common.db import Shard

__all__ = ["all_files"]

_PAGE_ROWS = 1000

# $1 artifact, $2 version, $3 whether staged files lie over it.
_ALL = """
    SELECT f.path, b.key, b.size, b.etag, b.content_type, b.modified_at,
        NOT b.sealed AND (b.direct OR b.writing) AS changing
    FROM (
        SELECT f.path, f.blob_id FROM artifact_files f WHERE f.artifact_id = $1 AND f.seq = $2
        AND NOT EXISTS (SELECT FROM artifact_staged_files s WHERE $3 AND s.artifact_id = $1 AND s.path = f.path)
        UNION ALL
        SELECT s.path, s.blob_id FROM artifact_staged_files s
        WHERE $3 AND s.artifact_id = $1 AND s.blob_id IS NOT NULL
    ) f JOIN blobs b ON b.id = f.blob_id ORDER BY f.path
"""


async def all_files(shard: Shard, view: View) -> AsyncGenerator[list[FileRow], None]:
    """Yield all files of a view by path, as they are at one moment, a thousand at a time."""
    async with shard.transaction() as connection:
        cursor = await connection.cursor(_ALL, view.artifact, view.seq, view.staged)
        while rows := await cursor.fetch(_PAGE_ROWS):
            yield [FileRow(*row) for row in rows]
