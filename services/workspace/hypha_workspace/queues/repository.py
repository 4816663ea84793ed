from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg

from hypha_common.db import Database, Shard
from hypha_common.errors import NotFound, PayloadTooLarge, QuotaExceeded, Unavailable
from hypha_common.subjects import partition_of

__all__ = ["Key", "Queues", "Taken", "forget_empty"]

Key = tuple[str, str]  # workspace and name of a queue

MAX_TASKS = 10_000  # in one queue
MAX_QUEUE_BYTES = 64 * 2**20
MAX_QUEUES = 1000  # with something in them, of one workspace
MAX_WORKSPACE_BYTES = 256 * 2**20
MAX_PEEK_BYTES = 16 * 2**20

# The row of the queue is locked before a number is drawn: of two tasks the one that is seen first has the lower one.
_PUSH = """
WITH held AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE length > 0) AS queues, coalesce(sum(bytes), 0) AS bytes
    FROM queues WHERE workspace = $1
), counted AS (
    INSERT INTO queues AS q (workspace, name, length, bytes)
    SELECT $1, $2, 1, octet_length($3::bytea) FROM held
    WHERE bytes + octet_length($3::bytea) <= $7
      AND (queues < $6 OR EXISTS (SELECT FROM queues WHERE workspace = $1 AND name = $2 AND length > 0))
    ON CONFLICT (workspace, name) DO UPDATE SET length = q.length + 1, bytes = q.bytes + excluded.bytes
        WHERE q.length < $4 AND q.bytes + excluded.bytes <= $5
    RETURNING q.length
), stored AS (
    INSERT INTO queue_tasks (workspace, queue, task) SELECT $1, $2, $3 FROM counted
)
SELECT EXISTS (SELECT FROM counted) AS stored, h.queues, h.bytes + octet_length($3::bytea) > $7 AS workspace_full,
    coalesce(q.length, 0) AS length, coalesce(q.bytes, 0) + octet_length($3::bytea) > $5 AS queue_full
FROM held h LEFT JOIN queues q ON q.workspace = $1 AND q.name = $2
"""
# Fenced by the connection that asks, where it is one ($4 not null).
_TAKE = """
WITH taken AS (
    DELETE FROM queue_tasks WHERE workspace = $1 AND queue = $2 AND id = (
        SELECT id FROM queue_tasks WHERE workspace = $1 AND queue = $2
          AND ($4::bigint IS NULL OR EXISTS (
              SELECT FROM clients WHERE workspace = $1 AND client_id = $3 AND generation = $4
          ))
        ORDER BY id LIMIT 1 FOR UPDATE OF queue_tasks SKIP LOCKED
    )
    RETURNING id, task
), counted AS (
    UPDATE queues q SET length = q.length - 1, bytes = q.bytes - octet_length(t.task) FROM taken t
    WHERE q.workspace = $1 AND q.name = $2
)
SELECT t.id, t.task, $4::bigint IS NULL OR EXISTS (
    SELECT FROM clients WHERE workspace = $1 AND client_id = $3 AND generation = $4
) AS there
FROM (SELECT) AS one LEFT JOIN taken t ON true
"""
_PUT_BACK = """
WITH counted AS (
    INSERT INTO queues AS q (workspace, name, length, bytes) VALUES ($1, $2, 1, octet_length($4::bytea))
    ON CONFLICT (workspace, name) DO UPDATE SET length = q.length + 1, bytes = q.bytes + excluded.bytes
    RETURNING q.length
)
INSERT INTO queue_tasks (id, workspace, queue, task) OVERRIDING SYSTEM VALUE SELECT $3, $1, $2, $4 FROM counted
"""
_PEEK = """
    SELECT task, sum(octet_length(task)) OVER (ORDER BY id) AS total
    FROM queue_tasks WHERE workspace = $1 AND queue = $2 ORDER BY id LIMIT $3
"""
_FILLED = """
    SELECT q.workspace, q.name FROM unnest($1::text[], $2::text[]) AS w (workspace, name)
    JOIN queues q ON q.workspace = w.workspace AND q.name = w.name WHERE q.length > 0
"""
_FORGET_EMPTY = """
    DELETE FROM queues WHERE (workspace, name) IN (
        SELECT workspace, name FROM queues WHERE length = 0 LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that was removed from its queue; ``id`` is its place there."""

    id: int
    task: bytes  # msgpack


