from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypha_apps.session import Session
from hypha_common.principal import Principal
from hypha_common.wire import unpack

from .scaling import Action, Situation

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_common.db import Database, Shard

__all__ = ["ScaledApp", "ScalingRows"]

_FRESH_S = 30.0  # a load that was told longer ago says nothing
_STEADY_S = 60.0
_FIRST_PAUSE_S = 10.0
_MAX_PAUSE_S = 300.0

_APPS = """
    SELECT *, next_try_at <= now() AS due,
        extract(epoch FROM now() - scaled_up_at)::float8 AS since_up_s,
        extract(epoch FROM now() - scaled_down_at)::float8 AS since_down_s
    FROM app_autoscaling ORDER BY workspace, app_id
"""
_INSTANCES = """
    SELECT s.workspace, s.app_id, s.client_id, s.status,
        CASE WHEN s.reported_at > now() - $1::interval THEN s.load END AS load
    FROM app_autoscaling a JOIN app_sessions s ON s.workspace = a.workspace AND s.app_id = a.app_id
    WHERE NOT s.stage AND s.status IN ('starting', 'running', 'stopping')
    ORDER BY s.started_at
"""
# From now on what is lost comes back; or not any more, because the last one was not lost but stopped.
_ENGAGE = """
    UPDATE app_autoscaling a SET engaged = true WHERE NOT engaged AND EXISTS (
        SELECT FROM app_sessions s WHERE s.workspace = a.workspace AND s.app_id = a.app_id AND NOT s.stage
        AND s.status = 'running'
    )
"""
_DISENGAGE = """
    UPDATE app_autoscaling a SET engaged = false WHERE engaged AND NOT EXISTS (
        SELECT FROM app_sessions s WHERE s.workspace = a.workspace AND s.app_id = a.app_id AND NOT s.stage
        AND s.status IN ('starting', 'running')
    ) AND (
        SELECT s.reason LIKE 'stopped %' OR s.reason LIKE 'inactive %' FROM app_sessions s
        WHERE s.workspace = a.workspace AND s.app_id = a.app_id AND NOT s.stage
        ORDER BY coalesce(s.ended_at, now()) DESC LIMIT 1
    )
"""
_STEADY = """
    UPDATE app_autoscaling a SET tries = 0, next_try_at = now() WHERE tries > 0 AND (
        SELECT max(coalesce(s.ended_at, s.started_at)) <= now() - $1::interval AND bool_or(s.status = 'running')
        FROM app_sessions s WHERE s.workspace = a.workspace AND s.app_id = a.app_id AND NOT s.stage
    )
"""
# Only while what it was decided by is still so: of two who decide the same, one does it.
_CLAIM_START = """
    UPDATE app_autoscaling a SET tries = tries + 1,
        scaled_up_at = CASE WHEN $5 THEN now() ELSE scaled_up_at END,
        next_try_at = now() + make_interval(secs => least($6::float8, $7 * 2 ^ least(tries, 20)))
    WHERE workspace = $1 AND app_id = $2 AND next_try_at <= now()
    AND scaled_up_at IS NOT DISTINCT FROM $3 AND scaled_down_at IS NOT DISTINCT FROM $4
    AND (
        SELECT count(*) FROM app_sessions s WHERE s.workspace = $1 AND s.app_id = $2 AND NOT s.stage
        AND s.status IN ('starting', 'running', 'stopping')
    ) < $8
    RETURNING true
"""
_CLAIM_STOP = """
    WITH taken AS (
        UPDATE app_sessions s SET status = 'stopping', owner = $6, epoch = epoch + 1, reason = 'scaled down',
            deadline = now() + interval '30 s'
        WHERE s.workspace = $1 AND s.client_id = $5 AND s.status = 'running' AND EXISTS (
            SELECT FROM app_autoscaling WHERE workspace = $1 AND app_id = $2
            AND scaled_up_at IS NOT DISTINCT FROM $3 AND scaled_down_at IS NOT DISTINCT FROM $4
        ) AND (
            SELECT count(*) FROM app_sessions o WHERE o.workspace = $1 AND o.app_id = $2 AND NOT o.stage
            AND o.status = 'running'
        ) > $7
        RETURNING s.*
    ), noted AS (
        UPDATE app_autoscaling SET scaled_down_at = now()
        WHERE workspace = $1 AND app_id = $2 AND EXISTS (SELECT FROM taken)
    )
    SELECT * FROM taken
"""
_STARTED = "UPDATE app_autoscaling SET tries = 0, next_try_at = now() WHERE workspace = $1 AND app_id = $2"
_NOT_STARTED = "UPDATE app_autoscaling SET scaled_up_at = $3 WHERE workspace = $1 AND app_id = $2"
_DROP = "DELETE FROM app_autoscaling WHERE workspace = $1 AND app_id = $2"


