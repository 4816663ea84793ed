from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from hypha.workers.base import WorkerNotAvailableError
from hypha_common.ids import new_id

from . import processes
from .chromium import FLAGS, may_sandbox

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Playwright

    from hypha_common.settings import Settings

__all__ = ["IDLE_S", "Browsers", "Lease"]

log = structlog.get_logger(__name__)

IDLE_S = 300.0  # until a browser that nobody needs is closed
_CLOSE_TIMEOUT_S = 5.0
_LAUNCH_TIMEOUT_S = 60.0
_WATCH_S = 1.0
_GONE = "the browser that it ran in ended unexpectedly"


class Lease:
    """A context of one's own in some browser, until :meth:`give_back`."""

    def __init__(self, running: _Running, on_gone: Callable[[str], None]) -> None:
        self.context: BrowserContext | None = None
        self.running = running
        self.on_gone = on_gone  # called with a reason where the browser ends first; neither blocks nor raises
        self.launch_ms = 0  # what it took to have a browser


class _Running:
    """One browser process."""

    def __init__(self, browser: Browser, mark: str) -> None:
        self.browser = browser
        self.mark = mark  # in its command line: Playwright does not say which process it is
        self.pid: int | None = None
        self.leases: set[Lease] = set()
        self.retired = False  # takes no more
        self.idle_since = time.monotonic()


