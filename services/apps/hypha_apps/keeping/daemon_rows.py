from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import HyphaError

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_common.db import Database, Shard

__all__ = ["NO_WORKER_S", "STEADY_S", "Daemon", "DaemonRows"]

log = structlog.get_logger(__name__)

STEADY_S = 60.0  # one that ran for so long has not failed to start
NO_WORKER_S = 30.0  # events can be lost: look for a worker at least this often
_MAX_PAUSE_S = 300
_GUARD_S = 10.0  # until an attempt is a row of `app_sessions`, nobody else makes another one

_WITHOUT_INSTANCE = """
    NOT EXISTS (
        SELECT FROM app_sessions s WHERE s.workspace = d.workspace AND s.app_id = d.app_id AND NOT s.stage
        AND s.status IN ('starting', 'running', 'stopping')
    )
"""
_DUE = f"NOT d.held AND d.next_try_at <= now() AND {_WITHOUT_INSTANCE}"
_ANY_DUE = f"SELECT EXISTS (SELECT FROM app_daemons d WHERE {_DUE})"  # noqa: S608 constants of ours
_CLAIM = f"""
    WITH due AS (
        SELECT d.workspace, d.app_id FROM app_daemons d WHERE {_DUE}
        ORDER BY d.next_try_at LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    UPDATE app_daemons d SET next_try_at = now() + $2::interval FROM due
    WHERE d.workspace = due.workspace AND d.app_id = due.app_id RETURNING d.*
"""  # noqa: S608
# 1 s, 2 s, 4 s … whether or not it started: one that starts and ends at once must not do so for ever.
_TRIED = """
    UPDATE app_daemons SET tries = tries + 1, no_worker = false,
        next_try_at = now() + make_interval(secs => least($3::float8, 2 ^ least(tries, 20)))
    WHERE workspace = $1 AND app_id = $2
"""
_WITHOUT_WORKER = """
    UPDATE app_daemons d SET no_worker = true, next_try_at = now() + $3::interval
    FROM (SELECT no_worker FROM app_daemons WHERE workspace = $1 AND app_id = $2) before
    WHERE d.workspace = $1 AND d.app_id = $2 RETURNING before.no_worker
"""
_WORKER_CAME = """
    UPDATE app_daemons SET next_try_at = now() WHERE no_worker AND ($1::text IS NULL OR workspace = $1)
"""
_STEADY = """
    UPDATE app_daemons d SET tries = 0, next_try_at = now() WHERE tries > 0 AND EXISTS (
        SELECT FROM app_sessions s WHERE s.workspace = d.workspace AND s.app_id = d.app_id AND NOT s.stage
        AND s.status = 'running' AND s.started_at <= now() - $1::interval
    )
"""
_HOLD = """
    UPDATE app_daemons d SET held = true FROM app_sessions s
    WHERE s.workspace = $1 AND s.client_id = $2 AND NOT s.stage AND d.workspace = $1 AND d.app_id = s.app_id
    AND NOT EXISTS (
        SELECT FROM app_sessions o WHERE o.workspace = $1 AND o.app_id = s.app_id AND NOT o.stage
        AND o.client_id <> $2 AND o.status IN ('starting', 'running')
    )
"""
_RELEASE = """
    UPDATE app_daemons SET held = false, tries = 0, next_try_at = now()
    WHERE workspace = $1 AND app_id = $2 AND held
"""
_BEGIN_ANEW = """
    UPDATE app_daemons SET held = false, tries = 0, no_worker = false, next_try_at = now()
    WHERE NOT EXISTS (SELECT FROM app_replicas WHERE instance <> $1 AND expires_at > now())
"""
_ALL = f"""
    SELECT d.*, CASE WHEN {_WITHOUT_INSTANCE} THEN 0 ELSE 1 END AS instances FROM app_daemons d
    WHERE $1::text IS NULL OR d.workspace = $1 ORDER BY d.workspace, d.app_id
"""  # noqa: S608
_WAITING = f"SELECT count(*) FROM app_daemons d WHERE NOT d.held AND {_WITHOUT_INSTANCE}"  # noqa: S608
_DROP = "DELETE FROM app_daemons WHERE workspace = $1 AND app_id = $2"


@dataclass(frozen=True, slots=True)
class Daemon:
    """An app that is to run always."""

    workspace: str
    app_id: str
    tries: int  # starts since it last ran for a minute

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Daemon:
        return cls(row["workspace"], row["app_id"], row["tries"])


class DaemonRows:
    """Which apps are to run always, and when it was tried to have them run: SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def some_due(self, shard: Shard) -> bool:
        """Tell whether one has to be started now."""
        return bool(await shard.fetchval(_ANY_DUE))

    async def claim(self, connection: PoolConnectionProxy[Record], limit: int) -> list[Daemon]:
        """Return those that have to be started now; for some seconds nobody else is given them."""
        return [Daemon.of(row) for row in await connection.fetch(_CLAIM, limit, timedelta(seconds=_GUARD_S))]

    async def tried(self, daemon: Daemon) -> None:
        """Count a start: the next one waits for longer and longer, up to 5 min."""
        await self._of(daemon).execute(_TRIED, daemon.workspace, daemon.app_id, float(_MAX_PAUSE_S))

    async def without_worker(self, daemon: Daemon) -> bool:
        """Note that nobody can run it; returns whether that is new."""
        known = await self._of(daemon).fetchval(
            _WITHOUT_WORKER, daemon.workspace, daemon.app_id, timedelta(seconds=NO_WORKER_S)
        )
        return known is False

    async def worker_came(self, workspace: str | None) -> None:
        """Try at once what waits for a worker; None: in any workspace."""
        shards = self._database.mine() if workspace is None else [self._database.for_workspace(workspace)]
        for shard in shards:
            await shard.execute(_WORKER_CAME, workspace)

    async def count_steady(self, shard: Shard) -> None:
        """Forget the tries of those that have been running for a minute."""
        await shard.execute(_STEADY, timedelta(seconds=STEADY_S))

    async def hold(self, workspace: str, client_id: str) -> None:
        """Leave an app alone because somebody stops this instance of it, unless another one runs."""
        await self._database.for_workspace(workspace).execute(_HOLD, workspace, client_id)

    async def release(self, workspace: str, app_id: str) -> None:
        """Keep an app running again because somebody started it."""
        await self._database.for_workspace(workspace).execute(_RELEASE, workspace, app_id)

    async def begin_anew(self, instance: str) -> None:
        """Where no other replica lives, this is a new beginning: whatever was stopped before is to run again."""
        for shard in self._database.mine():
            try:
                await shard.execute(_BEGIN_ANEW, instance)
            except HyphaError as error:  # its daemons go on as they were left
                log.warning("daemons_not_begun_anew", database=shard.name, error=str(error))

    async def drop(self, daemon: Daemon) -> None:
        """Forget one that is no daemon any more."""
        await self._of(daemon).execute(_DROP, daemon.workspace, daemon.app_id)

    async def all(self, workspace: str | None = None) -> list[Record]:
        """Return the rows, with ``instances``: 0 or 1 for some."""
        shards = self._database.all() if workspace is None else [self._database.for_workspace(workspace)]
        return await self._database.gather(shards, _ALL, workspace)

    async def waiting(self) -> int:
        """Return how many should run and do not."""
        return sum([await shard.fetchval(_WAITING) for shard in self._database.mine()])

    def _of(self, daemon: Daemon) -> Shard:
        return self._database.for_workspace(daemon.workspace)
