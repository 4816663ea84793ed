from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hypha_common.errors import QuotaExceeded
from hypha_gateway.web_apps import Room

from .faults import AppFault, ClientGone

__all__ = ["Sending", "in_bytes"]

_MAX_EVENTS = 64
_MAX_BYTES = 32 * 2**20  # of one exchange; a service that waits for its events has one at a time
_TELL_AFTER_S = 2.0


class Sending:
    """
    The events of one service on their way to one client: one after another, and not many at once.

    Services wait until an event has been taken before they send the next; whoever does not is told to.

    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._turn = asyncio.Lock()
        self._events = 0
        self._bytes = 0
        self._gone = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def turn(self, size: int) -> AsyncIterator[None]:
        """
        Wait for one's turn, with an event of ``size`` bytes. Raises QuotaExceeded, and ClientGone.

        A service may be sending and listening at the same time: that the client is gone it learns where it listens,
        and ends. What it sends only fails when it has had time to.

        """
        if self._events >= _MAX_EVENTS or (self._bytes and self._bytes + size > _MAX_BYTES):
            raise QuotaExceeded("Wait until an event has been sent before the next one")
        self._room.take(size)
        self._events, self._bytes = self._events + 1, self._bytes + size
        self._idle.clear()
        try:
            async with self._turn:
                if not self._gone.is_set():
                    yield
                    return
            await asyncio.sleep(_TELL_AFTER_S)
            raise ClientGone("The client has left")
        finally:
            self._room.give(size)
            self._events, self._bytes = self._events - 1, self._bytes - size
            if not self._events:
                self._idle.set()

    def stop(self) -> None:
        """The client has left: nothing more is sent."""
        self._gone.set()

    async def idle(self) -> None:
        """Wait until nothing is on its way."""
        await self._idle.wait()


def in_bytes(value: Any) -> bytes:
    """Return a body, which JavaScript may give as text. Raises AppFault."""
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode(errors="replace")
    if isinstance(value, (bytes, memoryview)):
        return bytes(value)
    raise AppFault(f"a body must be bytes or text, not {type(value).__name__}")
