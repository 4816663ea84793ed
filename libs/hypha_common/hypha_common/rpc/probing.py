from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from hypha_common.ids import Address
from hypha_common.subjects import client_frames, encode_token

__all__ = ["PROBE_INTERVAL_S", "probe"]

PROBE_INTERVAL_S = 0.4


class Bus(Protocol):
    """What probing needs of :class:`hypha_common.bus.Bus`."""

    @property
    def is_connected(self) -> bool: ...
    def publish(self, subject: str, payload: bytes, *, reply: str = "") -> None: ...


async def probe(bus: Bus, owing: Callable[[], list[tuple[str, Address]]], *, reply_prefix: str) -> None:
    """
    Ask after clients that owe an answer for a while: an empty frame to where they listen. Runs for ever.

    A client that is gone, perhaps with its gateway, is reported by the bus at ``<reply_prefix>.<session>``; otherwise
    we would wait in vain. ``owing()`` returns the (session, client) of each call that is not answered.

    """
    seen: set[str] = set()
    while True:
        await asyncio.sleep(PROBE_INTERVAL_S)
        calls = owing()
        for session, to in calls:
            if session in seen and bus.is_connected:
                reply = f"{reply_prefix}.{encode_token(session)}"
                bus.publish(client_frames(to.workspace, to.client), b"", reply=reply)
        seen = {session for session, _ in calls}
