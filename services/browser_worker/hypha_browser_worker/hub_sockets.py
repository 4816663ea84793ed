from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.async_api import Frame, Page, WebSocket

__all__ = ["HubSockets"]


class HubSockets:
    """The connections of one page to the hub: an app is only of use while it has one."""

    def __init__(self, server_url: str) -> None:
        self.connected = asyncio.Event()  # once it has had one
        self._hub = urlsplit(server_url).netloc
        self._open: set[WebSocket] = set()
        self._alone_since: float | None = None  # it had some, and has none any more

    def watch(self, page: Page) -> None:
        """Follow what a page, and the workers that it starts, open and close."""
        page.on("websocket", self._take)
        page.on("framenavigated", self._forget)

    def alone_s(self) -> float:
        """Return for how many seconds there has been none, after there was one."""
        return 0.0 if self._alone_since is None else time.monotonic() - self._alone_since

    def _take(self, socket: WebSocket) -> None:
        if urlsplit(socket.url).netloc != self._hub:
            return
        self.connected.set()
        self._open.add(socket)
        self._alone_since = None
        socket.on("close", self._lose)

    def _lose(self, socket: WebSocket) -> None:
        self._open.discard(socket)
        if not self._open and self._alone_since is None:
            self._alone_since = time.monotonic()

    def _forget(self, frame: Frame) -> None:
        """Those of a page that was left are closed without a word."""
        if frame.parent_frame is None and self._open:
            self._open.clear()
            self._alone_since = time.monotonic()
