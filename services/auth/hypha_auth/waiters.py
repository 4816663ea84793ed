from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from hypha_common.bus import Bus, Subscription
from hypha_common.subjects import broadcast

__all__ = ["Waiters"]

_TOPIC = "login"


class Waiters:
    """
    The calls of this replica that wait for a login to be completed, on whichever replica that happens.

    A wake-up is a hint: it may be lost, so whoever waits also looks from time to time.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._events: dict[str, set[asyncio.Event]] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        self._subscription = await self._bus.subscribe(broadcast(_TOPIC), self._woken)

    async def stop(self) -> None:
        if self._subscription is not None:
            self._bus.unsubscribe(self._subscription)

    @contextmanager
    def watch(self, key: str) -> Iterator[asyncio.Event]:
        """Provide an event that is set when the login ``key`` is completed."""
        event = asyncio.Event()
        self._events.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            self._events[key].discard(event)
            if not self._events[key]:
                del self._events[key]

    def wake(self, key: str) -> None:
        """Wake everybody in the cluster who waits for ``key``. Raises Unavailable while the bus is away."""
        self._bus.publish(broadcast(_TOPIC), key.encode("utf-8", "surrogatepass"))

    def _woken(self, subject: str, reply: str, payload: bytes) -> None:
        for event in self._events.get(payload.decode("utf-8", "replace"), ()):
            event.set()
