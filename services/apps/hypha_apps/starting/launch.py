from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from hypha_apps.errors import StartFailed, StartLost
from hypha_common.errors import HyphaError

from .arrival import Arrival, Taken
from .serving import with_services
from .worker_config import worker_config

if TYPE_CHECKING:
    from hypha_apps.app import App
    from hypha_apps.core import Core
    from hypha_apps.session import Session
    from hypha_apps.stopping import Stopper
    from hypha_apps.workers import Worker

    from .options import StartOptions, StartRequest
    from .progress import Progress

__all__ = ["Launch", "failure_of", "running_record"]

log = structlog.get_logger(__name__)

_HELD_UP_S = 2.0  # a replica that stood still for so long looks whether the session is still its own
_MAX_TEXT = 4000
_MAX_ERRORS = 3


@dataclass(slots=True)
class Launch:
    """One start, by the replica that made its row: a worker is chosen and asked, the instance awaited."""

    core: Core
    stopper: Stopper
    app: App
    request: StartRequest
    options: StartOptions
    progress: Progress
    worker: Worker | None = None
    started: asyncio.Task[None] | None = None  # the worker's `start`, which may go on while the instance runs

    async def run(self, session: Session) -> Session | None:
        """
        Return the session that runs now. None: somebody else has it, who stops it or has taken it over.

        Raises why it did not start; then it has ended.

        """
        running = None
        try:
            running = await self._run(session)
        except Taken:
            return None
        except HyphaError as error:
            failure = error if self.started is None else await failure_of(self.core, session, self.worker, error)
            await self._fail(session, failure)
        except Exception:  # a mistake of ours must not leave a session that starts for ever
            log.exception("start_failed", session=session.id)
            await self._fail(session, StartFailed(f"Failed to start app '{session.app_id}', error: internal error"))
        finally:
            if running is None and self.started is not None:
                self.started.cancel()
        return running

    async def _run(self, session: Session) -> Session:
        self.worker = await self._choose()
        self.progress.tell(f"Starting app '{self.app.id}' with worker {self.worker.id}")
        with self.core.feed.watch(session.workspace, session.client_id) as watch:
            session, token = await self._assign(session, self.worker)
            self.started = asyncio.create_task(self._ask(session, self.worker, token))
            self.started.add_done_callback(lambda done: done.cancelled() or done.exception())  # or nobody may ask
            arrival = Arrival(self.core, session, self.worker, watch, manifest=self.app.manifest, started=self.started)
            services = await arrival.services()
        running = await self.core.sessions.run(session, running_record(session, services))
        if running is None:
            raise Taken
        self.progress.tell(f"App '{self.app.id}' runs", kind="success")
        return running

    async def _fail(self, session: Session, failure: HyphaError) -> None:
        """End the session and raise the failure, unless somebody else has the session."""
        log.info("app_not_started", session=session.id, app=session.app_id, error=failure.message[:200])
        try:
            ended = await self.stopper.fail(session, failure)
        except HyphaError as error:  # the row stays; when its time is over somebody ends it
            log.warning("failure_not_stored", session=session.id, error=str(error))
            ended = True
        if ended:
            self.progress.tell(failure.message, kind="error")
            raise failure

    async def _choose(self) -> Worker:
        """
        Return the worker that is to run it, if the app is still there.

        It may have been disabled or uninstalled after it was read and before there was a row to be stopped.

        """
        app, request = self.app, self.request
        version = request.version or (None if app.stage else app.version)
        _, worker = await asyncio.gather(
            self.core.apps.read(app.workspace, app.id, user=None, version=version, stage=app.stage),
            self.core.workers.choose(
                app.workspace, app.type, request.worker_selection_mode, worker_id=request.worker_id, app_id=app.id
            ),
        )  # fmt: skip
        return worker

    async def _assign(self, session: Session, worker: Worker) -> tuple[Session, str]:
        """Note who will run it, before they are asked; return that and the instance's token."""
        now = asyncio.get_running_loop().time
        token = await self.core.tokens.issue(self.request.user, session.workspace, session.client_id, session.app_id)
        began = now()
        assigned = await self.core.sessions.assign(session, worker.id, worker.address, token.id)
        if assigned is not None and now() - began > _HELD_UP_S:
            found = await self.core.sessions.get(session.workspace, session.client_id)
            assigned = found if found is not None and found.epoch == assigned.epoch else None
        if assigned is None:
            raise Taken
        return assigned, token.token

    async def _ask(self, session: Session, worker: Worker, token: str) -> None:
        config = worker_config(self.core.settings, self.app, session, worker, token, self.options, self.progress.relay)
        await self.core.calls.start(worker, config, timeout_s=self.options.timeout_s)


def running_record(session: Session, services: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what clients are told of a session that runs."""
    record = with_services({**session.record, "worker_id": session.worker_id}, services)
    if session.wait_for:
        record["service_id"] = f"{session.id}:{session.wait_for}@{session.app_id}"
    return record


async def failure_of(core: Core, session: Session, worker: Worker | None, error: HyphaError) -> HyphaError:
    """Return what to tell whoever waits for a start that failed after a worker was asked: with what the app logged."""
    if isinstance(error, StartLost):
        return error
    entries: list[dict[str, Any]] = []
    if worker is not None:
        with suppress(HyphaError):
            entries = await core.calls.logs(worker, session.id)
    wrong = [str(entry["content"]) for entry in entries if entry["type"] == "error"][:_MAX_ERRORS]
    text = "; ".join([str(error), *wrong])
    if entries:
        text += ", logs:\n" + "\n".join(f"[{entry['type']}] {entry['content']}" for entry in entries)
    return StartFailed(f"Failed to start app '{session.app_id}', error: {text}"[:_MAX_TEXT])
