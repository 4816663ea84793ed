from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from hypha_apps.keeping.daemon_rows import DaemonRows
from hypha_apps.session import LIVE, Session, Status
from hypha_apps.starting import StartRequest
from hypha_apps.workers.logs import log_entries
from hypha_common.errors import BadRequest, HyphaError, NotFound, NotSupported
from hypha_common.ids import Address, ServiceId
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import Starter
    from hypha_apps.stopping import Stopper
    from hypha_apps.workers import Worker

__all__ = ["RunningMethods"]

log = structlog.get_logger(__name__)

_IMAGE_FORMATS = ("png", "jpeg")
_SCREENSHOT_TIMEOUT_S = 30.0


class RunningMethods:
    """Starts and stops apps, and tells about those that run (contract 03 §1.6, §1.7)."""

    def __init__(self, core: Core, starter: Starter, stopper: Stopper) -> None:
        self._core = core
        self._starter = starter
        self._stopper = stopper
        self._daemons = DaemonRows(core.database)

    @rpc_method
    async def start(
        self,
        app_id: str,
        timeout: float | None = None,
        version: str | None = None,
        wait_for_service: str | bool | None = None,
        stop_after_inactive: float | None = None,
        stage: bool = False,
        progress_callback: Callable[..., Any] | None = None,
        additional_kwargs: dict[str, Any] | None = None,
        worker_id: str | None = None,
        worker_selection_mode: str | None = None,
        detached: bool = False,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Start an installed app and return its session: `id`, `app_id`, `client_id`, `service_id`, `services` …

        Args:
            app_id: The app.
            timeout: Seconds until it has to be up, 60 by default.
            version: A version of it, the newest by default.
            wait_for_service: The service that makes it running, `default` by default; an empty text waits for its
                client only, False for nothing.
            stop_after_inactive: Seconds without use after which it is stopped, 600 by default, 0 for never.
            stage: Whether to start the draft.
            progress_callback: A function that is called with `{type, message}`.
            additional_kwargs: More for the worker's configuration.
            worker_id: The worker that shall run it.
            worker_selection_mode: How one of several workers is chosen.
            detached: The same as `wait_for_service=False`.

        """
        workspace = context.workspace
        authorize(context.principal, Permission.READ_WRITE, workspace)
        if version == "stage":
            version, stage = None, True
        elif version == "latest":
            version = None
        app = await self._core.apps.read(workspace, app_id, user=context.principal, version=version, stage=bool(stage))
        request = StartRequest(
            context.principal,
            version=version,
            timeout=timeout,
            wait_for_service=False if detached else wait_for_service,
            stop_after_inactive=stop_after_inactive,
            additional_kwargs=additional_kwargs,
            worker_id=worker_id,
            worker_selection_mode=worker_selection_mode,
            progress=progress_callback,
        )
        session = await self._starter.start(app, request)
        return session.shown()

    @rpc_method
    async def stop(self, session_id: str, raise_exception: bool = True, *, context: Caller) -> None:
        """
        Stop a running app.

        Args:
            session_id: As `start` returned it.
            raise_exception: Whether it is an error that there is none, or that its worker does not stop it.

        """
        place = _place(session_id, context)
        try:
            await self._daemons.hold(place.workspace, place.client)  # one that a user stops does not come back at once
            await self._stopper.stop(
                place.workspace, place.client, reason=f"stopped by {context.principal.id}", keep_on_error=True
            )
        except HyphaError as error:
            session = await self._core.sessions.get(place.workspace, place.client)
            if session is not None and session.status in LIVE:
                await self._daemons.release(session.workspace, session.app_id)  # it runs on
            if raise_exception:
                raise
            log.info("app_not_stopped", session=str(place), error=str(error))

    @rpc_method
    async def list_running(self, *, context: Caller) -> list[dict[str, Any]]:
        """List the apps that run in your workspace."""
        authorize(context.principal, Permission.READ, context.workspace)
        sessions = await self._core.sessions.in_workspace(context.workspace)
        return [session.shown() for session in sessions if session.status is Status.RUNNING]

    @rpc_method
    async def get_session_info(self, session_id: str, *, context: Caller) -> dict[str, Any]:
        """
        Return a session: for a few minutes after it ended, too, with the reason.

        Args:
            session_id: As `start` returned it.

        """
        place = _place(session_id, context)
        session = await self._core.sessions.get(place.workspace, place.client)
        if session is None:
            raise NotFound(f"Session not found: {session_id}")
        return session.shown()

    @rpc_method
    async def get_logs(
        self,
        session_id: str,
        type: str | None = None,  # noqa: A002  # the word of the protocol
        offset: int = 0,
        limit: int | None = None,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Return `{items: [{type, content}], total, offset, limit}` of what a running app has logged.

        Args:
            session_id: As `start` returned it.
            type: Only entries of this type, such as `console` or `error`.
            offset: How many entries to leave out.
            limit: How many entries to return, all by default.

        """
        session = await self._known(session_id, context)
        first, count = _count("offset", offset), None if limit is None else _count("limit", limit)
        entries = await self._entries(session, type)
        wanted = [entry for entry in entries if type is None or entry["type"] == type]
        shown = wanted[first:] if count is None else wanted[first : first + count]
        return {"items": shown, "total": len(wanted), "offset": first, "limit": limit}

    @rpc_method
    async def take_screenshot(
        self,
        session_id: str,
        format: str = "png",  # noqa: A002  # the word of the protocol
        *,
        context: Caller,
    ) -> bytes:
        """
        Return an image of the page that a running app shows, where its worker can make one.

        Args:
            session_id: As `start` returned it.
            format: `png` or `jpeg`.

        """
        session = await self._known(session_id, context)
        if format not in _IMAGE_FORMATS:
            raise BadRequest(f"Invalid format: {format}. Must be one of: {', '.join(_IMAGE_FORMATS)}")
        if session.status is not Status.RUNNING:
            raise NotFound(f"Server app instance not found: {session_id}")
        worker = await self._worker(session)
        if not worker.has("take_screenshot"):
            raise NotSupported(f"Worker {worker.id} takes no screenshots")
        image = await self._core.calls.call(
            worker.service_id, "take_screenshot", session.id, format, timeout_s=_SCREENSHOT_TIMEOUT_S
        )
        if not isinstance(image, bytes):
            raise NotSupported(f"Worker {worker.id} answered no image")
        return image

    async def _known(self, session_id: str, context: Caller) -> Session:
        """Return a session that a worker was asked for, or that has ended. Raises NotFound."""
        place = _place(session_id, context)
        session = await self._core.sessions.get(place.workspace, place.client)
        if session is None or not session.worker_id:
            raise NotFound(f"Server app instance not found: {session_id}")
        return session

    async def _worker(self, session: Session) -> Worker:
        return await self._core.workers.get(ServiceId.parse(session.worker_id, default_workspace=session.workspace))

    async def _entries(self, session: Session, type: str | None) -> list[dict[str, Any]]:  # noqa: A002
        """Return what a session has logged: once it has ended, where that was kept or its worker still has it."""
        kept = session.record.get("logs")
        if isinstance(kept, dict):
            return log_entries(kept)
        try:
            return await self._core.calls.logs(await self._worker(session), session.id, type)
        except HyphaError:
            if session.status in LIVE:
                raise
            raise NotFound(f"Server app instance not found: {session.id}, it has ended: {session.reason}") from None


def _place(session_id: str, context: Caller) -> Address:
    """Return where a session is, for a caller who may read there. Raises PermissionDenied, BadRequest."""
    place = Address.parse(session_id, default_workspace=context.workspace)
    authorize(context.principal, Permission.READ, context.workspace)
    authorize(context.principal, Permission.READ, place.workspace)
    return place


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest(f"{name} must be a whole number, 0 or more")
    return value
