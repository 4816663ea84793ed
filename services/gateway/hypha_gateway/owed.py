from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from hypha_common.trace import Span

__all__ = ["OwedCall", "OwedCalls", "RoleCaller"]

MAX_CALLS = 10_000  # of one caller
MAX_KEPT_BYTES = 8 * 2**20  # of one caller


class RoleCaller(Protocol):
    """Somebody at this gateway who calls a role: a connection, or the gateway itself for HTTP."""

    number: int
    generation: int
    pins: dict[str, str]
    closed: bool

    @property
    def partition(self) -> int:
        """Of its workspace: whose replicas it calls."""

    def reject(self, session: str, to: str, text: str, *, context: str = "") -> None:
        """Fail the caller's call ``session``; ``context`` is its trace."""


@dataclass(slots=True, eq=False)
class OwedCall:
    """
    A call that a replica has not answered yet.

    ``payload`` is kept where another replica may be given it; ``context`` is the call's trace, ``span`` where it is
    recorded.

    """

    caller: RoleCaller
    role: str
    to: str
    session: str
    instance: str
    payload: bytes | None
    context: str = ""
    span: Span | None = None
    since: float = field(default_factory=time.perf_counter)


class _OfCaller:
    __slots__ = ("calls", "kept_bytes")

    def __init__(self) -> None:
        self.calls: dict[str, OwedCall] = {}
        self.kept_bytes = 0


class OwedCalls:
    """
    The calls that roles owe answers to, by caller and session.

    A caller may never get one, because it asked for none or because it is up to no good: its oldest calls are forgotten
    beyond a number, and frames are kept up to a size. What is lost with them is only help after the death of a replica.

    """

    def __init__(self) -> None:
        self._callers: dict[int, _OfCaller] = {}
        self._replicas: dict[tuple[str, str], set[OwedCall]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, call: OwedCall) -> bool:
        return self.get(call.caller.number, call.session) is call

    def replicas(self) -> list[tuple[str, str]]:
        """Return the (role, instance) of each replica that owes something."""
        return list(self._replicas)

    def by_role(self) -> dict[str, int]:
        """Return how many calls each role owes."""
        owed: dict[str, int] = {}
        for (role, _), calls in self._replicas.items():
            owed[role] = owed.get(role, 0) + len(calls)
        return owed

    def of(self, role: str, instance: str) -> tuple[OwedCall, ...]:
        return tuple(self._replicas.get((role, instance), ()))

    def get(self, number: int, session: str) -> OwedCall | None:
        owed = self._callers.get(number)
        return None if owed is None else owed.calls.get(session)

    def of_caller(self, number: int) -> list[OwedCall]:
        owed = self._callers.get(number)
        return [] if owed is None else list(owed.calls.values())

    def add(self, call: OwedCall) -> None:
        """Remember a call, in the place of an earlier one of the same session."""
        number = call.caller.number
        self.pop(number, call.session)
        owed = self._callers.get(number)
        if owed is None:
            owed = self._callers[number] = _OfCaller()
        elif len(owed.calls) >= MAX_CALLS:
            self.pop(number, next(iter(owed.calls)))
        if call.payload is not None:
            if owed.kept_bytes + len(call.payload) > MAX_KEPT_BYTES:
                call.payload = None
            else:
                owed.kept_bytes += len(call.payload)
        owed.calls[call.session] = call
        self._count += 1
        self._replicas.setdefault((call.role, call.instance), set()).add(call)

    def pop(self, number: int, session: str) -> OwedCall | None:
        """Forget a call: it is answered, or nobody waits for it any more."""
        owed = self._callers.get(number)
        call = None if owed is None else owed.calls.pop(session, None)
        if owed is None or call is None:
            return None
        self._count -= 1
        if call.payload is not None:
            owed.kept_bytes -= len(call.payload)
        if call.span is not None:
            call.span.end()
        self._leave_replica(call)
        return call

    def move(self, call: OwedCall, instance: str) -> None:
        """Another replica owes the answer now."""
        self._leave_replica(call)
        call.instance = instance
        self._replicas.setdefault((call.role, instance), set()).add(call)

    def forget(self, number: int) -> None:
        """Forget all calls of a caller that is gone."""
        owed = self._callers.pop(number, None)
        for call in owed.calls.values() if owed is not None else ():
            self._count -= 1
            if call.span is not None:
                call.span.end()
            self._leave_replica(call)

    def _leave_replica(self, call: OwedCall) -> None:
        key = (call.role, call.instance)
        calls = self._replicas[key]
        calls.discard(call)
        if not calls:
            del self._replicas[key]
