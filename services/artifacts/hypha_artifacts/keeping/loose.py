from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypha_common.db import Shard
    from hypha_common.lease import Lease

__all__ = ["Buried", "DeadObject", "bury", "count_due", "dead_objects", "expire_uploads", "forget", "put_off"]

_BATCH = 500

# At our own /s3 nobody begins to write an object without a row; one that is being written is left, as long as that may
# take. At the store itself whoever has an address can write until it expires.
_DUE = """
    FROM loose_blobs l JOIN blobs b ON b.id = l.blob_id
    WHERE l.since <= now() - $1::interval AND (b.writable_until <= now() OR NOT (b.direct OR b.writing))
"""
# A row that somebody locks is being made loose again, or referred to, this moment: it is left for the next pass.
_PICK = f"SELECT l.blob_id {_DUE} ORDER BY l.since LIMIT $2 FOR UPDATE OF l, b SKIP LOCKED"
_UNREFERENCED = """
    NOT EXISTS (SELECT FROM artifact_files f WHERE f.blob_id = b.id)
    AND NOT EXISTS (SELECT FROM artifact_staged_files s WHERE s.blob_id = b.id)
    AND NOT EXISTS (SELECT FROM artifact_uploads u WHERE u.blob_id = b.id)
"""
_BURY = f"""
    WITH gone AS (DELETE FROM blobs b WHERE b.id = ANY($1::uuid[]) AND {_UNREFERENCED} RETURNING b.key)
    INSERT INTO dead_objects (key) SELECT key FROM gone ON CONFLICT DO NOTHING
"""  # noqa: S608  # conditions, no values
_NOT_LOOSE = "DELETE FROM loose_blobs WHERE blob_id = ANY($1::uuid[])"
_COUNT_DUE = f"""
    SELECT (SELECT count(*) {_DUE} AND {_UNREFERENCED}) AS objects,
           (SELECT count(*) FROM artifact_uploads WHERE expires_at <= now() - $2::interval) AS uploads,
           (SELECT count(*) FROM dead_objects) AS dead
"""  # noqa: S608  # conditions, no values
_EXPIRE = """
    DELETE FROM artifact_uploads WHERE id IN (
        SELECT id FROM artifact_uploads WHERE expires_at <= now() - $1::interval ORDER BY expires_at LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
"""
_DEAD = "SELECT key, store_upload_id FROM dead_objects WHERE queued_at <= now() ORDER BY queued_at LIMIT $1"
_FORGET = """
    DELETE FROM dead_objects d USING unnest($1::text[], $2::text[]) AS done (key, store_upload_id)
    WHERE d.key = done.key AND d.store_upload_id = done.store_upload_id
"""
_PUT_OFF = "UPDATE dead_objects SET queued_at = clock_timestamp() WHERE key = $1 AND store_upload_id = $2"


@dataclass(frozen=True, slots=True)
class Buried:
    """What became of a batch of loose blobs: rows dropped, and rows that something refers to."""

    dropped: int
    in_use: int

    def __bool__(self) -> bool:
        return bool(self.dropped or self.in_use)


@dataclass(frozen=True, slots=True)
class DeadObject:
    """An object that no row stands for any more; with ``store_upload_id`` only the parts of a multipart upload."""

    key: str
    store_upload_id: str


async def bury(lease: Lease, *, grace: timedelta) -> Buried:
    """
    Take a batch of blobs that have been loose for ``grace`` and that nobody may write any more.

    Rows of those that nothing refers to are replaced by rows of ``dead_objects``. That the row is gone, and was locked
    while references were looked for, is what keeps new ones away.

    """
    async with lease.effect() as connection:
        picked = [row["blob_id"] for row in await connection.fetch(_PICK, grace, _BATCH)]
        if not picked:
            return Buried(0, 0)
        dropped = int((await connection.execute(_BURY, picked)).rpartition(" ")[2])
        await connection.execute(_NOT_LOOSE, picked)
    return Buried(dropped, len(picked) - dropped)


async def expire_uploads(lease: Lease, *, slack: timedelta) -> int:
    """Drop a batch of multipart uploads whose time has passed; triggers queue their parts for removal."""
    async with lease.effect() as connection:
        return int((await connection.execute(_EXPIRE, slack, _BATCH)).rpartition(" ")[2])


async def dead_objects(shard: Shard) -> list[DeadObject]:
    """Return a batch of what is to be removed from the store, the longest waiting first."""
    return [DeadObject(*row) for row in await shard.fetch(_DEAD, _BATCH)]


async def forget(lease: Lease, removed: list[DeadObject]) -> None:
    """Drop the rows of what the store does not have any more."""
    async with lease.effect() as connection:
        await connection.execute(_FORGET, [dead.key for dead in removed], [dead.store_upload_id for dead in removed])


async def put_off(lease: Lease, dead: DeadObject) -> None:
    """Let others go first: the store would not remove this one."""
    async with lease.effect() as connection:
        await connection.execute(_PUT_OFF, dead.key, dead.store_upload_id)


async def count_due(shard: Shard, *, grace: timedelta, slack: timedelta) -> dict[str, int]:
    """Return what a pass would do: ``objects`` to drop, ``uploads`` to expire, ``dead`` left by an earlier pass."""
    row = await shard.fetchrow(_COUNT_DUE, grace, slack)
    assert row is not None
    return dict(row)
