from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import structlog
from prometheus_client import Counter

from .bus import Bus
from .errors import DeadlineExceeded, HyphaError, Unavailable
from .ids import new_id
from .subjects import role_verb

__all__ = ["Audit"]

log = structlog.get_logger(__name__)

DROPPED = Counter("audit_events_dropped", "Security events that could not be kept until they were stored")

_FLUSH_S = 1.0
_RETRY_S = 5.0
_TIMEOUT_S = 2.0
_MAX_KEPT = 2000
_MAX_BATCH = 500
_MAX_CHARACTERS = 256
_MAX_DETAILS = 16

Detail: TypeAlias = str | int | float | bool
Event: TypeAlias = dict[str, Any]  # {key, at, event, user, workspace, address, details, count}
Store: TypeAlias = Callable[[list[Event]], Awaitable[None]]
_Key: TypeAlias = tuple[str, str, str, str, tuple[tuple[str, Detail], ...]]


class Audit:
    """
    Writes down security events: who logged in, was refused, issued or revoked a token …

    Recording costs a look-up in a dictionary: equal events of one second are counted, and sent to the auth service
    together. What cannot be sent is kept up to a bound; beyond it events are dropped and counted.

    Tokens, passwords and other secrets must never be part of an event.

    """

    def __init__(self, bus: Bus | None = None, *, store: Store | None = None) -> None:
        if store is None:  # then the auth service stores them
            assert bus is not None
            store = partial(_send, bus)
        self._store = store
        self._counted: dict[_Key, Event] = {}  # of this interval
        self._outgoing: list[Event] = []  # of intervals before; not acknowledged yet
        self._sending: asyncio.Task[None] | None = None

    def record(self, event: str, *, user: str = "", workspace: str = "", address: str = "", **details: Detail) -> None:
        """Note that something happened. Never raises, never waits; long texts are cut."""
        shown = tuple(sorted((_text(name), _detail(value)) for name, value in details.items()))[:_MAX_DETAILS]
        key = (_text(event), _text(user), _text(workspace), _text(address), shown)
        counted = self._counted.get(key)
        if counted is not None:
            counted["count"] += 1
            return
        if len(self._counted) + len(self._outgoing) >= _MAX_KEPT:
            DROPPED.inc()
            return
        self._counted[key] = _event(key)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send_all(), name="audit")

    async def close(self) -> None:
        """Send what is left, as far as that works at once."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._send()

    async def _send_all(self) -> None:
        pause_s = _FLUSH_S
        while self._counted or self._outgoing:
            await asyncio.sleep(pause_s)
            pause_s = _FLUSH_S if await self._send() else _RETRY_S

    async def _send(self) -> bool:
        """Send everything. What was stored without our hearing of it is sent again under the same key: stored once."""
        self._outgoing.extend(self._counted.values())
        self._counted.clear()
        while self._outgoing:
            batch = self._outgoing[:_MAX_BATCH]
            try:
                await self._store(batch)
            except (Unavailable, DeadlineExceeded) as error:
                log.warning("audit_not_stored", events=len(self._outgoing), error=str(error))
                return False
            except HyphaError as error:  # asking again would not help, and would keep others from being stored
                DROPPED.inc(len(batch))
                log.warning("audit_dropped", events=len(batch), error=str(error))
            del self._outgoing[: len(batch)]
        return True


async def _send(bus: Bus, events: list[Event]) -> None:
    await bus.request(role_verb("auth", 0, "audit"), {"events": events}, timeout=_TIMEOUT_S, attempts=2)


def _event(key: _Key) -> Event:
    event, user, workspace, address, details = key
    return {
        "key": new_id(),
        "at": time.time(),
        "event": event,
        "user": user,
        "workspace": workspace,
        "address": address,
        "details": dict(details),
        "count": 1,
    }


def _text(value: object) -> str:
    """Return text that a database can hold: no NUL, no halves of characters, not too much of it."""
    return str(value)[:_MAX_CHARACTERS].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _detail(value: object) -> Detail:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such numbers
    return value if isinstance(value, (bool, int, float)) else _text(value)
