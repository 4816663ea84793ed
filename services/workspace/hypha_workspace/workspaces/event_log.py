from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from hypha_common.db import Database, Shard
from hypha_common.errors import NotFound
from hypha_common.wire import pack, unpack

__all__ = ["EventLog", "forget_old"]

MAX_EVENTS = 10_000  # of one answer; the newest ones
_FORGOTTEN_AT_ONCE = 5000  # a pass every 30 s takes what is left

_FILTER = """
    FROM event_log
    WHERE workspace = $1 AND user_id = $2
      AND ($3::text IS NULL OR event_type = $3)
      AND ($4::timestamptz IS NULL OR created_at >= $4)
      AND ($5::timestamptz IS NULL OR created_at <= $5)
"""
_SELECT = f"SELECT id, event_type, created_at, data {_FILTER} ORDER BY id DESC LIMIT {MAX_EVENTS}"
# By number, as they were logged: the index that is there, and no other has to be kept for this.
_FORGET = """
    DELETE FROM event_log WHERE id IN (
        SELECT id FROM (SELECT id, created_at FROM event_log ORDER BY id LIMIT $2) AS oldest
        WHERE created_at < now() - $1::interval
    )
"""
_STATS = f"SELECT event_type, count(*) AS count {_FILTER} GROUP BY event_type ORDER BY event_type"


async def forget_old(shard: Shard, *, retention_s: float) -> int:
    """Remove some of the events that are older than ``retention_s``; return how many."""
    return await shard.execute(_FORGET, timedelta(seconds=retention_s), _FORGOTTEN_AT_ONCE)


class EventLog:
    """What users log with ``log`` and ``log_event``; everybody reads only his own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, workspace: str, user_id: str, event_type: str, data: Any) -> None:
        """Raises NotFound where the workspace is gone."""
        try:
            await self._database.for_workspace(workspace).execute(
                "INSERT INTO event_log (workspace, user_id, event_type, data) VALUES ($1, $2, $3, $4)",
                workspace,
                user_id,
                event_type,
                pack(data),
            )
        except asyncpg.ForeignKeyViolationError:
            raise NotFound(f"Workspace {workspace} does not exist or is not accessible") from None

    async def select(
        self,
        workspace: str,
        user_id: str,
        *,
        event_type: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Return ``{id, event_type, workspace, user_id, timestamp, data}``, oldest first; naive times are UTC."""
        rows = await self._database.for_workspace(workspace).fetch(
            _SELECT, workspace, user_id, event_type, _utc(start_time), _utc(end_time)
        )
        return [
            {
                "id": row["id"],
                "event_type": row["event_type"],
                "workspace": workspace,
                "user_id": user_id,
                "timestamp": row["created_at"].astimezone(UTC).replace(tzinfo=None).isoformat(),
                "data": unpack(row["data"]),
            }
            for row in reversed(rows)
        ]

    async def stats(
        self,
        workspace: str,
        user_id: str,
        *,
        event_type: str | None = None,
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Return ``{event_type, count}`` for each type."""
        rows = await self._database.for_workspace(workspace).fetch(
            _STATS, workspace, user_id, event_type, _utc(start_time), _utc(end_time)
        )
        return [dict(row) for row in rows]


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time
