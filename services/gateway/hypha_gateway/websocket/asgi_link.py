from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from hypha_gateway.link import Buffers

from .events import GONE_AFTER_S, PROBE_AFTER_S, WebsocketEvents

__all__ = ["AsgiLink"]

_HIGH_WATER_BYTES = 1024 * 1024


class AsgiLink:
    """
    A websocket behind another ASGI server, such as uvicorn.

    The server owns the socket; here are only a queue of what to send, which one task empties, and the task that
    receives. Our own server uses :class:`~.socket_link.SocketLink` instead.

    """

    probe_after_s = PROBE_AFTER_S
    gone_after_s = GONE_AFTER_S
    may_idle = False

    def __init__(self, websocket: WebSocket, *, max_message_bytes: int) -> None:
        self._websocket = websocket
        self._max_message_bytes = max_message_bytes
        self._outgoing: deque[str | bytes] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._close: tuple[int, str] | None = None
        self._full = False
        self._aborted = asyncio.Event()
        self._events: WebsocketEvents | None = None
        self.remote = websocket.client.host if websocket.client else ""
        self.last_heard = time.monotonic()

    @property
    def queued_bytes(self) -> int:
        return self._queued

    async def run(self, events: WebsocketEvents) -> None:
        """Serve the accepted websocket until it ends."""
        self._events = events
        tasks = [
            asyncio.create_task(self._receive()),
            asyncio.create_task(self._send()),
            asyncio.create_task(self._wait_abort()),
        ]
        code = 1006
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            code = next((task.result() for task in done if not task.cancelled() and not task.exception()), 1006)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            events.on_closed(code)

    def send_control(self, message: Mapping[str, Any]) -> None:
        self._queue(json.dumps(message))

    def send_binary(self, parts: Buffers) -> None:
        self._queue(b"".join(parts))

    def ping(self) -> None:
        """The ASGI server pings on its own account."""

    def close(self, code: int, reason: str, *, hear_out: bool = False) -> None:
        if self._close is None:
            self._close = (code, reason.encode(errors="replace")[:123].decode("utf-8", "ignore"))
            self._reading.set()
            self._wake.set()
            if self._events is not None:
                self._events.on_closing(code)

    def abort(self) -> None:
        self._aborted.set()

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    def set_max_message(self, max_bytes: int) -> None:
        self._max_message_bytes = max_bytes

    def _queue(self, message: str | bytes) -> None:
        if self._close is not None:
            return
        self._outgoing.append(message)
        self._queued += len(message)
        self._wake.set()
        if self._queued > _HIGH_WATER_BYTES and not self._full and self._events is not None:
            self._full = True
            self._events.on_full()

    async def _receive(self) -> int:
        assert self._events is not None
        while True:
            await self._reading.wait()
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or 1005)
            self.last_heard = time.monotonic()
            text, data = message.get("text"), message.get("bytes")
            if len(text or data or "") > self._max_message_bytes:
                self.close(1009, f"Message too big: more than {self._max_message_bytes} bytes")
            elif self._close is not None:
                continue
            elif text is not None:
                self._events.on_text(text)
            elif data is not None:
                self._events.on_binary(data)

    async def _send(self) -> int:
        assert self._events is not None
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outgoing:
                message = self._outgoing.popleft()
                self._queued -= len(message)
                try:
                    if isinstance(message, str):
                        await self._websocket.send_text(message)
                    else:
                        await self._websocket.send_bytes(message)
                except (WebSocketDisconnect, OSError, RuntimeError):
                    return 1006
                if self._full and self._queued < _HIGH_WATER_BYTES // 4:
                    self._full = False
                    self._events.on_drained()
            if self._close is not None:
                await self._websocket.close(*self._close)
                return self._close[0]

    async def _wait_abort(self) -> int:
        await self._aborted.wait()
        return 1006
