from __future__ import annotations

from hypha_gateway.gate import Gate
from hypha_gateway.windows import (
    RECEIPT_BYTES,
    SMALL_WINDOW_BYTES,
    TOTAL_BYTES,
    WINDOW_BYTES,
    Receipts,
    SendWindows,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Sender:
    def __init__(self) -> None:
        self.resumed = 0

    def resume(self) -> None:
        self.resumed += 1


def test_full_window_holds_a_sender_until_a_receipt() -> None:
    windows, sender = SendWindows(now=Clock()), Sender()
    assert windows.charge("t", WINDOW_BYTES - 1) is None
    gate = windows.charge("t", 1)
    assert gate is not None
    gate.wait(sender)
    windows.receipt("t", RECEIPT_BYTES)
    assert sender.resumed == 1
    assert windows.charge("t", RECEIPT_BYTES - 1) is None


def test_targets_do_not_hold_each_other() -> None:
    windows = SendWindows(now=Clock())
    assert windows.charge("slow", WINDOW_BYTES) is not None
    assert windows.charge("fast", 1000) is None


def test_a_crowd_of_targets_gets_small_windows() -> None:
    """Together they would fill what the bus keeps for one reader."""
    windows, sender = SendWindows(now=Clock()), Sender()
    crowd = [f"t{number}" for number in range(TOTAL_BYTES // WINDOW_BYTES + 1)]
    for target in crowd:
        windows.charge(target, WINDOW_BYTES - 1)
    gate = windows.charge("late", SMALL_WINDOW_BYTES)
    assert gate is not None
    gate.wait(sender)
    windows.receipt("late", SMALL_WINDOW_BYTES - RECEIPT_BYTES + 1)  # a full window always earns that much
    assert sender.resumed == 1
    for target in crowd:
        windows.forget(target)
    assert windows.charge("late", SMALL_WINDOW_BYTES) is None


def test_a_target_that_is_gone_opens_its_window() -> None:
    windows, sender = SendWindows(now=Clock()), Sender()
    gate = windows.charge("t", WINDOW_BYTES)
    assert gate is not None
    gate.wait(sender)
    windows.forget("t")
    assert sender.resumed == 1
    assert len(windows) == 0


def test_receipts_that_stop_coming_open_the_window_after_a_while() -> None:
    """The receiving gateway was killed with bytes on the way: nobody waits for ever."""
    clock, sender = Clock(), Sender()
    windows = SendWindows(now=clock)
    gate = windows.charge("t", WINDOW_BYTES)
    assert gate is not None
    gate.wait(sender)
    clock.now = 4
    windows.sweep()
    assert sender.resumed == 0
    clock.now = 6
    windows.sweep()
    assert sender.resumed == 1


def test_idle_windows_are_dropped() -> None:
    clock = Clock()
    windows = SendWindows(now=clock)
    windows.charge("t", 100)
    clock.now = 31
    windows.sweep()
    assert len(windows) == 0


def test_receipts_are_sent_when_they_are_worth_it() -> None:
    receipts = Receipts()
    assert receipts.add("gatewayA", 100) == 100
    assert receipts.due() == []
    receipts.add("gatewayA", RECEIPT_BYTES)
    receipts.add("gatewayB", 5)
    assert receipts.due() == [("gatewayA", RECEIPT_BYTES + 100)]
    assert receipts.due() == []


def test_a_gate_lets_everybody_on_once() -> None:
    gate, first, second = Gate(), Sender(), Sender()
    gate.wait(first)
    gate.wait(second)
    gate.open()
    gate.open()
    assert (first.resumed, second.resumed) == (1, 1)
