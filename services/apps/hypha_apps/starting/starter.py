from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from hypha_apps.errors import StartFailed
from hypha_apps.session import LIVE, Session, Status
from hypha_common.errors import Conflict, DeadlineExceeded, HyphaError, NotFound
from hypha_common.ids import APP_CLIENT_PREFIX, ServiceId
from hypha_common.names import readable_name

from .options import StartOptions
from .worker_config import worker_config

if TYPE_CHECKING:
    from hypha_apps.app import App
    from hypha_apps.core import Core
    from hypha_apps.feed import Watch
    from hypha_apps.workers import Worker

    from .options import StartRequest

__all__ = ["Starter"]

log = structlog.get_logger(__name__)

_LOOK_S = 1.0  # events can be lost: look at least this often
_SETTLE_S = 0.1  # further services of an app come right after the one that is waited for
_MAX_REASON = 4000


@dataclass(frozen=True, slots=True)
class _Start:
    """What one start is made of."""

    app: App
    request: StartRequest
    options: StartOptions


class Starter:
    """
    Starts apps: subscribe, read what is true, then wait (contract 03 §8.3).

    A start is a row in the database before anybody is asked for anything, and belongs to the replica that made it.
    Where that dies, another replica ends what it began (`keeping`).

    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._running: set[asyncio.Task[Session]] = set()

    async def start(self, app: App, request: StartRequest) -> Session:
        """
        Start an app, or return the instance that there is already (contract 03 §1.6 "reuse rule").

        Raises BadRequest, NotFound (no worker), QuotaExceeded, StartFailed with the logs of the app.

        """
        options = StartOptions.of(app, request, check_interval_s=self._core.settings.activity_check_interval)
        several = options.daemon or options.autoscaled
        session, ours = await self._claim(_Start(app, request, options), exclusive=request.lazy or not several)
        if not ours:
            return await self.join(session)
        return await self._in_background(self._drive(session, _Start(app, request, options)))

    async def join(self, session: Session) -> Session:
        """Wait for a start that somebody else, at whatever replica, has begun. Raises StartFailed."""
        with self._core.feed.watch(session.workspace, session.client_id) as watch:
            while True:
                now = await self._core.sessions.get(session.workspace, session.client_id)
                if now is not None and now.status is Status.RUNNING:
                    return now
                if now is None or now.status not in LIVE:
                    reason = "it was stopped" if now is None else now.reason
                    raise StartFailed(f"Failed to start app '{session.app_id}', error: {reason}")
                await watch.changed(_LOOK_S)

    async def close(self) -> None:
        """Give up what is being started."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running))

    async def _in_background(self, work: Coroutine[Any, Any, Session]) -> Session:
        """Do it whether or not whoever asked waits for it: others may wait, too."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _claim(self, start: _Start, *, exclusive: bool) -> tuple[Session, bool]:
        app, options, request = start.app, start.options, start.request
        client_id = f"{readable_name(APP_CLIENT_PREFIX)}__rlb"
        manifest = app.manifest
        record: dict[str, Any] = {
            "id": f"{app.workspace}/{client_id}",
            "session_id": f"{app.workspace}/{client_id}",
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
        row = {
            "workspace": app.workspace,
            "client_id": client_id,
            "app_id": app.id,
            "stage": app.stage,
            "exclusive": exclusive,
            "token_id": "",
            "wait_for": options.wait_for,
            "deadline": datetime.now(UTC) + timedelta(seconds=options.timeout_s),
            "record": record,
            "daemon": options.daemon,
            "worker_managed": options.worker_managed,
            "autoscaled": options.autoscaled,
            "stop_after_inactive": options.stop_after_inactive,
        }
        return await self._core.sessions.claim(
            row, owner=self._core.bus.instance, starter=request.user.dump(),
            limit=self._core.settings.max_apps_per_workspace,
        )  # fmt: skip

    async def _drive(self, session: Session, start: _Start) -> Session:
        worker: Worker | None = None
        try:
            worker = await self._choose(start)
            with self._core.feed.watch(session.workspace, session.client_id) as watch:
                session = await self._launch(session, start, worker)
                services = await self._settled(session, watch)
            record = _with_services(session, services)
            running = await self._core.sessions.run(session, record)
            if running is None:
                raise Conflict("it was stopped while it started")
        except asyncio.CancelledError:
            await asyncio.shield(self._fail(session, worker, StartFailed("the server is stopping")))
            raise
        except Exception as error:
            if not isinstance(error, HyphaError):
                log.exception("start_failed", session=session.id)
            raise await self._fail(session, worker, error) from None
        self._core.feed.tell(running)
        log.info("app_started", session=running.id, app=running.app_id, worker=running.worker_id)
        return running

    async def _choose(self, start: _Start) -> Worker:
        app, request = start.app, start.request
        if request.worker_id is None:
            return await self._core.workers.choose(app.workspace, app.type, request.worker_selection_mode)
        return await self._core.workers.get(ServiceId.parse(request.worker_id, default_workspace=app.workspace))

    async def _launch(self, session: Session, start: _Start, worker: Worker) -> Session:
        token = await self._core.tokens.issue(start.request.user, session.workspace, session.client_id, session.app_id)
        assigned = await self._core.sessions.assign(session, worker.id, worker.address, token.id)
        if assigned is None:
            raise Conflict("it was stopped while it started")
        config = worker_config(
            self._core.settings, start.app, assigned, worker, token.token, start.options, start.request
        )
        await self._core.calls.start(worker, config, timeout_s=start.options.timeout_s)
        return assigned

    async def _settled(self, session: Session, watch: Watch) -> list[dict[str, Any]]:
        """Wait for what makes the session running; return the services it has then. Raises DeadlineExceeded."""
        if session.wait_for is None:
            return []
        while True:
            now = await self._core.sessions.get(session.workspace, session.client_id)
            if now is None or now.epoch != session.epoch or now.status is not Status.STARTING:
                raise Conflict(now.reason if now is not None and now.reason else "it was stopped while it started")
            services = await self._services(session)
            if services is not None and (not session.wait_for or session.wait_for in map(_name, services)):
                await asyncio.sleep(_SETTLE_S)
                return await self._services(session) or services
            left_s = (session.deadline - datetime.now(UTC)).total_seconds()
            if left_s <= 0:
                waited = session.wait_for or "its client"
                raise DeadlineExceeded(f"startup timed out waiting for {waited}")
            await watch.changed(min(left_s, _LOOK_S))

    async def _services(self, session: Session) -> list[dict[str, Any]] | None:
        """Return what the instance serves; None: it is not connected."""
        connected = await self._core.registry.instances(session.workspace, [session.client_id])
        services = connected.get(session.client_id)
        return None if services is None else [info for info in services if _name(info) != "built-in"]

    async def _fail(self, session: Session, worker: Worker | None, error: Exception) -> HyphaError:
        """Undo a start and return what to tell whoever waits for it."""
        logs = ""
        if worker is not None and not isinstance(error, NotFound):
            with suppress(HyphaError):
                logs = _summary(await self._core.calls.logs(worker, session.id))
            with suppress(HyphaError):
                await self._core.calls.stop(worker, session.id)
        text = f"{error}" + (f", logs:\n{logs}" if logs else "")
        with suppress(HyphaError):
            now = await self._core.sessions.get(session.workspace, session.client_id)
            if now is not None and now.token_id:
                await self._core.tokens.end(session.workspace, now.token_id)
            if (ended := await self._core.sessions.end(session, Status.FAILED, text[:_MAX_REASON])) is not None:
                self._core.feed.tell(ended)
        log.info("app_not_started", session=session.id, app=session.app_id, error=str(error))
        if isinstance(error, NotFound) and error.rpc_type == "WorkerNotFoundError":
            return error
        return StartFailed(f"Failed to start app '{session.app_id}', error: {text}")


def _with_services(session: Session, services: list[dict[str, Any]]) -> dict[str, Any]:
    record = {**session.record, "worker_id": session.worker_id, "services": services}
    default = next((info for info in services if _name(info) == "default"), None)
    if default is not None:
        record["config"] = default.get("config") or {}
    if session.wait_for:
        record["service_id"] = f"{session.id}:{session.wait_for}@{session.app_id}"
    return record


def _name(info: dict[str, Any]) -> str:
    """Return the name in a full service id."""
    return str(info["id"]).rpartition(":")[2].partition("@")[0]


def _summary(logs: list[dict[str, Any]]) -> str:
    """Return the errors of a log first, then all of it, cut."""
    errors = [entry for entry in logs if entry.get("type") == "error"]
    lines = [f"[{entry.get('type')}] {entry.get('content')}" for entry in [*errors[:5], *logs]]
    return "\n".join(lines)[:_MAX_REASON]
