from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hypha_apps.errors import StartLost
from hypha_apps.manifest_services import remember_services
from hypha_common.errors import HyphaError
from hypha_common.ids import ServiceId

from .arrival import Arrival, Taken
from .launch import failure_of, running_record

if TYPE_CHECKING:
    from hypha_apps.app import App
    from hypha_apps.core import Core
    from hypha_apps.session import Session
    from hypha_apps.stopping import Stopper
    from hypha_apps.workers import Worker

__all__ = ["Takeover"]

_DECISIVE = (404, 409)  # the app is gone, or disabled


class Takeover:
    """Goes on with starts whose replica has died: an instance that comes in time runs."""

    def __init__(self, core: Core, stopper: Stopper, began: Callable[[Session], Awaitable[None]]) -> None:
        self._core = core
        self._stopper = stopper
        self._began = began

    async def go_on(self, session: Session) -> None:
        """Wait for what was started, or end it."""
        try:
            worker, app = await self._what_it_is(session)
        except HyphaError as error:
            await self._stopper.fail(session, error)
            return
        with self._core.feed.watch(session.workspace, session.client_id) as watch:
            manifest = {} if app is None else app.manifest
            arrival = Arrival(self._core, session, worker, watch, manifest=manifest, started=None)
            try:
                services = await arrival.services()
                running = await self._core.sessions.run(session, running_record(session, services))
            except Taken:
                return
            except HyphaError as error:
                await self._stopper.fail(session, await failure_of(self._core, session, worker, error))
                return
        if running is not None:
            await self._began(running)
            if app is not None:
                await remember_services(self._core, app, running)

    async def _what_it_is(self, session: Session) -> tuple[Worker, App | None]:
        """
        Return who runs a session, and its app where the store is there to tell.

        Raises StartLost where nobody does, and what :meth:`Apps.read` says of an app that is gone or disabled.

        """
        gone = StartLost(f"The replica that started app '{session.app_id}' is gone")
        if session.worker is None:
            raise gone
        try:
            worker = await self._core.workers.get(
                ServiceId.parse(session.worker_id, default_workspace=session.workspace)
            )
        except HyphaError:
            raise gone from None
        version = None if session.stage else session.record.get("version")
        try:
            app = await self._core.apps.read(
                session.workspace, session.app_id, user=None, version=version, stage=session.stage
            )
        except HyphaError as error:
            if error.status in _DECISIVE:
                raise
            return worker, None
        return worker, app
