from __future__ import annotations

import asyncio
from typing import Any

from hypha_common.errors import QuotaExceeded

__all__ = ["Room", "WebApps"]

_ROOM_BYTES = 512 * 2**20


class Room:
    """How many bytes may wait at the same time."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def take(self, size: int) -> None:
        """Raises QuotaExceeded."""
        if size > self._left:
            raise QuotaExceeded("Too much is waiting to be read")
        self._left -= size

    def give(self, size: int) -> None:
        self._left += size


class WebApps:
    """What a gateway has open with the web services of clients."""

    def __init__(self) -> None:
        self.room = Room(_ROOM_BYTES)  # for what services send faster than their clients read, all together
        self.leaving = asyncio.Event()  # set when this gateway is about to stop
        self._calls: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def keep(self, call: asyncio.Task[Any]) -> None:
        """Hold a call that may outlive the request it was made for."""
        self._calls.add(call)
        call.add_done_callback(self._ended)

    async def close(self) -> None:
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)

    def _ended(self, call: asyncio.Task[Any]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # whoever waited has seen it
