from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .repository import Key

__all__ = ["Lines", "Place"]


class Place:
    """One caller's place in the line at a queue."""

    def __init__(self) -> None:
        self._turn = asyncio.Event()

    def call(self) -> None:
        self._turn.set()

    async def turn(self, timeout_s: float) -> bool:
        """Wait until it is this caller's turn to look; False where that did not come in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._turn.wait()
        called = self._turn.is_set()
        self._turn.clear()
        return called


class Lines:
    """
    Those who wait at queues on this replica, first come first served.

    Only the first of a line looks whether there is something; when it leaves, with or without a task, it is the next
    one's turn.

    """

    def __init__(self) -> None:
        self._lines: dict[Key, deque[Place]] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._lines))

    def __len__(self) -> int:
        return len(self._lines)

    @contextmanager
    def join(self, key: Key) -> Iterator[Place]:
        """Stand in line while in the context; whoever finds nobody there may look at once."""
        line = self._lines.setdefault(key, deque())
        place = Place()
        line.append(place)
        if line[0] is place:
            place.call()
        try:
            yield place
        finally:
            first = line[0] is place
            line.remove(place)
            if not line:
                del self._lines[key]
            elif first:
                line[0].call()

    def wake(self, key: Key) -> None:
        """Something may be there: let the first look."""
        line = self._lines.get(key)
        if line:
            line[0].call()

    def dissolve(self) -> None:
        """Call everybody."""
        for line in self._lines.values():
            for place in line:
                place.call()
