from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.ids import PUBLIC_WORKSPACE

from .keeping.daemon_rows import DaemonRows

if TYPE_CHECKING:
    from .core import Core
    from .stopping import Stopper

__all__ = ["OperatorVerbs"]

_RUNNING = """
    SELECT worker_id, workspace, count(*) AS number FROM app_sessions
    WHERE status IN ('starting', 'running') AND worker_id <> '' GROUP BY worker_id, workspace
"""


class OperatorVerbs:
    """What operators ask a replica to do: ``hy.r.apps.<p>.<verb>``."""

    def __init__(self, core: Core, stopper: Stopper) -> None:
        self._core = core
        self._stopper = stopper

    async def serve(self) -> None:
        await self._core.bus.serve("apps", "stop_session", self.stop_session)
        await self._core.bus.serve("apps", "workers", self.workers)

    async def stop_session(self, message: dict[str, Any]) -> dict[str, Any]:
        """Stop ``{workspace, client_id}``, whatever its worker says. Raises NotFound."""
        workspace, client_id = message["workspace"], message["client_id"]
        await DaemonRows(self._core.database).hold(workspace, client_id)
        session = await self._stopper.stop(workspace, client_id, reason="stopped by an operator")
        return {"status": str(session.status)}

    async def workers(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """
        Tell of the workers of ``{workspace}``; None: of all workspaces where a worker runs something, and ``public``.

        Answers ``[{id, name, types, sessions}]``, of those that answer.

        """
        wanted = message.get("workspace")
        running: dict[str, int] = {}
        for row in await self._core.database.gather(self._core.database.all(), _RUNNING):
            running[row["worker_id"]] = running.get(row["worker_id"], 0) + row["number"]
        places = {PUBLIC_WORKSPACE, *(worker.partition("/")[0] for worker in running)} if wanted is None else {wanted}
        return [
            {
                "id": worker.id,
                "name": worker.name,
                "types": list(worker.supported_types),
                "sessions": running.get(worker.id, 0),
            }
            for place in sorted(places)
            for worker in await self._core.workers.of(place)
        ]
