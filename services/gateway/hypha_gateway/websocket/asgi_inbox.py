from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

__all__ = ["AsgiInbox"]

_AHEAD_BYTES = 1024 * 1024


class AsgiInbox:
    """The messages of a websocket that its ASGI application has not taken yet: about a MiB of them, or a large one."""

    def __init__(self) -> None:
        self._messages: deque[tuple[dict[str, Any], int]] = deque()
        self._size = 0
        self._closed = False
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self._size > _AHEAD_BYTES and not self._closed

    def put(self, message: dict[str, Any], size: int = 0) -> None:
        self._messages.append((message, size))
        self._size += size
        self._news.set()

    async def room(self) -> None:
        """Wait until there is room for more."""
        while self.is_full:
            self._room.clear()
            await self._room.wait()

    async def get(self) -> dict[str, Any]:
        while not self._messages:
            self._news.clear()
            await self._news.wait()
        message, size = self._messages.popleft()
        self._size -= size
        self._room.set()
        return message

    def close(self) -> None:
        """Nobody is kept waiting for room any more."""
        self._closed = True
        self._room.set()

    def clear(self) -> None:
        """Nobody will take anything any more."""
        self._messages.clear()
        self._size = 0
        self.close()
