from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hypha_common.bus import Bus
from hypha_common.rpc.probing import Owing, probe
from hypha_common.rpc.remote import peer_lost

from . import metrics

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["PendingCalls"]

_MAX_PER_CALLER = 4096

Callee = int | tuple[str, str]  # a connection of this gateway, or (workspace, client) elsewhere


class PendingCalls:
    """
    Calls of this gateway's clients to other clients that nobody has answered yet.

    A caller waits for its own timeout, half a minute, unless it is told that the callee is gone. A callee on this
    gateway is known to be gone when its connection ends; whoever is elsewhere is asked for: the bus answers if nobody
    listens there any more, and otherwise the gateway says for how long that client has been there.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._by_caller: dict[int, OrderedDict[str, Callee]] = {}
        # By caller and session: the caller, what it addressed, and when (time.monotonic()).
        self._by_callee: dict[Callee, dict[tuple[int, str], tuple[Connection, str, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_caller.values()))

    def called(self, caller: Connection, session: str, callee: Callee, to: str) -> None:
        """``caller`` waits for the answer to ``session``, which it sent to ``to``."""
        sessions = self._by_caller.get(caller.number)
        if sessions is None:
            sessions = self._by_caller[caller.number] = OrderedDict()
        sessions[session] = callee
        self._by_callee.setdefault(callee, {})[caller.number, session] = (caller, to, time.monotonic())
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

    def refused(self, caller: Connection, session: str, to: str) -> None:
        """Tell a caller that the callee of one of its calls is not there: nobody has heard of the call."""
        self._fail(caller, session, to, f"Target peer {to} is not connected", reason="nobody")

    def gone(self, callee: Callee, *, reason: str = "left") -> None:
        """Tell everybody who waits for ``callee``; ``reason`` is one word, for operators."""
        self._lost(callee, list(self._by_callee.get(callee, ())), reason=reason)

    def released(self, caller: Connection) -> None:
        """Forget the calls of a connection that has ended, and fail those that it was to answer."""
        for session in list(self._by_caller.get(caller.number, ())):
            self.answered(caller.number, session)
        self.gone(caller.number)

    def of_caller(self, caller: int) -> list[tuple[str, Callee, str]]:
        """Return the calls that a connection waits for: session, callee, and what was addressed."""
        sessions: Mapping[str, Callee] = self._by_caller.get(caller, {})
        return [(session, callee, self._by_callee[callee][caller, session][1]) for session, callee in sessions.items()]

    def moved(self, connection: Connection) -> None:
        """A connection goes on at another gateway: what it was called for, it may still answer from there."""
        for session in list(self._by_caller.get(connection.number, ())):
            self.answered(connection.number, session)
        elsewhere = (connection.address.workspace, connection.address.client)
        for (_, session), (caller, to, _) in list(self._by_callee.get(connection.number, {}).items()):
            self.answered(caller.number, session)
            self.called(caller, session, elsewhere, to)

    def bus_lost(self) -> None:
        """Answers from elsewhere may have been lost: whoever waits for one is told."""
        for callee in [callee for callee in self._by_callee if isinstance(callee, tuple)]:
            self.gone(callee, reason="bus_lost")

    async def watch(self) -> None:
        """Look after the callees that owe an answer for a while; runs for the life of the gateway."""
        await probe(self._bus, self._owing, self._lost)

    def _owing(self) -> Owing:
        return {
            callee: {key: sent for key, (_, _, sent) in calls.items()}
            for callee, calls in self._by_callee.items()
            if isinstance(callee, tuple)
        }

    def _lost(self, callee: Callee, keys: list[tuple[int, str]], *, reason: str = "silent") -> None:
        calls = self._by_callee.get(callee, {})
        for key in keys:
            if key in calls:
                caller, to, _ = calls[key]
                self._fail(caller, key[1], to, peer_lost(to), reason=reason)

    def _fail(self, caller: Connection, session: str, to: str, text: str, *, reason: str) -> None:
        self.answered(caller.number, session)
        metrics.PEER_NOT_FOUND.labels(reason).inc()
        caller.reject(session, to, text)
