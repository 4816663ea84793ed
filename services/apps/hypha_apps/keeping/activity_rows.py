from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_apps.session import Session

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_common.db import Shard

__all__ = ["Report", "silent", "some_idle", "store", "take_idle"]

# The latest time wins, whatever the order of reports: one gateway's old news makes nothing older or younger.
_STORE = """
    UPDATE app_sessions s
    SET last_active = greatest(s.last_active, now() - make_interval(secs => r.idle)),
        load = r.load, reported_at = now()
    FROM unnest($1::text[], $2::text[], $3::float8[], $4::float8[]) AS r (workspace, client_id, idle, load)
    WHERE s.workspace = r.workspace AND s.client_id = r.client_id AND s.status IN ('starting', 'running', 'stopping')
"""
_OVERDUE = """
    s.status = 'running' AND s.stop_after_inactive > 0
    AND extract(epoch FROM now() - s.last_active) >= s.stop_after_inactive
"""
_SEEN_IDLE = "coalesce(extract(epoch FROM s.reported_at - s.last_active) >= s.stop_after_inactive, false)"
_SOME_IDLE = f"SELECT EXISTS (SELECT FROM app_sessions s WHERE {_OVERDUE})"  # noqa: S608 constants of ours
# Nobody has told of these for so long that their time is up by the clock only.
_SILENT = f"""
    SELECT workspace, client_id FROM app_sessions s WHERE {_OVERDUE} AND NOT {_SEEN_IDLE}
    ORDER BY s.last_active LIMIT $1
"""  # noqa: S608
# An instance of an app that scales is not stopped while another one of the app is in use: autoscaling does that.
_TAKE_IDLE = f"""
    WITH idle AS (
        SELECT s.workspace, s.client_id, s.app_id, s.autoscaled FROM app_sessions s
        LEFT JOIN unnest($2::text[], $3::text[]) AS g (workspace, client_id) USING (workspace, client_id)
        WHERE {_OVERDUE} AND ({_SEEN_IDLE} OR g.client_id IS NOT NULL)
        ORDER BY s.last_active LIMIT $4 FOR UPDATE OF s SKIP LOCKED
    )
    UPDATE app_sessions s
    SET status = 'stopping', owner = $1, epoch = s.epoch + 1, deadline = now() + interval '30 s',
        reason = 'inactive for ' || trim_scale(s.stop_after_inactive::numeric) || ' s'
    FROM idle i
    WHERE s.workspace = i.workspace AND s.client_id = i.client_id AND (
        NOT i.autoscaled OR NOT EXISTS (
            SELECT FROM app_sessions o
            WHERE o.workspace = i.workspace AND o.app_id = i.app_id AND o.status IN ('starting', 'running')
              AND NOT EXISTS (SELECT FROM idle j WHERE j.workspace = o.workspace AND j.client_id = o.client_id)
        )
    )
    RETURNING s.*
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Report:
    """What a gateway tells of an instance of an app."""

    workspace: str
    client_id: str
    idle_s: float  # since it last sent something that was not a ping
    load: float  # messages a minute


async def store(shard: Shard, reports: Sequence[Report]) -> int:
    """Note what gateways tell; returns how many of these instances there are."""
    return await shard.execute(
        _STORE,
        [report.workspace for report in reports],
        [report.client_id for report in reports],
        [report.idle_s for report in reports],
        [report.load for report in reports],
    )


async def some_idle(shard: Shard) -> bool:
    """Tell whether an app may have been unused for longer than it is to run so."""
    return bool(await shard.fetchval(_SOME_IDLE))


async def silent(shard: Shard, limit: int) -> list[tuple[str, str]]:
    """Return (workspace, client) of those that are idle only because nobody tells of them."""
    return [(row["workspace"], row["client_id"]) for row in await shard.fetch(_SILENT, limit)]


async def take_idle(
    connection: PoolConnectionProxy[Record], *, owner: str, gone: Sequence[tuple[str, str]], limit: int
) -> list[Session]:
    """
    Begin to stop what nobody uses: those that a gateway says are idle, and those of ``gone``, which are not connected.

    One statement looks and takes: what was used a moment before stays.

    """
    workspaces, clients = [workspace for workspace, _ in gone], [client for _, client in gone]
    rows = await connection.fetch(_TAKE_IDLE, owner, workspaces, clients, limit)
    return [Session.of(row) for row in rows]
