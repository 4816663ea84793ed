from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_artifacts.record import load_json
from hypha_common.db import Database, Shard

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["EndedWorkspaces", "ObjectRow", "ObjectRows", "workspace_of"]

_GET = "SELECT store_etag, etag, content_type, metadata FROM workspace_objects WHERE key = $1"
_PUT = """
    INSERT INTO workspace_objects (key, store_etag, etag, content_type, metadata) VALUES ($1, $2, $3, $4, $5::jsonb)
    ON CONFLICT (key) DO UPDATE SET store_etag = $2, etag = $3, content_type = $4, metadata = $5::jsonb
"""
_DROP = "DELETE FROM workspace_objects WHERE key = ANY($1::text[])"
_EXPIRE = """
    INSERT INTO expiring_files (key, deadline)
    SELECT key, now() + make_interval(secs => ttl) FROM unnest($1::text[], $2::float8[]) AS n (key, ttl)
    ON CONFLICT (key) DO UPDATE SET deadline = excluded.deadline
"""
_KEEP = "DELETE FROM expiring_files WHERE key = ANY($1::text[])"
# Whoever takes them has a minute; what is left by one who was killed is due again after that.
_TAKE_EXPIRED = """
    UPDATE expiring_files SET deadline = now() + interval '60 seconds' WHERE key IN (
        SELECT key FROM expiring_files WHERE deadline <= now() ORDER BY deadline LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING key, deadline
"""
_EXPIRED = """
    DELETE FROM expiring_files e USING unnest($1::text[], $2::timestamptz[]) AS n (key, deadline)
    WHERE e.key = n.key AND e.deadline = n.deadline
"""
_BELOW = """
    DELETE FROM {table} WHERE key IN (
        SELECT key FROM {table} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT 1000
    )
"""
_ENDED = """
    INSERT INTO ended_workspaces (workspace) VALUES ($1)
    ON CONFLICT (workspace) DO UPDATE SET ended_at = now(), next_try_at = now()
"""
_TAKE_ENDED = """
    UPDATE ended_workspaces SET next_try_at = now() + interval '10 minutes' WHERE workspace = (
        SELECT workspace FROM ended_workspaces WHERE next_try_at <= now() ORDER BY next_try_at LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) RETURNING workspace, ended_at
"""
_DONE_ENDED = "DELETE FROM ended_workspaces WHERE workspace = $1 AND ended_at = $2"


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """What was told of an object when it was written, as far as its name and the store do not tell it."""

    store_etag: str
    etag: str
    content_type: str
    metadata: Mapping[str, str]


class ObjectRows:
    """What is known of files of workspaces besides what the store knows, in the database of their workspace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: str) -> ObjectRow | None:
        row = await self._shard(key).fetchrow(_GET, key)
        if row is None:
            return None
        return ObjectRow(row["store_etag"], row["etag"], row["content_type"], load_json(row["metadata"]))

    async def put(self, key: str, row: ObjectRow) -> None:
        metadata = json.dumps(dict(row.metadata))
        await self._shard(key).execute(_PUT, key, row.store_etag, row.etag, row.content_type, metadata)

    async def drop(self, keys: Sequence[str]) -> None:
        """Forget objects of one workspace, and when they were to end."""
        if keys:
            shard = self._shard(keys[0])
            await shard.execute(_DROP, keys)
            await shard.execute(_KEEP, keys)

    async def drop_description(self, key: str) -> None:
        """Forget what was told of an object: it has been written anew."""
        await self._shard(key).execute(_DROP, [key])

    async def drop_below(self, prefix: str) -> None:
        """Forget all objects whose key begins with a prefix that ends with a slash."""
        for table in ("workspace_objects", "expiring_files"):
            while await self._shard(prefix).execute(_BELOW.format(table=table), prefix, f"{prefix[:-1]}0") == 1000:
                pass

    async def expire(self, ttls: Mapping[str, float]) -> None:
        """Note that objects of one workspace, by key, are to be removed in so many seconds; 0: they are to stay."""
        ending = {key: ttl for key, ttl in ttls.items() if ttl > 0}
        if staying := [key for key in ttls if key not in ending]:
            await self._shard(staying[0]).execute(_KEEP, staying)
        if ending:
            await self._shard(next(iter(ending))).execute(_EXPIRE, list(ending), list(ending.values()))

    async def take_expired(self, shard: Shard, limit: int) -> list[tuple[str, datetime]]:
        """Return objects that are to be removed now, for this process alone."""
        return [(row["key"], row["deadline"]) for row in await shard.fetch(_TAKE_EXPIRED, limit)]

    async def expired(self, shard: Shard, taken: Iterable[tuple[str, datetime]]) -> None:
        """Forget objects whose deadlines were met; deadlines that were put off meanwhile stay."""
        keys, deadlines = zip(*taken, strict=True)
        await shard.execute(_DROP, keys)
        await shard.execute(_EXPIRED, keys, deadlines)

    def _shard(self, key: str) -> Shard:
        return self._database.for_workspace(workspace_of(key))


class EndedWorkspaces:
    """Workspaces that were deleted and whose files are still to be removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, workspace: str) -> None:
        await self._database.for_workspace(workspace).execute(_ENDED, workspace)

    async def take(self, shard: Shard) -> tuple[str, datetime] | None:
        """Return one, with the time it ended, for this process alone for some minutes."""
        row = await shard.fetchrow(_TAKE_ENDED)
        return None if row is None else (row["workspace"], row["ended_at"])

    async def done(self, workspace: str, ended_at: datetime) -> None:
        """Forget one whose files are gone, unless it was made and deleted once more."""
        await self._database.for_workspace(workspace).execute(_DONE_ENDED, workspace, ended_at)


def workspace_of(key: str) -> str:
    """Return the workspace that the file at a key of the bucket belongs to."""
    return key.partition("/")[0]
