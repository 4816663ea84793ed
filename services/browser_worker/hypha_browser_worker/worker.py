from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from hypha.workers.base import (
    BaseWorker,
    SessionInfo,
    SessionNotFoundError,
    SessionStatus,
    WorkerConfig,
    WorkerError,
    WorkerNotAvailableError,
)
from hypha_common.errors import BadRequest

from . import metrics, templates
from .app_config import AppConfig
from .browsers import IDLE_S, Browsers
from .outbound import Outbound
from .page_options import pages_of_environment
from .session import Session

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["APP_TYPES", "BrowserWorker"]

log = structlog.get_logger(__name__)

APP_TYPES = ("web-python", "web-worker", "window", "iframe", "hypha", "web-app")
_EXECUTE_TIMEOUT_S = 30.0
_MAX_EXECUTE_TIMEOUT_S = 3600.0
_LOOK_S = 5.0
_ALONE_LIMIT_S = 300.0  # longer than a client waits between two attempts to come back
_MAX_ENDED_BYTES = 64 * 2**10  # of the log of each
_MAX_ENDED = 200  # sessions that are still told about


class BrowserWorker(BaseWorker):
    """Runs apps in Chromium, each in a browser context of its own."""

    def __init__(
        self,
        settings: Settings,
        *,
        server_url: str,
        executable: str | None,
        visibility: str = "protected",
        service_id: str = "browser-worker",
        alone_limit_s: float = _ALONE_LIMIT_S,
        idle_s: float = IDLE_S,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._server_url = server_url.rstrip("/")
        self._visibility = visibility
        self._service_id = service_id
        self._alone_limit_s = alone_limit_s
        self._idle_s = idle_s
        self._operators = pages_of_environment(os.environ)
        allowed = settings.browser_private_hosts
        self._outbound = None if "*" in allowed else Outbound([*allowed, *self._direct_hosts()])
        self._executable = executable
        self._browsers: Browsers | None = None
        self._live: dict[str, Session] = {}
        self._ended: OrderedDict[str, Session] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def supported_types(self) -> list[str]:
        return list(APP_TYPES)

    @property
    def worker_name(self) -> str:
        return "Browser worker"

    @property
    def visibility(self) -> str:
        return self._visibility

    @property
    def service_id(self) -> str:
        return self._service_id

    @property
    def use_local_url(self) -> bool | str:
        """Pages reach the hub where this process does."""
        return self._server_url

    @property
    def browsers(self) -> Browsers:
        assert self._browsers is not None
        return self._browsers

    def get_worker_service(self) -> dict[str, Any]:
        service = super().get_worker_service()
        shown = self.service_of({"take_screenshot": self.take_screenshot})
        return {**service, "take_screenshot": shown["take_screenshot"]}

    async def open(self) -> None:
        """Get ready; no browser is started before the first app."""
        flags: tuple[str, ...] = ()
        if self._outbound is not None:
            await self._outbound.start()
            proxy = {"server": f"socks5://127.0.0.1:{self._outbound.port}", "bypass": ",".join(self._direct_hosts())}
            flags = (
                f"--proxy-server={proxy['server']}",
                f"--proxy-bypass-list={';'.join(['<-loopback>', *self._direct_hosts()])}",
                # The proxy carries TCP only: no datagrams around it.
                "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
            )
            # What Playwright fetches in place of a page goes the same way as what the page fetches.
            self._operators = {**self._operators, "proxy": proxy}
        # What a page may do must not depend on whether the way to its hub is encrypted.
        flags += (f"--unsafely-treat-insecure-origin-as-secure={self._server_url}",)
        if os.environ.get("PLAYWRIGHT_DISABLE_WEB_SECURITY", "").lower() in ("1", "true", "yes", "on"):
            flags += ("--disable-web-security",)
        self._browsers = Browsers(self._settings, self._executable, flags=flags, idle_s=self._idle_s)
        self._spawn(self._look())
        metrics.WORKERS.add(self)

    def load(self) -> tuple[int, int]:
        """Return how many sessions live here, and how many browsers run."""
        return len(self._live), 0 if self._browsers is None else len(self._browsers)

    async def start(self, config: Any, context: Any = None) -> Any:
        """Start an app and return its SessionInfo as soon as its page is loaded."""
        config = WorkerConfig.of(config)
        app = AppConfig.of(config, self._server_url)
        if app.session_id in self._live:
            raise WorkerError(f"Session {app.session_id} already exists")
        if self._closing or len(self._live) >= self._settings.max_browser_sessions:
            raise WorkerNotAvailableError(
                "This browser worker is stopping" if self._closing
                else f"This browser worker runs {len(self._live)} apps, and no more (max_browser_sessions)"
            )  # fmt: skip
        session = self._live[app.session_id] = Session(app, self._take_failed)
        try:
            await self.tell_progress(config, "info", "Opening the page of the app")
            began = time.monotonic()
            await session.start(self.browsers, self._outbound, self._operators)
        except BaseException as error:
            metrics.STARTS.labels("failed").inc()
            if session.is_live:
                session.info.status, session.info.error = SessionStatus.FAILED, str(error) or repr(error)
            await self._end(session)
            raise
        metrics.STARTS.labels("started").inc()
        metrics.START_SECONDS.observe(time.monotonic() - began)
        await self.tell_progress(config, "success", "The page of the app is loaded")
        return session.info

    async def stop(self, session_id: str, context: Any = None) -> None:
        """Stop a session; one that is not known is stopped already."""
        session = self._live.get(session_id)
        if session is None:
            return
        if session.is_live:
            session.info.status = SessionStatus.STOPPING
        await self._end(session)

    async def compile(
        self,
        manifest: dict[str, Any],
        files: list[dict[str, Any]],
        config: Mapping[str, Any] | None = None,
        context: Any = None,
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Make the page of an app from its source."""
        given = {**(config or {}), "pyodide_url": self._settings.pyodide_url}
        # Plugin files may be large.
        return await asyncio.to_thread(templates.compile, manifest, files, given)

    async def execute(
        self,
        session_id: str,
        script: str,
        config: Mapping[str, Any] | None = None,
        progress_callback: Callable[..., Any] | None = None,
        context: Any = None,
    ) -> Any:
        """Evaluate JavaScript in the page of a session; ``config``: ``{timeout}`` in seconds, 30 by default."""
        if not isinstance(script, str):
            raise BadRequest("script must be text")
        timeout_s = (config or {}).get("timeout", _EXECUTE_TIMEOUT_S)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or timeout_s <= 0:
            raise BadRequest("timeout must be a number of seconds")
        session = self._find(session_id)
        await self.tell_progress({"progress_callback": progress_callback}, "info", "The script runs in the page")
        return await session.execute(script, min(float(timeout_s), _MAX_EXECUTE_TIMEOUT_S))

    async def take_screenshot(self, session_id: str, format: str = "png", context: Any = None) -> bytes:  # noqa: A002
        """Return an image of what an app shows: ``png`` or ``jpeg``."""
        return await self._find(session_id).screenshot(format)

    async def list_sessions(self, workspace: str, context: Any = None) -> list[SessionInfo]:
        return [session.info for session in self._live.values() if session.app.workspace == workspace]

    async def shutdown(self, context: Any = None) -> None:
        """Stop every session, then the browser."""
        self._closing = True
        await asyncio.gather(*(self.stop(session_id) for session_id in list(self._live)))
        for task in self._tasks:
            task.cancel()
        if self._browsers is not None:
            await self._browsers.close()
        if self._outbound is not None:
            await self._outbound.close()

    async def _end(self, session: Session) -> None:
        """Close a session, and keep what there is to tell about it for a while."""
        session_id = session.app.session_id
        try:
            await session.close(self.browsers)
        finally:
            if session.info.status is not SessionStatus.FAILED:
                session.info.status = SessionStatus.STOPPED
            if self._live.get(session_id) is session:
                del self._live[session_id]
                session.log.shrink(_MAX_ENDED_BYTES)
                self._ended[session_id] = session
                while len(self._ended) > _MAX_ENDED:
                    self._ended.popitem(last=False)
                log.info("session_ended", session=session_id, status=str(session.info.status))

    def _take_failed(self, session: Session) -> None:
        self._spawn(self._end(session))

    async def _look(self) -> None:
        """End sessions whose page has had no connection to the hub for a while: nobody can call them."""
        while True:
            await asyncio.sleep(min(_LOOK_S, self._alone_limit_s))
            for session in list(self._live.values()):
                if session.sockets.alone_s() > self._alone_limit_s:
                    session.fail("its connection to the server has ended")

    async def _get_session_logs(
        self, session_id: str, log_type: str | None = None, offset: int = 0, limit: int | None = None
    ) -> dict[str, Any]:
        """Types are ``console`` and ``error``."""
        return self._find(session_id).log.page(log_type, offset, limit)

    def _session(self, session_id: str) -> SessionInfo:
        """Return a session; for a while after it ended, too, with the reason."""
        return self._find(session_id).info

    def _find(self, session_id: str) -> Session:
        session = self._live.get(session_id) or self._ended.get(session_id)
        if session is None:
            raise SessionNotFoundError(f"Session {session_id} not found")
        return session

    def _direct_hosts(self) -> list[str]:
        """Return ``host:port`` of what pages reach without the proxy: the hub, and Pyodide."""
        public = self._settings.public_base_url if "public_base_url" in self._settings.sources else ""
        urls = (self._server_url, public, self._settings.pyodide_url)
        return list(dict.fromkeys(_host_and_port(url) for url in urls if url and url[0] != "/"))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _host_and_port(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
