from __future__ import annotations

from typing import Any

from hypha_common.ids import Address
from hypha_gateway.pending import PendingCalls


class Caller:
    """What PendingCalls needs of a connection; it keeps the rejections."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.address = Address("ws", "mover")
        self.rejected: list[tuple[str, str]] = []

    def reject(self, session: str, to: str, text: str) -> None:
        assert text == f"Target peer {to} is not connected any more; it may have run the call"
        self.rejected.append((session, to))


class SilentBus:
    instance = "aaaaaaaa"


def pending() -> PendingCalls:
    bus: Any = SilentBus()
    return PendingCalls(bus)


def test_callers_of_a_connection_that_ended_are_told_once() -> None:
    calls, one, other = pending(), Caller(1), Caller(2)
    calls.called(one, "s1", 9, "ws/callee")
    calls.called(other, "s2", 9, "ws/callee")
    calls.called(other, "s3", 8, "ws/another")
    calls.released(Caller(9))
    calls.gone(9)
    assert (one.rejected, other.rejected) == ([("s1", "ws/callee")], [("s2", "ws/callee")])
    assert len(calls) == 1


def test_answered_calls_are_forgotten() -> None:
    calls, one = pending(), Caller(1)
    calls.called(one, "s1", ("ws", "far"), "ws/far")
    assert calls.waits(1)
    calls.answered(1, "s1")
    calls.answered(1, "s1")
    calls.gone(("ws", "far"))
    assert not calls.waits(1)
    assert one.rejected == []


def test_a_caller_that_ended_is_not_told() -> None:
    calls, one = pending(), Caller(1)
    calls.called(one, "s1", ("ws", "far"), "ws/far")
    calls.released(one)
    calls.gone(("ws", "far"))
    assert one.rejected == []
    assert len(calls) == 0


def test_a_lost_bus_fails_only_what_went_over_it() -> None:
    calls, one = pending(), Caller(1)
    calls.called(one, "near", 9, "ws/near")
    calls.called(one, "far", ("ws", "far"), "ws/far")
    calls.bus_lost()
    assert one.rejected == [("far", "ws/far")]


def test_calls_without_end_are_bounded() -> None:
    calls, one = pending(), Caller(1)
    for number in range(5000):
        calls.called(one, f"s{number}", 9, "ws/callee")
    assert len(calls) == 4096


def test_a_connection_that_moves_takes_its_calls_and_keeps_those_that_it_owes() -> None:
    calls, mover, caller, bystander = pending(), Caller(9), Caller(1), Caller(2)
    calls.called(mover, "m1", ("ws", "far"), "ws/far")
    calls.called(mover, "m2", 1, "ws/caller")
    calls.called(caller, "c1", 9, "ws/mover")
    calls.called(bystander, "b1", 8, "ws/another")
    assert calls.of_caller(9) == [("m1", ("ws", "far"), "ws/far"), ("m2", 1, "ws/caller")]
    calls.moved(mover)
    assert not calls.waits(9)
    calls.gone(9)
    assert caller.rejected == []
    # From now on it is asked for over the bus, as others elsewhere are.
    calls.gone(("ws", "mover"))
    assert caller.rejected == [("c1", "ws/mover")]
    assert bystander.rejected == []
