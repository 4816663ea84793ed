from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from .config import WorkerConfig
from .errors import SessionNotFoundError, WorkerError, WorkerNotAvailableError
from .service import WorkerService
from .session import SessionInfo, SessionStatus

__all__ = [
    "BaseWorker",
    "SessionInfo",
    "SessionNotFoundError",
    "SessionStatus",
    "WorkerConfig",
    "WorkerError",
    "WorkerNotAvailableError",
]

logger = logging.getLogger(__name__)

_PROGRESS_TIMEOUT_S = 5.0
_LIVE = (SessionStatus.STARTING, SessionStatus.RUNNING)


class BaseWorker(WorkerService):
    """
    A program that runs apps of some types: a service of type ``server-app-worker`` (``docs/how-to/workers.md``).

    Write it in one of two ways. Either fill in the hooks ``_start_session``, ``_stop_session`` and
    ``_get_session_logs``, and what sessions there are is kept here (``_sessions``, and in ``_session_data`` what
    ``_start_session`` returned); or override ``start``, ``stop`` and ``get_logs`` themselves.

    """

    def __init__(self, server: Any = None) -> None:
        super().__init__()
        self.server = server  # where `initialize` registers the service
        self.initialized = False
        self._sessions: dict[str, SessionInfo] = {}
        self._session_data: dict[str, Any] = {}
        self._initializing = asyncio.Lock()

    # What the server calls.

    async def start(self, config: Any, context: Any = None) -> Any:
        """Start a session and return its SessionInfo. Raises WorkerError where it runs already, and what hooks do."""
        config = WorkerConfig.of(config)
        await self.initialize()
        session = SessionInfo.starting(config)
        known = self._sessions.get(session.session_id)
        if known is not None and known.status in _LIVE:
            raise WorkerError(f"Session {session.session_id} already exists")
        self._sessions[session.session_id] = session
        try:
            data = await self._start_session(config)
        except BaseException as error:
            session.status, session.error = SessionStatus.FAILED, str(error) or repr(error)
            raise
        if self._sessions.get(session.session_id) is not session:  # somebody stopped it meanwhile
            await self._stop_session(session.session_id)
            raise WorkerError(f"Session {session.session_id} was stopped while it started")
        self._session_data[session.session_id] = data
        session.status = SessionStatus.RUNNING
        return session

    async def stop(self, session_id: str, context: Any = None) -> None:
        """Stop a session; one that is not known is stopped already."""
        session = self._sessions.get(session_id)
        if session is None:
            logger.warning("Session %s is to be stopped, but there is none", session_id)
            return
        session.status = SessionStatus.STOPPING
        try:
            await self._stop_session(session_id)
            session.status = SessionStatus.STOPPED
        except Exception as error:
            session.status, session.error = SessionStatus.FAILED, str(error)
            raise
        finally:
            if self._sessions.get(session_id) is session:
                del self._sessions[session_id]
                self._session_data.pop(session_id, None)

    async def get_logs(
        self,
        session_id: str,
        type: str | None = None,  # noqa: A002  # the word of the protocol
        offset: int = 0,
        limit: int | None = None,
        log_type: str | None = None,
        context: Any = None,
    ) -> Any:
        """
        Return what a session logged: ``{items: [{type, content}], total, offset, limit}``, or ``{type: [text]}``.

        Raises SessionNotFoundError.

        """
        self._session(session_id)
        return await self._get_session_logs(session_id, type or log_type, offset, limit)

    async def compile(
        self,
        manifest: dict[str, Any],
        files: list[dict[str, Any]],
        config: Mapping[str, Any] | None = None,
        context: Any = None,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Make of the source of an app, when it is installed, what ``start`` can run: return a manifest and files."""
        return manifest, files

    async def execute(
        self,
        session_id: str,
        script: str,
        config: Mapping[str, Any] | None = None,
        progress_callback: Callable[..., Any] | None = None,
        context: Any = None,
    ) -> Any:
        """Run a script in a session."""
        raise NotImplementedError(f"{self.name} executes no scripts")

    async def list_sessions(self, workspace: str, context: Any = None) -> list[SessionInfo]:
        """List the sessions of a workspace."""
        return [session for session in self._sessions.values() if session.workspace == workspace]

    async def get_session_info(self, session_id: str, context: Any = None) -> SessionInfo:
        """Return a session. Raises SessionNotFoundError."""
        return self._session(session_id)

    async def prepare_workspace(self, workspace: str, context: Any = None) -> None:
        await self._prepare_workspace(workspace)

    async def close_workspace(self, workspace: str, context: Any = None) -> None:
        """Stop the sessions of a workspace."""
        for session in await self.list_sessions(workspace):
            await self._stop_quietly(session.session_id)
        await self._close_workspace(workspace)

    async def shutdown(self, context: Any = None) -> None:
        """Stop everything."""
        for session_id in list(self._sessions):
            await self._stop_quietly(session_id)
        await self._shutdown_worker()
        self.initialized = False

    # What a worker written with hooks fills in.

    async def _initialize_worker(self) -> None:
        """Get ready, once, before anybody is served."""

    async def _start_session(self, config: WorkerConfig) -> Any:
        """Start a session; what is returned is kept in ``_session_data``."""
        raise NotImplementedError(f"{type(self).__name__} must have start, or _start_session")

    async def _stop_session(self, session_id: str) -> None:
        """Stop a session."""
        raise NotImplementedError(f"{type(self).__name__} must have stop, or _stop_session")

    async def _get_session_logs(
        self, session_id: str, log_type: str | None = None, offset: int = 0, limit: int | None = None
    ) -> Any:
        """Return the log of a session, in any form that ``get_logs`` may answer in."""
        raise NotImplementedError(f"{type(self).__name__} must have get_logs, or _get_session_logs")

    async def _prepare_workspace(self, workspace: str) -> None: ...

    async def _close_workspace(self, workspace: str) -> None: ...

    async def _shutdown_worker(self) -> None: ...

    # How it comes to its server.

    async def initialize(self) -> None:
        """Get ready, and register the service with ``server`` where there is one; further calls do nothing."""
        async with self._initializing:
            if self.initialized:
                return
            await self._initialize_worker()
            if self.server is not None and not self.registered:
                await self.register_worker_service(self.server)
            self.initialized = True

    @staticmethod
    async def tell_progress(config: Mapping[str, Any], kind: str, message: str) -> None:
        """Tell whoever waits for a start: ``kind`` is info, success, warning or error. Never raises."""
        callback = config.get("progress_callback")
        if not callable(callback):
            return
        try:
            result = callback({"type": kind, "message": message})
            if inspect.isawaitable(result):
                async with asyncio.timeout(_PROGRESS_TIMEOUT_S):
                    await result
        except Exception as error:  # noqa: BLE001  # whoever listens may be gone: the start goes on
            logger.info("Progress was not heard: %s", error)

    def _session(self, session_id: str) -> SessionInfo:
        session = self._sessions.get(session_id)
        if session is None:
            raise SessionNotFoundError(f"Session {session_id} not found")
        return session

    async def _stop_quietly(self, session_id: str) -> None:
        try:
            await self.stop(session_id)
        except Exception:  # one that does not stop must not keep the others
            logger.exception("Session %s could not be stopped", session_id)