class Queues:
    """Task queues, in the database of their workspace; they end with it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def push(self, workspace: str, name: str, task: bytes) -> None:
        """Append a task. Raises QuotaExceeded where there is no room, NotFound where the workspace is gone."""
        try:
            row = await self._database.for_workspace(workspace).fetchrow(
                _PUSH, workspace, name, task, MAX_TASKS, MAX_QUEUE_BYTES, MAX_QUEUES, MAX_WORKSPACE_BYTES
            )
        except asyncpg.ForeignKeyViolationError:
            raise NotFound(f"Workspace {workspace} does not exist or is not accessible") from None
        assert row is not None  # `held` always has one
        if row["stored"]:
            return
        if row["length"] >= MAX_TASKS:
            raise QuotaExceeded(f"Queue {name} is full: it holds {row['length']}/{MAX_TASKS} tasks")
        if row["queue_full"]:
            raise QuotaExceeded(f"Queue {name} is full: it may hold {MAX_QUEUE_BYTES} bytes")
        if row["workspace_full"]:
            raise QuotaExceeded(
                f"The queues of workspace {workspace} are full: they may hold {MAX_WORKSPACE_BYTES} bytes"
            )
        raise QuotaExceeded(f"Workspace {workspace} has {row['queues']}/{MAX_QUEUES} queues")

    async def take(
        self, workspace: str, name: str, *, client_id: str = "", generation: int | None = None
    ) -> Taken | None:
        """
        Remove the oldest task that nobody else is taking; with ``generation`` only while that connection lasts.

        Raises Unavailable where the registry does not know that connection, as for seconds after a crash of PostgreSQL.

        """
        row = await self._database.for_workspace(workspace).fetchrow(_TAKE, workspace, name, client_id, generation)
        assert row is not None  # `one` is one
        if not row["there"]:
            raise Unavailable("This connection is not in the registry, please retry")
        return None if row["id"] is None else Taken(row["id"], row["task"])

    async def put_back(self, workspace: str, name: str, taken: Taken) -> None:
        """
        Undo :meth:`take`; nothing where the workspace is gone, or this was done and the answer did not arrive.

        The task may have been taken in another database, where its partition was at that time.

        """
        try:
            await self._database.for_workspace(workspace).execute(_PUT_BACK, workspace, name, taken.id, taken.task)
        except (asyncpg.ForeignKeyViolationError, asyncpg.UniqueViolationError):
            return

    async def length(self, workspace: str, name: str) -> int:
        query = "SELECT length FROM queues WHERE workspace = $1 AND name = $2"
        return await self._database.for_workspace(workspace).fetchval(query, workspace, name) or 0

    async def lengths(self, workspace: str) -> list[tuple[str, int]]:
        """Return the name and length of each queue of a workspace that holds something."""
        query = "SELECT name, length FROM queues WHERE workspace = $1 AND length > 0 ORDER BY name"
        rows = await self._database.for_workspace(workspace).fetch(query, workspace)
        return [(row["name"], row["length"]) for row in rows]

    async def peek(self, workspace: str, name: str, n: int) -> list[bytes]:
        """Return the ``n`` oldest tasks. Raises PayloadTooLarge where they are too much for one answer."""
        rows = await self._database.for_workspace(workspace).fetch(_PEEK, workspace, name, n)
        if rows and rows[-1]["total"] > MAX_PEEK_BYTES:
            raise PayloadTooLarge(f"The tasks are larger than {MAX_PEEK_BYTES} bytes together; ask for fewer")
        return [row["task"] for row in rows]

    async def filled(self, keys: Iterable[Key]) -> list[Key]:
        """Return which of these queues hold something; those whose database is away are left out."""
        by_shard: dict[Shard, list[Key]] = {}
        for key in keys:
            by_shard.setdefault(self._database.whole(partition_of(key[0])), []).append(key)
        found: list[Key] = []
        for shard, wanted in by_shard.items():
            rows = await self._database.gather_there(
                [shard], _FILLED, [key[0] for key in wanted], [key[1] for key in wanted]
            )
            found += [(row["workspace"], row["name"]) for row in rows]
        return found


async def forget_empty(shard: Shard) -> int:
    """Remove the counters of queues that hold nothing; return how many."""
    return await shard.execute(_FORGET_EMPTY)
