from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypha_apps.session import Session, Status

from .options import StartRequest

if TYPE_CHECKING:
    from hypha_apps.core import Core

    from .starter import Starter

__all__ = ["LazyStarts"]

_WAIT_S = 5.0  # of one question: a replica that dies with it is noticed soon


class LazyStarts:
    """
    Starts an app because somebody looked up a service of it: ``hy.r.apps.<p>.ensure``.

    Whoever asks has decided that the caller may use that service. It runs as the one who installed it.

    """

    def __init__(self, core: Core, starter: Starter) -> None:
        self._core = core
        self._starter = starter

    async def serve(self) -> None:
        await self._core.bus.serve("apps", "ensure", self.ensure)

    async def ensure(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        ``{workspace, app_id, service}`` -> ``{state: running | starting, session}``.

        Answers within some seconds; ``starting``: ask again. Raises what a start raises.

        """
        workspace, app_id, service = message["workspace"], message["app_id"], message["service"]
        starting = asyncio.ensure_future(self._started(workspace, app_id, service))
        done, _ = await asyncio.wait({starting}, timeout=_WAIT_S)
        if not done:
            starting.cancel()  # only the waiting: the start itself goes on
            return {"state": "starting"}
        return {"state": "running", "session": starting.result().id}

    async def _started(self, workspace: str, app_id: str, service: str) -> Session:
        live = [session for session in await self._core.sessions.of_app(workspace, app_id) if not session.stage]
        if running := next((session for session in live if session.status is Status.RUNNING), None):
            return running
        if live:
            return await self._starter.join(live[0])
        app = await self._core.apps.read(workspace, app_id, user=None)
        request = StartRequest(app.installer(), wait_for_service=service, lazy=True)
        return await self._starter.start(app, request)
