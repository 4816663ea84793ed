from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from hypha_common.bus import Bus
from hypha_common.errors import Unavailable
from hypha_common.rpc.probing import PROBE_INTERVAL_S
from hypha_common.subjects import client_frames, no_responders_prefix

from . import metrics

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["PROBE_TAIL", "PendingCalls"]

PROBE_TAIL = "p"  # where the bus reports that a probe found nobody: hy.n.<gateway>.p

_MAX_PER_CALLER = 4096

Callee = int | tuple[str, str]  # a connection of this gateway, or (workspace, client) elsewhere


class PendingCalls:
    """
    Calls of this gateway's clients to other clients that nobody has answered yet.

    A caller waits for its own timeout, half a minute, unless it is told that the callee is gone. A callee on this
    gateway is known to be gone when its connection ends; whoever is elsewhere is asked for with an empty frame: the bus
    answers if nobody listens there any more.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._by_caller: dict[int, OrderedDict[str, Callee]] = {}
        self._by_callee: dict[Callee, dict[tuple[int, str], tuple[Connection, str]]] = {}
        self._probed: dict[tuple[str, str], list[tuple[int, str]]] = {}  # what each owed when the last probe was sent
        self._seen: set[tuple[str, str]] = set()  # callees that owed an answer at the last look already

    def __len__(self) -> int:
        return sum(map(len, self._by_caller.values()))

    def called(self, caller: Connection, session: str, callee: Callee, to: str) -> None:
        """``caller`` waits for the answer to ``session``, which it sent to ``to``."""
        sessions = self._by_caller.get(caller.number)
        if sessions is None:
            sessions = self._by_caller[caller.number] = OrderedDict()
        sessions[session] = callee
        self._by_callee.setdefault(callee, {})[caller.number, session] = (caller, to)
        if len(sessions) > _MAX_PER_CALLER:  # answers that came in pieces are never seen whole here
            oldest = next(iter(sessions))
            self.answered(caller.number, oldest)

    def waits(self, caller: int) -> bool:
        return caller in self._by_caller

    def answered(self, caller: int, session: str) -> None:
        sessions = self._by_caller.get(caller)
        callee = sessions.pop(session, None) if sessions is not None else None
        if sessions is None or callee is None:
            return
        if not sessions:
            del self._by_caller[caller]
        calls = self._by_callee[callee]
        del calls[caller, session]
        if not calls:
            del self._by_callee[callee]

    def refused(self, caller: Connection, session: str, to: str, *, reason: str) -> None:
        """Tell a caller that the callee of one of its calls is not there; ``reason`` is one word, for operators."""
        self.answered(caller.number, session)
        metrics.PEER_NOT_FOUND.labels(reason).inc()
        caller.reject(session, to, f"Target peer {to} is not connected")

    def gone(self, callee: Callee, *, reason: str = "left") -> None:
        """Tell everybody who waits for ``callee``."""
        for (_, session), (caller, to) in list(self._by_callee.get(callee, {}).items()):
            self.refused(caller, session, to, reason=reason)

    def probe_failed(self, callee: tuple[str, str]) -> None:
        """Nobody listened when a probe was sent. What was called after it may have found somebody again."""
        calls = self._by_callee.get(callee, {})
        for key in self._probed.pop(callee, ()):
            if key in calls:
                caller, to = calls[key]
                self.refused(caller, key[1], to, reason="silent")

    def released(self, caller: Connection) -> None:
        """Forget the calls of a connection that has ended, and fail those that it was to answer."""
        for session in list(self._by_caller.get(caller.number, ())):
            self.answered(caller.number, session)
        self.gone(caller.number)

    def bus_lost(self) -> None:
        """Answers from elsewhere may have been lost: whoever waits for one is told."""
        for callee in [callee for callee in self._by_callee if isinstance(callee, tuple)]:
            self.gone(callee, reason="bus_lost")

    async def watch(self) -> None:
        """Look after the callees that owe an answer for a while; runs for the life of the gateway."""
        reply = f"{no_responders_prefix(self._bus.instance)}.{PROBE_TAIL}"
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            owing = {callee for callee in self._by_callee if isinstance(callee, tuple)}
            self._probed.clear()
            for workspace, client in owing & self._seen:
                try:
                    self._bus.publish(client_frames(workspace, client), b"", reply=reply)
                except Unavailable:
                    break
                self._probed[workspace, client] = list(self._by_callee[workspace, client])
            self._seen = owing
