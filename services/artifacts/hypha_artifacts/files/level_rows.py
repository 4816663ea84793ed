from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .view import View

if TYPE_CHECKING:
    from hypha_common.db import Shard

__all__ = ["Entry", "count_entries", "list_entries", "list_folders", "pending_keys"]

# In all of these $1 is the artifact, $2 the version, $3 the folder with its slash (the root: ""); in those of drafts
# $4 tells whether files count that have no bytes yet. Conditions on other tables are scalar subqueries, which are index
# look-ups for each row: as EXISTS they became joins that were planned badly while the tables were small.
_COMMITTED = """
    SELECT path, blob_id, 0.0::float8 AS weight FROM artifact_files
    WHERE artifact_id = $1 AND seq = $2 AND folder = $3
"""
_KNOWN = "($4 OR (SELECT b.size FROM blobs b WHERE b.id = s.blob_id) IS NOT NULL)"
_NOT_OVERLAID = "(SELECT s.path FROM artifact_staged_files s WHERE s.artifact_id = $1 AND s.path = f.path) IS NULL"
_STAGED = f"""
    SELECT s.path, s.blob_id, s.download_weight AS weight FROM artifact_staged_files s
    WHERE s.artifact_id = $1 AND s.folder = $3 AND s.blob_id IS NOT NULL AND {_KNOWN}
"""  # noqa: S608  # constants
_BELOW = f"""
    SELECT f.path, f.blob_id, 0.0::float8 AS weight FROM artifact_files f
    WHERE f.artifact_id = $1 AND f.seq = $2 AND f.folder = $3 AND {_NOT_OVERLAID}
"""  # noqa: S608  # constants
# Each part is read in the order of its index, and no further than the page needs.
_DRAFT_TO_PAGE = f"""
    (({_STAGED} ORDER BY s.path LIMIT $5::int8 + $6::int8) UNION ALL
     ({_BELOW} ORDER BY f.path LIMIT $5::int8 + $6::int8))
"""
# The objects of one page, not those of the pages before it.
_PAGE = """
    SELECT e.path, b.size, b.modified_at, e.weight
    FROM (SELECT * FROM ({entries}) sorted ORDER BY path LIMIT {limit} OFFSET {offset}) e
    JOIN blobs b ON b.id = e.blob_id ORDER BY e.path
"""
# From each folder the index is entered anew behind it (a loose scan), however many files there are in it. No name
# begins with less than a space, and "0" comes next to the slash.
_FOLDERS = """
    WITH RECURSIVE steps AS (
        SELECT {first} AS found
        UNION ALL
        SELECT {next} FROM steps WHERE starts_with(found, $3)
    )
    SELECT split_part(substr(found, length($3) + 1), '/', 1) AS name FROM steps
    WHERE starts_with(found, $3) LIMIT {limit} OFFSET {offset}
"""
_BEHIND = "$3 || split_part(substr(found, length($3) + 1), '/', 1) || '0'"
_NEXT_COMMITTED = """
    (SELECT f.folder FROM artifact_files f WHERE f.artifact_id = $1 AND f.seq = $2 AND f.folder >= {start}
     ORDER BY f.folder LIMIT 1)
"""
_NEXT_DRAFT = f"""
    least(
        (SELECT s.folder FROM artifact_staged_files s
         WHERE s.artifact_id = $1 AND s.folder >= {{start}} AND s.blob_id IS NOT NULL AND {_KNOWN}
         ORDER BY s.folder LIMIT 1),
        (SELECT f.folder FROM artifact_files f
         WHERE f.artifact_id = $1 AND f.seq = $2 AND f.folder >= {{start}} AND {_NOT_OVERLAID}
         ORDER BY f.folder LIMIT 1)
    )
"""  # noqa: S608  # constants
# What was given an address of the store itself: nobody tells us when it has been written.
_PENDING = """
    SELECT b.key FROM artifact_staged_files s JOIN blobs b ON b.id = s.blob_id
    WHERE s.artifact_id = $1 AND s.path >= $2 AND ($2 = '' OR s.path < left($2, -1) || '0')
      AND b.size IS NULL AND b.direct
    ORDER BY s.path LIMIT $3
"""


def _folders(step: str, limit: str, offset: str) -> str:
    first, following = step.format(start="$3 || ' '"), step.format(start=_BEHIND)
    return _FOLDERS.format(first=first, next=following, limit=limit, offset=offset)


_QUERIES = {
    False: (
        _PAGE.format(entries=_COMMITTED, limit="$4", offset="$5"),
        f"SELECT count(*) FROM ({_COMMITTED}) e",  # noqa: S608  # constants
        _folders(_NEXT_COMMITTED, "$4", "$5"),
    ),
    True: (
        _PAGE.format(entries=_DRAFT_TO_PAGE, limit="$5", offset="$6"),
        f"SELECT count(*) FROM ({_STAGED} UNION ALL {_BELOW}) e",  # noqa: S608  # constants
        _folders(_NEXT_DRAFT, "$5", "$6"),
    ),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of one level."""

    path: str
    size: int | None  # None: its bytes are not known to be there
    modified_at: float | None
    weight: float


async def list_entries(shard: Shard, view: View, folder: str, *, pending: bool, limit: int, offset: int) -> list[Entry]:
    """Return files directly in a folder (``a/b/``; the root is ""), sorted by path."""
    page = _QUERIES[view.staged][0]
    return [Entry(*row) for row in await shard.fetch(page, *_arguments(view, folder, pending), limit, offset)]


async def count_entries(shard: Shard, view: View, folder: str, *, pending: bool) -> int:
    """Return how many files there are directly in a folder."""
    count: int = await shard.fetchval(_QUERIES[view.staged][1], *_arguments(view, folder, pending))
    return count


async def list_folders(shard: Shard, view: View, folder: str, *, pending: bool, limit: int, offset: int) -> list[str]:
    """Return the names of folders directly in a folder, sorted."""
    folders = _QUERIES[view.staged][2]
    return [row[0] for row in await shard.fetch(folders, *_arguments(view, folder, pending), limit, offset)]


async def pending_keys(shard: Shard, view: View, folder: str, *, limit: int) -> list[str]:
    """Return keys of staged files below a folder of which only the store knows whether they are there."""
    return [row[0] for row in await shard.fetch(_PENDING, view.artifact, folder, limit)]


def _arguments(view: View, folder: str, pending: bool) -> Sequence[object]:
    return (view.artifact, view.seq, folder, *((pending,) if view.staged else ()))
