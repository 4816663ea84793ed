from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hypha_common.db import Shard

__all__ = ["AuditEvent", "AuditRows"]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One stored security event; ``count`` equal ones happened within a second of ``at``."""

    number: int
    at: datetime
    event: str
    user: str
    workspace: str
    address: str
    details: dict[str, Any]
    count: int


class AuditRows:
    """The record of security events: rows of the home database."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def add(self, events: Iterable[dict[str, Any]]) -> None:
        """Store events as :class:`hypha_common.audit.Audit` sends them; one that is stored already is left alone."""
        await self._home.execute(
            """
            INSERT INTO audit_events (key, at, event, user_id, workspace, address, details, count)
            SELECT key, to_timestamp(at), event, "user", workspace, address, details, count
            FROM jsonb_to_recordset($1::jsonb) AS sent(
                key text, at float8, event text, "user" text, workspace text, address text, details jsonb, count integer
            )
            ON CONFLICT (key) DO NOTHING
            """,
            json.dumps(list(events)),
        )

    async def select(
        self,
        *,
        event: str = "",
        user: str = "",
        workspace: str = "",
        since_s: float | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[AuditEvent]:
        """Return the newest ``limit`` events that fit, oldest first; ``after``: only those with a greater number."""
        wanted = {"event": event, "user_id": user, "workspace": workspace}
        conditions: list[str] = ["number > $1"]
        values: list[object] = [after]
        for column, value in wanted.items():
            if value:
                values.append(value)
                conditions.append(f"{column} = ${len(values)}")
        if since_s is not None:
            values.append(since_s)
            conditions.append(f"at > now() - make_interval(secs => ${len(values)})")
        rows = await self._home.fetch(
            f"""
            SELECT number, at, event, user_id, workspace, address, details, count
            FROM audit_events WHERE {" AND ".join(conditions)} ORDER BY number DESC LIMIT {int(limit)}
            """,  # noqa: S608 put together from our own words; what callers name is a parameter
            *values,
        )
        return [_event(row) for row in reversed(rows)]

    async def delete_older(self, seconds: float) -> int:
        return await self._home.execute(
            "DELETE FROM audit_events WHERE at < now() - make_interval(secs => $1)", seconds
        )


def _event(row: Any) -> AuditEvent:
    return AuditEvent(
        number=row["number"],
        at=row["at"],
        event=row["event"],
        user=row["user_id"],
        workspace=row["workspace"],
        address=row["address"],
        details=json.loads(row["details"]),
        count=row["count"],
    )