@dataclass(slots=True)
class ScaledApp:
    """An app that scales, and its instances as they are at one time."""

    row: Mapping[str, Any]
    running: dict[str, float | None] = field(default_factory=dict)  # load by client id, oldest first
    changing: int = 0

    @property
    def workspace(self) -> str:
        return str(self.row["workspace"])

    @property
    def app_id(self) -> str:
        return str(self.row["app_id"])

    @property
    def due(self) -> bool:
        """Whether enough time has passed since one was last started."""
        return bool(self.row["due"])

    @property
    def config(self) -> Mapping[str, Any]:
        """The manifest's ``autoscaling``, unchecked."""
        config = unpack(self.row["config"])
        return config if isinstance(config, Mapping) else {}

    @property
    def starter(self) -> Principal:
        return Principal.load(unpack(self.row["starter"]))

    @property
    def situation(self) -> Situation:
        since_up_s, since_down_s = self.row["since_up_s"], self.row["since_down_s"]
        return Situation(
            tuple(self.running.values()),
            self.changing,
            bool(self.row["engaged"]),
            math.inf if since_up_s is None else since_up_s,
            math.inf if since_down_s is None else since_down_s,
        )

    def idlest(self) -> str:
        """Return the instance with the least load; of several the newest."""
        return min(reversed(self.running), key=lambda client: self.running[client] or 0.0)


class ScalingRows:
    """Which apps scale, and when they were scaled: SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, shard: Shard) -> list[ScaledApp]:
        """Return the apps of a database that scale, with their instances; note which have been started or stopped."""
        for statement in (_ENGAGE, _DISENGAGE):
            await shard.execute(statement)
        await shard.execute(_STEADY, timedelta(seconds=_STEADY_S))
        apps = {(row["workspace"], row["app_id"]): ScaledApp(row) for row in await shard.fetch(_APPS)}
        for row in await shard.fetch(_INSTANCES, timedelta(seconds=_FRESH_S)):
            app = apps.get((row["workspace"], row["app_id"]))
            if app is None:
                continue
            if row["status"] == "running":
                app.running[row["client_id"]] = row["load"]
            else:
                app.changing += 1
        return list(apps.values())

    async def claim_start(
        self, connection: PoolConnectionProxy[Record], app: ScaledApp, action: Action, *, below: int
    ) -> bool:
        """Tell whether we may start one now; only while there are fewer than ``below``."""
        claimed = await connection.fetchval(
            _CLAIM_START, *_place(app), action is Action.UP, _MAX_PAUSE_S, _FIRST_PAUSE_S, below
        )
        return bool(claimed)

    async def claim_stop(
        self, connection: PoolConnectionProxy[Record], app: ScaledApp, *, owner: str, above: int
    ) -> Session | None:
        """Begin to stop the one with the least load, while more than ``above`` run; None: not now."""
        row = await connection.fetchrow(_CLAIM_STOP, *_place(app), app.idlest(), owner, above)
        return None if row is None else Session.of(row)

    async def started(self, app: ScaledApp) -> None:
        """What was started because of the load is no replacement that may have to be replaced again and again."""
        await self._of(app).execute(_STARTED, app.workspace, app.app_id)

    async def not_started(self, app: ScaledApp) -> None:
        """Take the cooldown back; the next attempt still waits for longer."""
        await self._of(app).execute(_NOT_STARTED, app.workspace, app.app_id, app.row["scaled_up_at"])

    async def drop(self, app: ScaledApp) -> None:
        """Forget one that does not scale any more."""
        await self._of(app).execute(_DROP, app.workspace, app.app_id)

    def _of(self, app: ScaledApp) -> Shard:
        return self._database.for_workspace(app.workspace)


def _place(app: ScaledApp) -> Sequence[Any]:
    return app.workspace, app.app_id, app.row["scaled_up_at"], app.row["scaled_down_at"]
