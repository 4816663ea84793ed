from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypha_common.errors import QuotaExceeded
from hypha_common.wire import pack

from .session import Session, Status

if TYPE_CHECKING:
    from hypha_common.db import Database, Shard
    from hypha_common.ids import Address

__all__ = ["REPLICA_LIFE_S", "Sessions"]

REPLICA_LIFE_S = 5.0
_KEPT_S = 300.0  # that one can read why a session ended

# At most one exclusive session of an app starts or runs: the index decides, whoever asks at the same time.
_CLAIM = """
    INSERT INTO app_sessions (
        workspace, client_id, app_id, stage, status, exclusive, owner, starter, token_id, wait_for, deadline, record,
        daemon, worker_managed, autoscaled, stop_after_inactive
    )
    SELECT $1, $2, $3, $4, 'starting', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
    WHERE (SELECT count(*) FROM app_sessions
           WHERE workspace = $1 AND status IN ('starting', 'running', 'stopping')) < $16
    ON CONFLICT (workspace, app_id, stage) WHERE exclusive AND status IN ('starting', 'running') DO NOTHING
    RETURNING *
"""
_EXCLUSIVE = """
    SELECT * FROM app_sessions
    WHERE workspace = $1 AND app_id = $2 AND stage = $3 AND exclusive AND status IN ('starting', 'running')
"""
_ASSIGN = """
    UPDATE app_sessions SET worker_id = $4, worker = $5, token_id = $6
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status = 'starting' RETURNING *
"""
_RUN = """
    UPDATE app_sessions SET status = 'running', record = $4, last_active = now()
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status = 'starting' RETURNING *
"""
_RECORD = "UPDATE app_sessions SET record = $4 WHERE workspace = $1 AND client_id = $2 AND epoch = $3"
_TAKE_TO_STOP = """
    UPDATE app_sessions SET status = 'stopping', owner = $3, epoch = epoch + 1, reason = $4
    WHERE workspace = $1 AND client_id = $2 AND status IN ('starting', 'running') RETURNING *
"""
_RUN_ON = """
    UPDATE app_sessions SET status = 'running', reason = ''
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status = 'stopping'
"""
_END = """
    UPDATE app_sessions SET status = $4, reason = $5, ended_at = now()
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status IN ('starting', 'running', 'stopping')
    RETURNING *
"""
_ADOPT = """
    UPDATE app_sessions s SET owner = $1, epoch = epoch + 1
    WHERE status IN ('starting', 'stopping') AND NOT EXISTS (
        SELECT FROM app_replicas r WHERE r.instance = s.owner AND r.expires_at > now()
    )
    RETURNING *
"""
_RENEW = """
    INSERT INTO app_replicas (instance, expires_at) VALUES ($1, now() + $2)
    ON CONFLICT (instance) DO UPDATE SET expires_at = excluded.expires_at
"""
_FORGET = "DELETE FROM app_sessions WHERE status IN ('stopped', 'failed') AND ended_at < now() - $1::interval"
_FORGET_REPLICAS = "DELETE FROM app_replicas WHERE expires_at < now() - interval '1 hour'"


