from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypha_apps.background import Background
from hypha_apps.errors import StartLost
from hypha_apps.session import Session, Status
from hypha_common.errors import NotFound

from .options import StartRequest
from .serving import has_service, stands_in

if TYPE_CHECKING:
    from hypha_apps.core import Core

    from .starter import Starter

__all__ = ["LazyStarts"]

_WAIT_S = 5.0  # of one question: a replica that dies with it is noticed soon
_FAILED_S = 2.0  # that a start which failed is not repeated by whoever waited for it
_SERVE_S = 15.0  # that an instance which runs is given to serve what is looked up
_LOOK_S = 1.0
_ATTEMPTS = 5  # of a start that goes down with replicas, or whose instance has just ended

Key = tuple[str, str, str]


class LazyStarts:
    """
    Starts an app because somebody looked up a service of it: ``hy.r.apps.<p>.ensure``.

    Whoever asks has decided that the caller may use that service. It runs as the one who installed it.

    """

    def __init__(self, core: Core, starter: Starter) -> None:
        self._core = core
        self._starter = starter
        self._background = Background()
        self._asked: dict[Key, asyncio.Task[Session]] = {}  # however many ask, one waits

    async def serve(self) -> None:
        await self._core.bus.serve("apps", "ensure", self.ensure)

    async def close(self) -> None:
        await self._background.close()

    async def ensure(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        ``{workspace, app_id, service}`` -> ``{state: running | starting, session}``.

        Answers within some seconds; ``starting``: ask again. Raises what a start raises, and NotFound where the app
        runs without that service.

        """
        key = (message["workspace"], message["app_id"], message["service"])
        if key not in self._asked:
            self._asked[key] = self._background.run(self._ensured(*key))
            self._asked[key].add_done_callback(lambda _: self._asked.pop(key, None))
        asked = self._asked[key]
        done, _ = await asyncio.wait({asked}, timeout=_WAIT_S)
        if not done:
            return {"state": "starting"}
        return {"state": "running", "session": asked.result().id}

    async def _ensured(self, workspace: str, app_id: str, service: str) -> Session:
        for _ in range(_ATTEMPTS):
            try:
                session = await self._started(workspace, app_id, service)
            except StartLost:
                continue
            if await self._serves(session, service):
                return session
        raise NotFound(f"App '{app_id}' does not stay running")

    async def _started(self, workspace: str, app_id: str, service: str) -> Session:
        """Return an instance, one that serves it where there are several; start one where there is none."""
        live = [session for session in await self._core.sessions.of_app(workspace, app_id) if not session.stage]
        running = [session for session in live if session.status is Status.RUNNING]
        if running:
            return await self._serving(running, service) or running[0]
        if live:
            return await self._starter.join(live[0])
        failed = await self._core.sessions.failed(workspace, app_id, within_s=_FAILED_S)
        if failed is not None and failed.failure is not None and not isinstance(failed.failure, StartLost):
            raise failed.failure
        app = await self._core.apps.read(workspace, app_id, user=None)
        request = StartRequest(app.installer(), wait_for_service=service, lazy=True)
        return await self._starter.start(app, request)

    async def _serving(self, sessions: list[Session], service: str) -> Session | None:
        connected = await self._core.registry.instances(
            sessions[0].workspace, [session.client_id for session in sessions]
        )
        found = (session for session in sessions if has_service(connected.get(session.client_id, []), service))
        return next(found, None)

    async def _serves(self, session: Session, service: str) -> bool:
        """
        Wait until a session that runs serves something. False: it does not run any more.

        Raises NotFound where it does not serve it in time.

        """
        now = asyncio.get_running_loop().time
        deadline = now() + _SERVE_S
        with self._core.feed.watch(session.workspace, session.client_id) as watch:
            while True:
                if await self._serving([session], service):
                    return True
                if not await self._starter.is_there(session) or not await self._runs(session):
                    return False
                connected = await self._core.registry.instances(session.workspace, [session.client_id])
                app = await self._core.apps.read(session.workspace, session.app_id, user=None)
                if stands_in(connected.get(session.client_id, []), service, app.manifest):
                    return True
                if now() >= deadline:
                    raise NotFound(f"App '{session.app_id}' runs, but does not serve '{service}'")
                await watch.changed(_LOOK_S)

    async def _runs(self, session: Session) -> bool:
        found = await self._core.sessions.get(session.workspace, session.client_id)
        return found is not None and found.status is Status.RUNNING
