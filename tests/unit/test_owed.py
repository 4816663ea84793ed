from __future__ import annotations

from hypha_gateway import owed
from hypha_gateway.owed import OwedCall, OwedCalls


class Caller:
    """Somebody who calls roles."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.partition = 0
        self.generation = 1
        self.pins: dict[str, str] = {}
        self.closed = False

    def reject(self, session: str, to: str, text: str) -> None:
        raise AssertionError(text)


def call(caller: Caller, session: str, *, instance: str = "one", payload: bytes | None = b"") -> OwedCall:
    return OwedCall(caller, "workspace", "*/manager-x", session, instance, payload)


def test_add_and_answer() -> None:
    """A call is owed by one replica until it is answered, once."""
    calls, alice = OwedCalls(), Caller(1)
    first = call(alice, "s")
    calls.add(first)
    assert (len(calls), first in calls, calls.get(1, "s")) == (1, True, first)
    assert calls.of("workspace", "one") == (first,)
    assert calls.pop(1, "s") is first
    assert calls.pop(1, "s") is None
    assert (len(calls), first in calls, calls.replicas()) == (0, False, [])


def test_same_session_again() -> None:
    """The later call takes the place of the earlier one."""
    calls, alice = OwedCalls(), Caller(1)
    first, second = call(alice, "s"), call(alice, "s", instance="two")
    calls.add(first)
    calls.add(second)
    assert (len(calls), first in calls, second in calls) == (1, False, True)
    assert calls.replicas() == [("workspace", "two")]


def test_another_replica() -> None:
    calls, alice = OwedCalls(), Caller(1)
    moved = call(alice, "s")
    calls.add(moved)
    calls.move(moved, "two")
    assert (calls.of("workspace", "one"), calls.of("workspace", "two")) == ((), (moved,))


def test_caller_that_is_gone() -> None:
    calls, alice, bob = OwedCalls(), Caller(1), Caller(2)
    for caller in (alice, bob):
        for number in range(3):
            calls.add(call(caller, f"s{number}"))
    calls.forget(alice.number)
    calls.forget(alice.number)
    assert len(calls) == 3
    assert {owing.caller for owing in calls.of("workspace", "one")} == {bob}


def test_calls_that_are_never_answered() -> None:
    """Of one caller only so many are remembered, and the later ones."""
    calls, alice = OwedCalls(), Caller(1)
    for number in range(owed.MAX_CALLS + 10):
        calls.add(call(alice, f"s{number}"))
    assert len(calls) == owed.MAX_CALLS
    assert calls.get(1, "s9") is None
    assert calls.get(1, "s10") is not None


def test_frames_that_are_kept() -> None:
    """Up to a size; what is answered makes room."""
    calls, alice, piece = OwedCalls(), Caller(1), bytes(owed.MAX_KEPT_BYTES // 4)
    for number in range(6):
        calls.add(call(alice, f"s{number}", payload=piece))
    kept = [number for number in range(6) if (found := calls.get(1, f"s{number}")) is not None and found.payload]
    assert kept == [0, 1, 2, 3]
    calls.pop(1, "s0")
    calls.add(call(alice, "more", payload=piece))
    more = calls.get(1, "more")
    assert more is not None
    assert more.payload == piece