class Sessions:
    """
    The sessions of apps, in the database of their workspace: SQL, without permission checks.

    Whatever changes one names the epoch it believes in, so that a replica that was held up changes nothing of what
    another one took over.

    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, session: Mapping[str, Any], *, owner: str, starter: Mapping[str, Any], limit: int
    ) -> tuple[Session, bool]:
        """
        Store a session that starts, and True; or return the one that stands in its way, and False.

        ``limit`` is how many may live in the workspace. Raises QuotaExceeded.

        """
        shard = self._of(session["workspace"])
        place = (session["workspace"], session["app_id"], session["stage"])
        while True:
            row = await shard.fetchrow(
                _CLAIM, session["workspace"], session["client_id"], session["app_id"], session["stage"],
                session["exclusive"], owner, pack(starter), session["token_id"], session["wait_for"],
                session["deadline"], pack(session["record"]), session["daemon"], session["worker_managed"],
                session["autoscaled"], session["stop_after_inactive"], limit,
            )  # fmt: skip
            if row is not None:
                return Session.of(row), True
            if (row := await shard.fetchrow(_EXCLUSIVE, *place)) is not None:
                return Session.of(row), False
            if len(await self.in_workspace(session["workspace"])) >= limit:
                raise QuotaExceeded(f"Workspace {session['workspace']} runs {limit} apps already")
            # The one in the way ended between the two questions.

    async def get(self, workspace: str, client_id: str) -> Session | None:
        row = await self._of(workspace).fetchrow(
            "SELECT * FROM app_sessions WHERE workspace = $1 AND client_id = $2", workspace, client_id
        )
        return None if row is None else Session.of(row)

    async def of_app(self, workspace: str, app_id: str) -> list[Session]:
        """Return those that start or run, oldest first; drafts' included."""
        rows = await self._of(workspace).fetch(
            "SELECT * FROM app_sessions WHERE workspace = $1 AND app_id = $2 AND status IN ('starting', 'running')"
            " ORDER BY started_at",
            workspace, app_id,
        )  # fmt: skip
        return [Session.of(row) for row in rows]

    async def in_workspace(self, workspace: str) -> list[Session]:
        """Return those that start, run or stop, oldest first."""
        rows = await self._of(workspace).fetch(
            "SELECT * FROM app_sessions WHERE workspace = $1 AND status IN ('starting', 'running', 'stopping')"
            " ORDER BY started_at",
            workspace,
        )
        return [Session.of(row) for row in rows]

    async def of_worker(self, worker: Address) -> list[Session]:
        """Return those that a worker's client runs, whatever their workspace."""
        rows = [
            row
            for shard in self._database.all()
            for row in await shard.fetch(
                "SELECT * FROM app_sessions WHERE worker = $1 AND status IN ('starting', 'running')", str(worker)
            )
        ]
        return [Session.of(row) for row in rows]

    async def assign(self, session: Session, worker_id: str, worker: Address, token_id: str) -> Session | None:
        """Note who will run it, before they are asked. None: somebody else has the session now."""
        return await self._change(_ASSIGN, session, worker_id, str(worker), token_id)

    async def run(self, session: Session, record: Mapping[str, Any]) -> Session | None:
        """Note that it runs. None: somebody else has the session now."""
        return await self._change(_RUN, session, pack(record))

    async def write_record(self, session: Session, record: Mapping[str, Any]) -> None:
        """Change what clients are told of it."""
        await self._of(session.workspace).execute(
            _RECORD, session.workspace, session.client_id, session.epoch, pack(record)
        )

    async def take_to_stop(self, workspace: str, client_id: str, *, owner: str, reason: str) -> Session | None:
        """Begin to stop one that starts or runs. None: there is none, or somebody else stops it."""
        row = await self._of(workspace).fetchrow(_TAKE_TO_STOP, workspace, client_id, owner, reason)
        return None if row is None else Session.of(row)

    async def run_on(self, session: Session) -> None:
        """Take back :meth:`take_to_stop`: its worker would not."""
        await self._of(session.workspace).execute(_RUN_ON, session.workspace, session.client_id, session.epoch)

    async def end(self, session: Session, status: Status, reason: str) -> Session | None:
        """Note that it ended. None: somebody else has the session now."""
        return await self._change(_END, session, str(status), reason)

    async def adopt(self, shard: Shard, owner: str) -> list[Session]:
        """Take over what replicas that have died were starting or stopping."""
        return [Session.of(row) for row in await shard.fetch(_ADOPT, owner)]

    async def renew(self, shard: Shard, instance: str) -> None:
        """Say that this replica lives."""
        await shard.execute(_RENEW, instance, timedelta(seconds=REPLICA_LIFE_S))

    async def forget(self, shard: Shard) -> None:
        """Remove what ended some minutes ago."""
        await shard.execute(_FORGET, timedelta(seconds=_KEPT_S))
        await shard.execute(_FORGET_REPLICAS)

    async def _change(self, statement: str, session: Session, *values: str | bytes | datetime) -> Session | None:
        row = await self._of(session.workspace).fetchrow(
            statement, session.workspace, session.client_id, session.epoch, *values
        )
        return None if row is None else Session.of(row)

    def _of(self, workspace: str) -> Shard:
        return self._database.for_workspace(workspace)
