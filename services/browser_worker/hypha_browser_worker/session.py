from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from hypha.workers.base import SessionInfo, SessionStatus, WorkerError, WorkerNotAvailableError
from hypha.workers.log import SessionLog
from hypha_common.errors import BadRequest

from .app_files import AppFiles
from .hub_sockets import HubSockets
from .injection import cookies_of, init_script, with_parameters
from .outbound import OutboundRefused
from .page_options import page_options
from .page_words import plain, reason, thrown, told

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, ConsoleMessage, Page, Response, Route

    from .app_config import AppConfig
    from .browsers import Browsers, Lease
    from .outbound import Outbound

__all__ = ["Session"]

log = structlog.get_logger(__name__)

_LIVE = (SessionStatus.STARTING, SessionStatus.RUNNING)
_FORMATS = ("png", "jpeg")
_SCREENSHOT_TIMEOUT_S = 20.0
_CRASHED = "its page crashed, as one does that needs more memory than there is"
_CLOSED = "its page was closed"
_CLOSED_AFTER_S = 0.5
_SCRIPT_TIME_S = 5.0
_MAX_ERRORS_TOLD = 5
# What templates/pages/page.js.jinja promises.
_STARTED = "async () => { await window.__HYPHA_STARTED__; }"


class Session:
    """One instance of an app: a browser context of its own, with one page."""

    def __init__(self, app: AppConfig, on_failed: Callable[[Session], None]) -> None:
        self.app = app
        self.log = SessionLog(secrets=(app.token,))
        self.info = SessionInfo(
            app.session_id, app.app_id, app.workspace, app.client_id, SessionStatus.STARTING, app.app_type,
            datetime.now(UTC).isoformat(), app.entry_point,
        )  # fmt: skip
        self._on_failed = on_failed
        self._lease: Lease | None = None
        self._page: Page | None = None
        self.sockets = HubSockets(app.server_url)
        self._started = time.monotonic()
        self._split: dict[str, int] = {}  # milliseconds that the parts of the start took

    @property
    def is_live(self) -> bool:
        return self.info.status in _LIVE

    async def start(self, browsers: Browsers, outbound: Outbound | None, operators: Mapping[str, Any]) -> None:
        """
        Open the page; returns when it is loaded. Whatever is raised, :meth:`close` has to follow.

        Raises BadRequest for a manifest that cannot be, WorkerNotAvailableError, WorkerError with the page's errors.

        """
        from playwright.async_api import Error

        app = self.app
        options, cookies, script = page_options(operators, app.manifest), cookies_of(app), init_script(app)
        if outbound is not None and not app.is_own and app.url.startswith("http"):
            await self._check(outbound)
        try:
            async with asyncio.timeout(app.timeout_s):
                self._lease = await browsers.lease(options, self.fail)
                self._mark("context_ms")
                self._split["launch_ms"] = self._lease.launch_ms
                self._split["context_ms"] -= self._lease.launch_ms
                assert self._lease.context is not None
                page = await self._prepare(self._lease.context, cookies, script, operators)
                await self._load(page)
                await self._run_startup_script(page)
                await self._await_script(page)
        except TimeoutError:
            raise WorkerError(self._explained(f"The page was not loaded within {app.timeout_s:g} s")) from None
        except Error as error:
            raise WorkerError(self._explained(self.info.error or reason(error))) from None
        if self.info.status is not SessionStatus.STARTING:
            raise WorkerError(self.info.error or "It was stopped while it started")
        self.info.status = SessionStatus.RUNNING
        log.info("session_started", session=app.session_id, type=app.app_type, **self._split)

    async def close(self, browsers: Browsers) -> None:
        """Close the page, whatever it does."""
        lease, self._lease = self._lease, None
        self._page = None
        if lease is not None:
            await browsers.give_back(lease)

    def fail(self, reason: str) -> None:
        """Say that it has ended by itself, and why."""
        if not self.is_live:
            return
        self.info.status, self.info.error = SessionStatus.FAILED, reason
        self.log.add("error", f"The session has ended: {reason}")
        log.warning("session_failed", session=self.app.session_id, reason=reason)
        self._on_failed(self)

    async def screenshot(self, image_format: str) -> bytes:
        """Return an image of the page. Raises BadRequest, WorkerError."""
        from playwright.async_api import Error

        if image_format not in _FORMATS:
            raise BadRequest(f"format must be one of {', '.join(_FORMATS)}")
        page = self._live_page()
        try:
            kind: Any = image_format
            return await page.screenshot(type=kind, timeout=_SCREENSHOT_TIMEOUT_S * 1000)
        except Error as error:
            raise WorkerError(self.log.clean(f"There is no image of the page: {reason(error)}")) from None

    async def execute(self, script: str, timeout_s: float) -> Any:
        """Run JavaScript in the page and return what it evaluates to. Raises WorkerError with what it threw."""
        from playwright.async_api import Error

        page = self._live_page()
        try:
            async with asyncio.timeout(timeout_s):
                return plain(await page.evaluate(script))
        except TimeoutError:
            raise WorkerError(f"The script did not end within {timeout_s:g} s") from None
        except Error as error:
            raise WorkerError(self.log.clean(f"The script failed: {thrown(error)}")) from None

    async def _prepare(
        self, context: BrowserContext, cookies: list[dict[str, Any]], script: str, operators: Mapping[str, Any]
    ) -> Page:
        """Return the page, with everything in place that has to be there before it is loaded."""
        if cookies:
            found: list[Any] = cookies
            await context.add_cookies(found)
        # To the browser, a page that Playwright answers comes from nowhere, and what comes from nowhere may not
        # reach a hub in a private network without a permission.
        permissions = [*operators.get("permissions", ()), "local-network-access"]
        await context.grant_permissions(permissions, origin=self.app.origin)
        files = AppFiles(self.app)
        await context.route(files.covers, files.handle)
        if token := self.app.manifest.get("authorization_token"):
            await context.route(self._is_target, lambda route: self._authorize(route, str(token)))
        page = self._page = await context.new_page()
        page.on("console", self._take_console)
        page.on("pageerror", lambda error: self.log.add("error", told(error)))
        page.on("crash", lambda _: self.fail(_CRASHED))
        page.on("close", self._take_close)
        self.sockets.watch(page)
        # One page is what a session has: nobody would see another.
        context.on("page", self._close_other)
        if script:
            await page.add_init_script(script)
        self._mark("page_ms")
        return page

    async def _load(self, page: Page) -> None:
        app = self.app
        url = with_parameters(app) if not app.is_own and app.manifest.get("inject_auth_params") else app.url
        response: Response | None = await page.goto(url, wait_until="load", timeout=app.timeout_s * 1000)
        self._mark("load_ms")
        if response is not None and response.status != 200:
            raise WorkerError(self._explained(f"{app.entry_point} could not be loaded: status {response.status}"))

    async def _run_startup_script(self, page: Page) -> None:
        """Run a file of the app in the page; what goes wrong there is for its author to read, and no more."""
        path = self.app.manifest.get("startup_script")
        if not path:
            return
        from playwright.async_api import Error

        headers = {"authorization": f"Bearer {self.app.token}"}
        parameters: dict[str, str | float | bool] = {**self.app.view, "use_proxy": "true"}
        try:
            response = await page.context.request.get(
                self.app.file_url(str(path)), headers=headers, params=parameters, max_redirects=0
            )
            if response.status == 200:
                await page.evaluate(await response.text())
            else:
                self.log.add("console", f"[warning] startup_script {path}: status {response.status}")
        except (Error, BadRequest) as error:
            self.log.add("console", f"[warning] startup_script {path}: {reason(error)}")

    async def _await_script(self, page: Page) -> None:
        """
        Wait until the app's own script has run, as pages tell that are made from a source. Raises WorkerError.

        A script that goes on for ever is no failure: it has had its time once its page is connected.

        """
        from playwright.async_api import Error

        running = asyncio.ensure_future(page.evaluate(_STARTED))
        connected = asyncio.ensure_future(self.sockets.connected.wait())
        try:
            await asyncio.wait({running, connected}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({running}, timeout=_SCRIPT_TIME_S)
            if running.done():
                running.result()
        except Error as error:
            if "Execution context was destroyed" not in error.message:  # it went to another page by itself
                raise WorkerError(self.log.clean(f"The script of the app failed: {thrown(error)}")) from None
        finally:
            for task in (running, connected):
                task.cancel()
        self._mark("script_ms")

    async def _check(self, outbound: Outbound) -> None:
        try:
            await outbound.check(self.app.url)
        except OutboundRefused as error:
            raise BadRequest(str(error)) from None
        except OSError as error:
            raise WorkerError(f"{urlsplit(self.app.url).hostname} cannot be found: {error.strerror}") from None

    def _is_target(self, url: str) -> bool:
        return url.startswith(f"{self.app.origin}/") and not url.startswith(self.app.files_url)

    async def _authorize(self, route: Route, token: str) -> None:
        """Ask the app's own site with the token that the app is configured with; where it redirects to, without."""
        from playwright.async_api import Error

        value = token if " " in token else f"Bearer {token}"
        try:
            headers = {**route.request.headers, "authorization": value}
            response = await route.fetch(headers=headers, max_redirects=0)
            await route.fulfill(response=response)
        except Error as error:
            log.info("site_not_fetched", session=self.app.session_id, error=reason(error))
            with suppress(Error):
                await route.abort()

    def _take_console(self, message: ConsoleMessage) -> None:
        self.log.add("console", f"[{message.type}] {message.text}")

    def _take_close(self, page: Page) -> None:
        # When it is its browser that ends, that is told a moment later.
        asyncio.get_running_loop().call_later(_CLOSED_AFTER_S, self.fail, _CLOSED)

    async def _close_other(self, page: Page) -> None:
        if page is not self._page:
            self.log.add("console", "[warning] a session has one page: the one that it opened is closed")
            await page.close()

    def _live_page(self) -> Page:
        if self._page is None or not self.is_live:
            reason = self.info.error or f"it is {self.info.status}"
            raise WorkerNotAvailableError(f"Session {self.app.session_id} has no page: {reason}")
        return self._page

    def _explained(self, text: str) -> str:
        """Return a text with what the page itself says, in one line, as callers of other programs read errors."""
        said = [error.partition("\n")[0] for error in self.log.texts("error")[:_MAX_ERRORS_TOLD]]
        return self.log.clean("; ".join([text, *said]))

    def _mark(self, name: str) -> None:
        """Note the milliseconds since the mark before."""
        self._split[name] = self._passed_ms() - sum(self._split.values())

    def _passed_ms(self) -> int:
        return round((time.monotonic() - self._started) * 1000)
