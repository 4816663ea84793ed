from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from hypha_apps.session import Session
from hypha_common.errors import HyphaError
from hypha_common.ids import Address

if TYPE_CHECKING:
    from hypha_common.db import Database, Shard

__all__ = ["REPLICA_LIFE_S", "Running", "Upkeep"]

REPLICA_LIFE_S = 5.0
_OVERDUE_S = 30.0  # after its deadline a session is anybody's, whether or not its replica lives
_KEPT_S = 300.0  # that one can read why a session ended
_OWED_S = 86400.0  # that a worker may be away until nobody tells it any more what has ended

_ADOPT = """
    UPDATE app_sessions s SET owner = $1, epoch = epoch + 1,
        deadline = CASE WHEN deadline < now() - $2::interval THEN now() ELSE deadline END
    WHERE status IN ('starting', 'stopping') AND (
        deadline < now() - $2::interval
        OR NOT EXISTS (SELECT FROM app_replicas r WHERE r.instance = s.owner AND r.expires_at > now())
    )
    RETURNING *
"""
_RENEW = """
    INSERT INTO app_replicas (instance, expires_at) VALUES ($1, now() + $2)
    ON CONFLICT (instance) DO UPDATE SET expires_at = excluded.expires_at
"""
_FORGET = """
    DELETE FROM app_sessions
    WHERE status IN ('stopped', 'failed')
    AND ended_at < now() - CASE WHEN untold THEN $2::interval ELSE $1::interval END
"""
_FORGET_REPLICAS = "DELETE FROM app_replicas WHERE expires_at < now() - interval '1 hour'"
_RUNNING = "SELECT workspace, client_id, worker, status FROM app_sessions WHERE status IN ('starting', 'running')"
_TOLD = "UPDATE app_sessions SET untold = false WHERE workspace = $1 AND client_id = $2"


@dataclass(frozen=True, slots=True)
class Running:
    """Who has to be connected for a session that starts or runs."""

    instance: Address
    worker: Address | None
    runs: bool  # or starts: then its instance is still to come


class Upkeep:
    """What is written about sessions although nobody asked: SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(self, shard: Shard, instance: str) -> None:
        """Say that this replica lives."""
        await shard.execute(_RENEW, instance, timedelta(seconds=REPLICA_LIFE_S))

    async def resign(self, instance: str) -> None:
        """Let others take over at once what this replica has begun."""
        for shard in self._database.all():
            with suppress(HyphaError):  # it expires by itself
                await shard.execute("DELETE FROM app_replicas WHERE instance = $1", instance)

    async def adopt(self, shard: Shard, owner: str) -> list[Session]:
        """Take over what replicas that have died were starting or stopping, and what takes much too long."""
        async with shard.transaction() as connection:
            rows = await connection.fetch(_ADOPT, owner, timedelta(seconds=_OVERDUE_S))
        return [Session.of(row) for row in rows]

    async def forget(self, shard: Shard) -> None:
        """Remove what ended some minutes ago."""
        await shard.execute(_FORGET, timedelta(seconds=_KEPT_S), timedelta(seconds=_OWED_S))
        await shard.execute(_FORGET_REPLICAS)

    async def forget_workspace(self, workspace: str) -> None:
        """Remove what has ended in a workspace that is gone."""
        await self._database.for_workspace(workspace).execute(
            "DELETE FROM app_sessions WHERE workspace = $1 AND status IN ('stopped', 'failed') AND NOT untold",
            workspace,
        )

    async def running(self) -> list[Running]:
        """Return who has to be connected for everything that starts or runs, in the databases that answer."""
        return [
            Running(
                Address(row["workspace"], row["client_id"]),
                Address.parse(row["worker"]) if row["worker"] else None,
                row["status"] == "running",
            )
            for row in await self._database.gather_there(self._database.mine(), _RUNNING)
        ]

    async def untold(self) -> list[Session]:
        """Return what ended while its worker was away."""
        query = "SELECT * FROM app_sessions WHERE untold"
        return [Session.of(row) for row in await self._database.gather_there(self._database.mine(), query)]

    async def told(self, session: Session) -> None:
        """Note that a worker knows that a session has ended."""
        await self._database.for_workspace(session.workspace).execute(_TOLD, session.workspace, session.client_id)
