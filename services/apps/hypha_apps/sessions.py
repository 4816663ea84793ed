from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypha_common.errors import HyphaError, QuotaExceeded
from hypha_common.wire import pack

from .session import Session

if TYPE_CHECKING:
    from hypha_common.db import Database, Shard
    from hypha_common.ids import Address

__all__ = ["STOP_TIME_S", "Sessions"]

STOP_TIME_S = 30.0  # one that takes longer to end is ended by another replica

# Claims of a workspace are made one after another: each counts what the others have added.
_ONE_AFTER_ANOTHER = "SELECT pg_advisory_xact_lock(hashtext('app_sessions'), hashtext($1))"
# Of an exclusive one only one starts or runs: the index decides, whoever asks at the same time. $17 is the version
# that has to run, null where any will do.
_CLAIM = """
    INSERT INTO app_sessions (
        workspace, client_id, app_id, stage, status, exclusive, variant, owner, starter, wait_for, deadline, record,
        daemon, worker_managed, autoscaled, stop_after_inactive
    )
    SELECT $1, $2, $3, $4, 'starting', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
    WHERE (SELECT count(*) FROM app_sessions
           WHERE workspace = $1 AND status IN ('starting', 'running', 'stopping')) < $16
    AND NOT ($5 AND EXISTS (
        SELECT FROM app_sessions
        WHERE workspace = $1 AND app_id = $3 AND stage = $4 AND status IN ('starting', 'running')
        AND ($17::text IS NULL OR variant = $17)
    ))
    ON CONFLICT (workspace, app_id, stage, variant) WHERE exclusive AND status IN ('starting', 'running') DO NOTHING
    RETURNING *
"""
_IN_THE_WAY = """
    SELECT * FROM app_sessions
    WHERE workspace = $1 AND app_id = $2 AND stage = $3 AND status IN ('starting', 'running')
    AND ($4::text IS NULL OR variant = $4)
    ORDER BY status = 'running' DESC, started_at LIMIT 1
"""
_FAILED = """
    SELECT * FROM app_sessions
    WHERE workspace = $1 AND app_id = $2 AND NOT stage AND failure IS NOT NULL
    AND (status = 'stopping' OR ended_at > now() - $3::interval)
    ORDER BY started_at DESC LIMIT 1
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
    UPDATE app_sessions SET status = 'stopping', owner = $3, epoch = epoch + 1, reason = $4, deadline = now() + $5
    WHERE workspace = $1 AND client_id = $2 AND status IN ('starting', 'running') RETURNING *
"""
_TAKE_TO_FAIL = """
    UPDATE app_sessions SET status = 'stopping', reason = $4, failure = $5, deadline = now() + $6
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status = 'starting' RETURNING *
"""
_RUN_ON = """
    UPDATE app_sessions SET status = 'running', reason = ''
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status = 'stopping'
"""
_LEAVE = """
    UPDATE app_sessions SET owner = ''
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status = 'stopping' RETURNING *
"""
_END = """
    UPDATE app_sessions SET status = CASE WHEN failure IS NULL THEN 'stopped' ELSE 'failed' END, untold = $4,
        ended_at = now()
    WHERE workspace = $1 AND client_id = $2 AND epoch = $3 AND status = 'stopping' RETURNING *
"""


class Sessions:
    """
    The sessions of apps, in the database of their workspace: SQL, without permission checks.

    Whatever changes one names the epoch it believes in, so that a replica that was held up changes nothing of what
    another one took over.

    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, session: Mapping[str, Any], *, owner: str, starter: Mapping[str, Any], limit: int, wanted: str | None
    ) -> tuple[Session, bool]:
        """
        Store a session that starts, and True; or return the one that stands in its way, and False.

        An exclusive one gives way to any other of the app, of the ``wanted`` version where that is given. ``limit`` is
        how many may live in the workspace. Raises QuotaExceeded.

        """
        workspace = session["workspace"]
        shard = self._of(workspace)
        while True:
            async with shard.transaction() as connection:
                await connection.execute(_ONE_AFTER_ANOTHER, workspace)
                row = await connection.fetchrow(
                    _CLAIM, workspace, session["client_id"], session["app_id"], session["stage"], session["exclusive"],
                    session["variant"], owner, pack(starter), session["wait_for"], session["deadline"],
                    pack(session["record"]), session["daemon"], session["worker_managed"], session["autoscaled"],
                    session["stop_after_inactive"], limit, wanted,
                )  # fmt: skip
            if row is not None:
                return Session.of(row), True
            if session["exclusive"]:
                row = await shard.fetchrow(_IN_THE_WAY, workspace, session["app_id"], session["stage"], wanted)
                if row is not None:
                    return Session.of(row), False
            if len(await self.in_workspace(workspace)) >= limit:
                raise QuotaExceeded(f"Workspace {workspace} runs {limit} apps already")
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
        """Return those that a worker's client runs, whatever their workspace, in the databases that answer."""
        query = "SELECT * FROM app_sessions WHERE worker = $1 AND status IN ('starting', 'running')"
        rows = await self._database.gather_there(self._database.all(), query, str(worker))
        return [Session.of(row) for row in rows]

    async def failed(self, workspace: str, app_id: str, *, within_s: float) -> Session | None:
        """Return the newest start of an app that has just failed."""
        row = await self._of(workspace).fetchrow(_FAILED, workspace, app_id, timedelta(seconds=within_s))
        return None if row is None else Session.of(row)

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
        row = await self._of(workspace).fetchrow(
            _TAKE_TO_STOP, workspace, client_id, owner, reason, timedelta(seconds=STOP_TIME_S)
        )
        return None if row is None else Session.of(row)

    async def take_to_fail(self, session: Session, failure: HyphaError) -> Session | None:
        """Begin to end a start of ours that failed. None: somebody else has the session now."""
        return await self._change(
            _TAKE_TO_FAIL, session, failure.message, pack(failure.to_wire()), timedelta(seconds=STOP_TIME_S)
        )

    async def run_on(self, session: Session) -> None:
        """Take back :meth:`take_to_stop` of one that ran: its worker would not."""
        await self._of(session.workspace).execute(_RUN_ON, session.workspace, session.client_id, session.epoch)

    async def leave(self, session: Session) -> None:
        """Let whoever looks next do what ends it: we could not."""
        await self._change(_LEAVE, session)

    async def end(self, session: Session, *, untold: bool = False) -> Session | None:
        """
        Note that one that was taken to stop or to fail has ended; ``untold``: its worker does not know.

        None: somebody else has the session now.

        """
        return await self._change(_END, session, untold)

    async def _change(
        self, statement: str, session: Session, *values: str | bytes | bool | datetime | timedelta
    ) -> Session | None:
        row = await self._of(session.workspace).fetchrow(
            statement, session.workspace, session.client_id, session.epoch, *values
        )
        return None if row is None else Session.of(row)

    def _of(self, workspace: str) -> Shard:
        return self._database.for_workspace(workspace)
