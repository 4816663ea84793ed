from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hypha_common.envelope import probe as probe_envelope
from hypha_common.errors import HyphaError, NobodyServes
from hypha_common.subjects import client_frames

__all__ = ["PROBE_INTERVAL_S", "Owing", "probe"]

PROBE_INTERVAL_S = 0.4
_TIMEOUT_S = 2.0  # a gateway that does not answer may stand still: nobody knows more than that
# A frame that was sent this long before a client came may still have met it.
_MARGIN_S = 0.1

# (workspace, client) -> session or other key of each call that it owes an answer to -> time.monotonic() of its sending
Owing = Mapping[tuple[str, str], Mapping[Any, float]]


class Bus(Protocol):
    """What probing needs of :class:`hypha_common.bus.Bus`."""

    instance_bytes: bytes

    @property
    def is_connected(self) -> bool: ...
    async def ask(self, subject: str, *payload: bytes | memoryview, timeout: float) -> Any: ...


async def probe(bus: Bus, owing: Callable[[], Owing], lost: Callable[[tuple[str, str], list[Any]], None]) -> None:
    """
    Ask after clients that owe an answer for a while: does one still listen, and since when? Runs for ever.

    A client may be gone, perhaps with its gateway, or may have come back after a call was sent to it; then it never
    heard of the call, or has forgotten it. ``lost(client, calls)`` is told; otherwise a caller would wait in vain.

    """
    asking: dict[tuple[str, str], asyncio.Task[None]] = {}
    seen: set[tuple[str, str]] = set()
    try:
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            now = owing()
            for client in seen & now.keys() - asking.keys() if bus.is_connected else ():
                task = asyncio.create_task(_ask(bus, client, dict(now[client]), lost))
                asking[client] = task
                task.add_done_callback(lambda _, client=client: asking.pop(client, None))  # type: ignore[misc]
            seen = set(now)
    finally:
        for task in list(asking.values()):
            task.cancel()


async def _ask(
    bus: Bus,
    client: tuple[str, str],
    calls: dict[Any, float],
    lost: Callable[[tuple[str, str], list[Any]], None],
) -> None:
    asked = time.monotonic()
    try:
        age_s = await bus.ask(client_frames(*client), probe_envelope(bus.instance_bytes), timeout=_TIMEOUT_S)
    except NobodyServes:
        # What is sent from now on may find somebody again.
        lost(client, list(calls))
        return
    except HyphaError:
        return
    # It was there already when it answered, after we asked: it came no earlier than this.
    came = asked - age_s
    forgotten = [call for call, sent in calls.items() if sent < came - _MARGIN_S]
    if forgotten:
        lost(client, forgotten)
