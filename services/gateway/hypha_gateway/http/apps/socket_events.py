from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from hypha_gateway.http.responses import Message, Receive

__all__ = ["End", "SocketEvents"]

_AHEAD_BYTES = 256 * 1024
_TOO_BIG = 1009


@dataclass(frozen=True, slots=True)
class End:
    """How a websocket has ended, or is to be."""

    code: int
    reason: str = ""


class SocketEvents:
    """
    What a service is told of one websocket: what its client sends, in order, then how that has ended.

    Messages are read a little ahead of the service and no further, so that TCP slows down who sends them.

    """

    def __init__(self, receive: Receive, *, max_message_bytes: int) -> None:
        self._receive = receive
        self._max_message_bytes = max_message_bytes
        self._events: deque[tuple[dict[str, Any], int]] = deque()
        self._size = 0
        self._end: End | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()

    async def read(self) -> End:
        """Read until the client has left, or has sent more than it may; return how it ended."""
        while self._end is None:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self.end(End(int(message.get("code") or 1005), str(message.get("reason") or "")))
                break
            event, size = _event_of(message)
            if size > self._max_message_bytes:
                self.end(End(_TOO_BIG, f"Message too big: more than {self._max_message_bytes} bytes"))
                break
            self._events.append((event, size))
            self._size += size
            self._news.set()
            while self._size >= _AHEAD_BYTES and self._end is None:
                self._room.clear()
                await self._room.wait()
        return self._end or End(1006)

    async def next(self) -> dict[str, Any]:
        """Return the next event, for the service."""
        async with self._turn:  # who asks first is told first
            while not self._events:
                if self._end is not None:
                    return {"type": "websocket.disconnect", "code": self._end.code, "reason": self._end.reason}
                self._news.clear()
                await self._news.wait()
            event, size = self._events.popleft()
            self._size -= size
            self._room.set()
            return event

    def end(self, end: End) -> None:
        """This is how it ends; what has come before is told first."""
        self._end = self._end or end
        self._news.set()
        self._room.set()


def _event_of(message: Message) -> tuple[dict[str, Any], int]:
    """Return what a server has received without what says nothing, and its size in bytes."""
    if message["type"] != "websocket.receive":
        return {"type": message["type"]}, 0
    data, text = message.get("bytes"), message.get("text")
    if data is not None:
        return {"type": "websocket.receive", "bytes": data}, len(data)
    return {"type": "websocket.receive", "text": text}, len(str(text).encode(errors="replace"))
