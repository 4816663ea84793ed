from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypha_common.db import Database
    from hypha_common.ids import Address

__all__ = ["WorkerLoads"]

_SESSIONS = """
    SELECT worker, workspace, count(*) AS sessions FROM app_sessions
    WHERE worker = ANY($1::text[]) AND status IN ('starting', 'running') GROUP BY worker, workspace
"""
_MESSAGES = "SELECT client_id, load FROM app_sessions WHERE workspace = $1 AND client_id = ANY($2::text[])"


class WorkerLoads:
    """How much workers have to do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, workers: Iterable[Address]) -> dict[Address, tuple[float, int]]:
        """
        Return for each (messages a minute, sessions): smaller is less to do.

        Messages are counted only of workers that are apps themselves (contract 03 §2.7 "load").

        """
        found = list(dict.fromkeys(workers))
        sessions: dict[str, int] = {}
        names = [str(worker) for worker in found]
        # A database that is away must not keep those of the others from starting apps.
        for row in await self._database.gather_there(self._database.all(), _SESSIONS, names):
            sessions[row["worker"]] = sessions.get(row["worker"], 0) + row["sessions"]
        messages: dict[str, float] = {}
        for workspace in {worker.workspace for worker in found}:
            clients = [worker.client for worker in found if worker.workspace == workspace]
            for row in await self._database.for_workspace(workspace).fetch(_MESSAGES, workspace, clients):
                messages[f"{workspace}/{row['client_id']}"] = float(row["load"])
        return {worker: (messages.get(str(worker), 0.0), sessions.get(str(worker), 0)) for worker in found}
