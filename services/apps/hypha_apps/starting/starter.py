from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from hypha_apps import metrics
from hypha_apps.background import Background
from hypha_apps.errors import StartFailed, StartLost
from hypha_apps.keeping.daemon_rows import DaemonRows
from hypha_apps.manifest_services import remember_services
from hypha_apps.session import LIVE, Session, Status
from hypha_common.errors import DeadlineExceeded, HyphaError
from hypha_common.ids import APP_CLIENT_PREFIX
from hypha_common.names import readable_name
from hypha_common.rpc.remote import RemoteError
from hypha_common.subjects import client_frames

from .launch import Launch
from .options import StartOptions
from .progress import Progress
from .takeover import Takeover

if TYPE_CHECKING:
    from hypha_apps.app import App
    from hypha_apps.core import Core
    from hypha_apps.stopping import Stopper

    from .options import StartRequest

__all__ = ["Starter"]

log = structlog.get_logger(__name__)

_LOOK_S = 1.0  # events can be lost: look at least this often
_JOIN_MARGIN_S = 60.0  # after its deadline a start fails, or another replica ends it
_ATTEMPTS = 5  # of a start that goes down with replicas


class Starter:
    """
    Starts apps: subscribe, read what is true, then wait (contract 03 §8.3).

    A start is a row in the database before anybody is asked for anything, and belongs to the replica that made it.
    Where that dies, another one takes it over (`keeping`): an instance that comes in time runs.

    """

    def __init__(self, core: Core, stopper: Stopper) -> None:
        self._core = core
        self._stopper = stopper
        self._background = Background()
        self._takeover = Takeover(core, stopper, self._began)
        self._daemons = DaemonRows(core.database)

    async def start(self, app: App, request: StartRequest) -> Session:
        """
        Start an app, or return the instance that there is already (contract 03 §1.6 "reuse rule").

        Raises BadRequest, NotFound (no worker), QuotaExceeded, StartFailed with the logs of the app.

        """
        options = StartOptions.of(app, request, check_interval_s=self._core.settings.activity_check_interval)
        for _ in range(_ATTEMPTS):
            session, ours = await self._claim(app, request, options)
            try:
                if ours:
                    launch = Launch(self._core, self._stopper, app, request, options, Progress(request.progress))
                    # Whether or not whoever asked waits for it: others may wait, too.
                    return await asyncio.shield(self._background.run(self._drive(launch, session)))
                found = await self.join(session, timeout_s=options.timeout_s)
            except StartLost as error:
                log.info("start_repeated", app=app.id, workspace=app.workspace, error=str(error))
                continue
            if await self.is_there(found):
                return found
        raise StartFailed(f"Failed to start app '{app.id}', error: its instances went away")

    async def join(self, session: Session, *, timeout_s: float | None = None) -> Session:
        """
        Wait for a start that somebody else, at whatever replica, has begun.

        Raises what made it fail, StartLost where nobody is to blame, and DeadlineExceeded.

        """
        left_s = max(0.0, (session.deadline - datetime.now(UTC)).total_seconds()) + _JOIN_MARGIN_S
        deadline = asyncio.get_running_loop().time() + min(left_s, timeout_s or left_s)
        with self._core.feed.watch(session.workspace, session.client_id) as watch:
            while True:
                now = await self._core.sessions.get(session.workspace, session.client_id)
                if now is not None and now.status is Status.RUNNING:
                    return now
                if now is None or now.status not in LIVE:
                    raise _reason(session, now)
                left_s = deadline - asyncio.get_running_loop().time()
                if left_s <= 0:
                    raise DeadlineExceeded(f"Failed to start app '{session.app_id}', error: startup timed out")
                await watch.changed(min(left_s, _LOOK_S))

    async def is_there(self, session: Session) -> bool:
        """
        Tell whether the instance of a session that runs is connected.

        One that is not may come back, or its session is ended soon: wait for either.

        """
        if session.wait_for is None or session.daemon or session.worker_managed:
            return True  # it may run without being connected
        with self._core.feed.watch(session.workspace, session.client_id) as watch:
            deadline = asyncio.get_running_loop().time() + self._core.settings.worker_grace_period + _LOOK_S
            while asyncio.get_running_loop().time() < deadline:
                if await self._core.bus.listens(client_frames(session.workspace, session.client_id)):
                    return True
                now = await self._core.sessions.get(session.workspace, session.client_id)
                if now is None or now.status is not Status.RUNNING:
                    return False
                await watch.changed(_LOOK_S / 4)
        await self._stopper.stop_quietly(session, reason="its client is not connected")
        return False

    def take_over(self, session: Session) -> None:
        """Go on with what a replica that died was starting."""
        self._background.run(self._takeover.go_on(session))

    async def close(self) -> None:
        """Give what is being started a moment; what does not end is left to other replicas."""
        await self._background.close(within_s=self._core.settings.drain_window)

    async def _drive(self, launch: Launch, session: Session) -> Session:
        running = await launch.run(session)
        if running is None:
            return await self.join(session)
        if launch.started is not None and not launch.started.done():
            self._background.run(self._follow(running, launch.started))
        await self._began(running)
        await remember_services(self._core, launch.app, running)
        return running

    async def _follow(self, session: Session, started: asyncio.Task[None]) -> None:
        """End an instance that came although its worker says, later, that it could not start it."""
        try:
            await started
        except RemoteError as error:
            await self._stopper.stop_quietly(session, reason=f"its worker could not start it: {error}")
        except HyphaError as error:  # it does not answer: while it is there its instance is, too
            log.info("worker_start_unanswered", session=session.id, error=str(error))

    async def _began(self, running: Session) -> None:
        self._core.feed.tell(running)
        metrics.STARTS.labels("started").inc()
        metrics.START_SECONDS.observe(max(0.0, (datetime.now(UTC) - running.started_at).total_seconds()))
        log.info("app_started", session=running.id, app=running.app_id, worker=running.worker_id)
        if running.daemon and not running.stage:
            with suppress(HyphaError):  # it runs; that it is held matters when it does not
                await self._daemons.release(running.workspace, running.app_id)

    async def _claim(self, app: App, request: StartRequest, options: StartOptions) -> tuple[Session, bool]:
        client_id = f"{readable_name(APP_CLIENT_PREFIX)}__rlb"
        row = {
            "workspace": app.workspace,
            "client_id": client_id,
            "app_id": app.id,
            "stage": app.stage,
            "variant": "" if options.singleton else app.version or "",
            "exclusive": request.lazy or options.exclusive,
            "wait_for": options.wait_for,
            "deadline": datetime.now(UTC) + timedelta(seconds=options.timeout_s),
            "record": _record(app, client_id, options),
            "daemon": options.daemon,
            "worker_managed": options.worker_managed,
            "autoscaled": options.autoscaled,
            "stop_after_inactive": options.stop_after_inactive,
        }
        return await self._core.sessions.claim(
            row, owner=self._core.bus.instance, starter=request.user.dump(),
            limit=self._core.settings.max_apps_per_workspace, wanted=None if options.singleton else request.version,
        )  # fmt: skip


def _record(app: App, client_id: str, options: StartOptions) -> dict[str, Any]:
    """Return what clients are told of a session that starts (contract 03 §1.6)."""
    manifest, id = app.manifest, f"{app.workspace}/{client_id}"
    return {
        "id": id,
        "session_id": id,
        "app_id": app.id,
        "workspace": app.workspace,
        "client_id": client_id,
        "app_type": app.type,
        "entry_point": manifest.get("entry_point"),
        "name": manifest.get("name"),
        "description": manifest.get("description"),
        "version": app.version,
        "source_hash": manifest.get("source_hash"),
        "daemon": options.daemon,
        "worker_managed": options.worker_managed,
        "services": [],
        "config": {},
    }


def _reason(session: Session, now: Session | None) -> HyphaError:
    """Return why a start that was waited for came to nothing."""
    if now is not None and now.failure is not None:
        return now.failure
    reason = now.reason if now is not None and now.reason else "it was stopped"
    return StartFailed(f"Failed to start app '{session.app_id}', error: {reason}")
