from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypha.workers.base import (
    BaseWorker,
    SessionInfo,
    SessionNotFoundError,
    SessionStatus,
    WorkerConfig,
    WorkerError,
    WorkerNotAvailableError,
)
from hypha.workers.log import SessionLog

from .limits import Limits
from .script import Script
from .source import fetch_source

__all__ = ["PythonEvalWorker"]

logger = logging.getLogger(__name__)

_MAX_ENDED = 200  # whose logs are kept until somebody stops them
_WAIT_S = 10.0  # for the end of a short script
_LIVE = (SessionStatus.STARTING, SessionStatus.RUNNING)


@dataclass(slots=True)
class _Session:
    info: SessionInfo
    log: SessionLog
    script: Script | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class PythonEvalWorker(BaseWorker):
    """
    Runs Python scripts, each in a process of its own with limits.

    A script that fails is no error of its start: the log tells. The session ends with the script.

    """

    def __init__(
        self,
        server: Any = None,
        *,
        limits: Limits | None = None,
        visibility: str = "protected",
        service_id: str = "",
        use_local_url: bool | str = False,
    ) -> None:
        super().__init__(server)
        self._limits = limits or Limits()
        self._visibility = visibility
        self._service_id = service_id
        self._use_local_url = use_local_url
        self._scripts: OrderedDict[str, _Session] = OrderedDict()

    @property
    def supported_types(self) -> list[str]:
        return ["python-eval"]

    @property
    def name(self) -> str:
        return "Python eval worker"

    @property
    def description(self) -> str:
        return "Runs Python scripts in processes of their own"

    @property
    def visibility(self) -> str:
        return self._visibility

    @property
    def use_local_url(self) -> bool | str:
        return self._use_local_url

    @property
    def service_id(self) -> str:
        return self._service_id or super().service_id

    def get_worker_service(self) -> dict[str, Any]:
        names = ("start", "stop", "get_logs", "get_session_info", "list_sessions", "shutdown")
        return self.service_of({name: getattr(self, name) for name in names})

    async def start(self, config: Any, context: Any = None) -> SessionInfo:
        """
        Run a script; returns when it has ended, or after some seconds while it goes on.

        Raises WorkerError where there is none to run, WorkerNotAvailableError where too many run.

        """
        config = WorkerConfig.of(config)
        session = self._admit(config)
        try:
            source = await fetch_source(config, max_bytes=self._limits.source_bytes)
            self._check_wanted(session)
            session.script = await Script.start(
                source, str(config.entry_point), _environment(config), limits=self._limits, log=session.log
            )
        except BaseException as error:
            session.info.status, session.info.error = SessionStatus.FAILED, str(error) or repr(error)
            session.log.add("error", f"The script was not started: {session.info.error}")
            raise
        session.info.status = SessionStatus.RUNNING
        session.log.add("info", f"Started {config.entry_point}")
        following = asyncio.create_task(self._follow(session, session.script))
        session.tasks.add(following)
        await asyncio.wait({following}, timeout=_patience(config))
        return session.info

    async def stop(self, session_id: str, context: Any = None) -> None:
        """End a script, and forget it; one that is not known has been ended already."""
        session = self._scripts.pop(session_id, None)
        if session is None:
            return
        if session.script is not None:
            await session.script.stop("it was stopped")
        if session.info.status in _LIVE:
            session.info.status = SessionStatus.STOPPED

    async def list_sessions(self, workspace: str, context: Any = None) -> list[SessionInfo]:
        return [session.info for session in self._scripts.values() if session.info.workspace == workspace]

    async def shutdown(self, context: Any = None) -> None:
        """End all scripts."""
        await asyncio.gather(*(self.stop(session_id) for session_id in list(self._scripts)))

    def _admit(self, config: WorkerConfig) -> _Session:
        known = self._scripts.get(config.id)
        if known is not None and known.info.status in _LIVE:
            raise WorkerError(f"Session {config.id} already exists")
        running = sum(1 for session in self._scripts.values() if session.info.status in _LIVE)
        if self._limits.sessions and running >= self._limits.sessions:
            raise WorkerNotAvailableError(f"This worker runs {running} scripts already")
        log = SessionLog(max_entries=self._limits.log_entries, max_bytes=self._limits.log_bytes)
        session = self._scripts[config.id] = _Session(SessionInfo.starting(config), log)
        ended = [id for id, one in self._scripts.items() if one.info.status not in _LIVE]
        for id in ended[: max(0, len(ended) - _MAX_ENDED)]:
            del self._scripts[id]
        return session

    def _check_wanted(self, session: _Session) -> None:
        if self._scripts.get(session.info.session_id) is not session:
            raise WorkerError(f"Session {session.info.session_id} was stopped while it started")

    async def _follow(self, session: _Session, script: Script) -> None:
        """Say how a script has ended."""
        if self._scripts.get(session.info.session_id) is not session:  # stopped while its process was made
            await script.stop("it was stopped while it started")
        fault = await script.ended()
        if fault is None:
            session.info.status = SessionStatus.COMPLETED
            session.log.add("info", "The script has ended")
        else:
            session.info.status, session.info.error = SessionStatus.FAILED, f"the script failed: {fault}"
            session.log.add("error", f"The script failed: {fault}")

    async def _get_session_logs(
        self, session_id: str, log_type: str | None = None, offset: int = 0, limit: int | None = None
    ) -> dict[str, Any]:
        """What a script has printed (``stdout``, ``stderr``) and what there is to say (``info``, ``error``)."""
        return self._of(session_id).log.page(log_type, offset, limit)

    def _session(self, session_id: str) -> SessionInfo:
        return self._of(session_id).info

    def _of(self, session_id: str) -> _Session:
        session = self._scripts.get(session_id)
        if session is None:
            raise SessionNotFoundError(f"Session {session_id} not found")
        return session


def _environment(config: WorkerConfig) -> dict[str, str]:
    """Return all that a script finds in its environment: nothing of this process but where programs are."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HYPHA_SERVER_URL": config.server_url,
        "HYPHA_WORKSPACE": config.workspace,
        "HYPHA_CLIENT_ID": config.client_id,
        "HYPHA_TOKEN": config.token or "",
        "HYPHA_APP_ID": config.app_id,
    }


def _patience(config: WorkerConfig) -> float:
    """Return how long a start waits for the end of its script: not until its own time is over."""
    with suppress(TypeError, ValueError):
        return min(_WAIT_S, float(config.timeout or _WAIT_S) / 2)
    return _WAIT_S