class Browsers:
    """
    The Chromium that apps run in: started when the first is needed, replaced when it has grown too large, closed when
    nobody has needed it for some minutes.

    """

    def __init__(
        self, settings: Settings, executable: str | None, *, flags: tuple[str, ...] = (), idle_s: float = IDLE_S
    ) -> None:
        self._executable = executable
        self._flags = (*FLAGS, *flags)
        self._sandbox = may_sandbox(settings)
        self._max_bytes = settings.max_browser_memory * 2**20
        self._idle_s = idle_s
        self._playwright: Playwright | None = None
        self._running: list[_Running] = []
        self._lock = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._running)

    @property
    def pids(self) -> list[int]:
        """The browsers that run, as far as their processes can be told."""
        return [running.pid for running in self._running if running.pid is not None]

    async def lease(self, options: Mapping[str, Any], on_gone: Callable[[str], None]) -> Lease:
        """Open a context. Raises WorkerNotAvailableError where no browser starts."""
        from playwright.async_api import Error

        for last in (False, True):
            started = time.monotonic()
            async with self._lock:
                running = await self._usable()
                lease = Lease(running, on_gone)
                running.leases.add(lease)
            lease.launch_ms = round((time.monotonic() - started) * 1000)
            try:
                lease.context = await running.browser.new_context(**options)
            except Error as error:
                running.leases.discard(lease)
                # One that ended this moment is no fault of whoever comes; the next one may start.
                if last or running.browser.is_connected():
                    raise WorkerNotAvailableError(f"The browser opens no page: {_first_line(error)}") from None
                self._lost(running)
            except BaseException:
                await self.give_back(lease)
                raise
            else:
                return lease
        raise AssertionError("unreachable")

    async def give_back(self, lease: Lease) -> None:
        """Close a context, whatever it does."""
        from playwright.async_api import Error

        running = lease.running
        running.leases.discard(lease)
        running.idle_since = time.monotonic()
        if lease.context is not None and running in self._running:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await lease.context.close()
            except TimeoutError:
                log.warning("context_not_closed", browser=running.pid)
                running.retired = True
            except Error as error:
                log.info("context_not_closed", browser=running.pid, error=_first_line(error))
        if running.retired and not running.leases:
            await self._close(running)

    async def close(self) -> None:
        """Close everything."""
        async with self._lock:
            if self._watching is not None:
                self._watching.cancel()
            await self._close_all()

    async def _usable(self) -> _Running:
        for running in list(self._running):
            if running.retired:
                continue
            if not running.browser.is_connected():
                self._lost(running)
            elif (size := self._size(running)) > self._max_bytes:
                running.retired = True
                log.warning("browser_replaced", browser=running.pid, mib=size // 2**20, apps=len(running.leases))
                if not running.leases:
                    await self._close(running)
            else:
                return running
        running = await self._launch()
        self._running.append(running)
        running.browser.on("disconnected", lambda _: self._lost(running))
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        return running

    async def _launch(self) -> _Running:
        from playwright.async_api import Error, async_playwright

        mark = f"--hypha-browser={new_id()}"
        while True:
            known = self._playwright is not None
            try:
                if self._playwright is None:
                    manager = async_playwright()
                    self._playwright = await manager.start()
                    _read_end_of(manager)
                browser = await self._playwright.chromium.launch(
                    executable_path=self._executable,
                    args=[*self._flags, mark],
                    chromium_sandbox=self._sandbox,
                    env=_environment(),
                    handle_sigint=False,
                    handle_sigterm=False,
                    handle_sighup=False,
                    timeout=_LAUNCH_TIMEOUT_S * 1000,
                )
            except (Error, OSError) as error:
                await self._stop_playwright()
                if known:  # Playwright's own process may have ended since it was last needed
                    continue
                log.warning("browser_not_started", error=str(error)[:2000])
                raise WorkerNotAvailableError(f"Chromium does not start: {_why_not_started(error)}") from None
            return _Running(browser, mark)

    def _size(self, running: _Running) -> int:
        return processes.private_bytes(running.pid) if running.pid is not None else 0

    def _lost(self, running: _Running) -> None:
        """Tell everybody whose context is gone with a browser."""
        if running not in self._running:
            return
        self._running.remove(running)
        log.warning("browser_ended", browser=running.pid, apps=len(running.leases))
        for lease in running.leases:
            lease.on_gone(_GONE)
        running.leases.clear()

    async def _watch(self) -> None:
        """Close what is idle; notice what has ended without a word, as where Playwright's own process was killed."""
        while self._running:
            await asyncio.sleep(min(_WATCH_S, self._idle_s))
            async with self._lock:
                for running in list(self._running):
                    if running.pid is None:
                        running.pid = await asyncio.to_thread(processes.find_descendant, running.mark)
                        log.info("browser_started", browser=running.pid, version=running.browser.version)
                    if running.pid is not None and not processes.is_alive(running.pid):
                        self._lost(running)
                    elif not running.leases and time.monotonic() - running.idle_since > self._idle_s:
                        log.info("browser_idle", browser=running.pid)
                        await self._close(running)
                if not self._running:
                    await self._stop_playwright()

    async def _close_all(self) -> None:
        await asyncio.gather(*(self._close(running) for running in list(self._running)))
        await self._stop_playwright()

    async def _close(self, running: _Running) -> None:
        from playwright.async_api import Error

        if running in self._running:
            self._running.remove(running)
        with suppress(Error, TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await running.browser.close()

    async def _stop_playwright(self) -> None:
        from playwright.async_api import Error

        playwright, self._playwright = self._playwright, None
        if playwright is not None:
            with suppress(Error, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await playwright.stop()


def _environment() -> dict[str, str | float | bool]:
    """Return what Chromium is started with: nothing that concerns this worker."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HYPHA_", "PLAYWRIGHT_"))}


def _read_end_of(manager: Any) -> None:
    """Read how its driver ends: Playwright leaves that in a future, which asyncio would report as an error of ours."""
    for name in ("_client", "_connection"):  # where it is, in one version or another
        ended = getattr(getattr(getattr(manager, name, None), "_transport", None), "on_error_future", None)
        if isinstance(ended, asyncio.Future):
            ended.add_done_callback(lambda done: done.cancelled() or done.exception())


def _why_not_started(error: BaseException) -> str:
    if "sandbox" in str(error).lower() and "--no-sandbox" not in str(error).partition("Call log")[0]:
        return "its sandbox cannot be used here, as in most containers: set HYPHA_IN_DOCKER=true to do without"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
