from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import structlog

if TYPE_CHECKING:
    from playwright.async_api import Frame, Request, Route

    from .app_config import AppConfig

__all__ = ["AppFiles"]

log = structlog.get_logger(__name__)

_READ = ("GET", "HEAD")
_PLACELESS = ("about:", "blob:", "data:")
# A page of the hub's users runs in a sandbox, because its readers are logged in there. Here nobody is: this browser
# context is the app's own. The rest is about how the body travelled.
_DROPPED = frozenset(
    {"content-encoding", "content-length", "content-security-policy", "transfer-encoding", "connection"}
)


class AppFiles:
    """
    Gives a page the files of its own app, fetched with the token of its instance.

    Neither the page nor its address has to know the token for that; no frame of another origin gets anything.

    """

    def __init__(self, app: AppConfig) -> None:
        self._app = app

    def covers(self, url: str) -> bool:
        return url.startswith(self._app.files_url)

    async def handle(self, route: Route) -> None:
        """Answer a request of the page below the app's files."""
        from playwright.async_api import Error

        request = route.request
        try:
            if request.method not in _READ or "authorization" in request.headers or not self._is_the_apps(request):
                await route.continue_()
                return
            headers = {**request.headers, "authorization": f"Bearer {self._app.token}"}
            url = self._address(request.url)
            if request.is_navigation_request():
                await self._show(route, url, headers)
            else:
                # Not through us: it may be large. It comes from the hub itself, which redirects nobody with this.
                await route.continue_(url=url, headers=headers)
        except Error as error:
            # Mostly because the page went away meanwhile.
            log.info("file_not_served", session=self._app.session_id, error=str(error).partition("\n")[0])
            with suppress(Error):
                await route.abort()

    async def _show(self, route: Route, url: str, headers: Mapping[str, str]) -> None:
        response = await route.fetch(
            url=url, headers=dict(headers), max_redirects=0, timeout=self._app.timeout_s * 1000
        )
        kept = {name: value for name, value in response.headers.items() if name.lower() not in _DROPPED}
        await route.fulfill(response=response, headers=kept)

    def _address(self, url: str) -> str:
        """Return an address of the same file, of the version that was started."""
        parts = urlsplit(url)
        query = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **self._app.view, "use_proxy": "true"}
        return urlunsplit(parts._replace(query=urlencode(query), fragment=""))

    def _is_the_apps(self, request: Request) -> bool:
        """Tell whether the app's own page asks, not one of another origin that it has in a frame."""
        frame: Frame | None = request.frame
        if request.is_navigation_request() and frame is not None:
            frame = frame.parent_frame
            if frame is None:
                return True
        while frame is not None and frame.url.startswith(_PLACELESS):
            frame = frame.parent_frame
        return frame is not None and self.covers(frame.url)
