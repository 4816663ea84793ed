from __future__ import annotations

from collections.abc import Callable

from .gate import Gate

__all__ = ["Receipts", "SendWindows"]

WINDOW_BYTES = 4 * 2**20
TOTAL_BYTES = 48 * 2**20  # beyond it every target gets the small window
SMALL_WINDOW_BYTES = 256 * 1024
RECEIPT_BYTES = 128 * 1024  # well below the small window, so that a full one always earns a receipt
_STALE_S = 5.0
_IDLE_S = 30.0


class _Window:
    __slots__ = ("full", "gate", "outstanding", "touched")

    def __init__(self) -> None:
        self.outstanding = 0
        self.touched = 0.0
        self.full = False
        self.gate = Gate()

    @property
    def excess(self) -> int:
        """What no receipt that is still to be earned explains."""
        return max(0, self.outstanding - RECEIPT_BYTES)


class SendWindows:
    """
    Bytes sent over the bus that the receiving gateway has not written to its socket yet, by target subject.

    NATS cuts off a reader it has to buffer too much for, and a gateway's connection serves all its sockets. So a
    gateway never has more than a window per target on the way: senders wait, the bus stays shallow. Many targets share
    a total, or a crowd of them would add up to more than the bus keeps for the gateway that they are on.

    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._windows: dict[str, _Window] = {}
        self._excess = 0  # of all windows

    def __len__(self) -> int:
        return len(self._windows)

    def charge(self, subject: str, size: int) -> Gate | None:
        """Count a frame that is being sent; return the gate to wait at when the window is full now."""
        window = self._windows.get(subject)
        if window is None:
            window = self._windows[subject] = _Window()
            window.touched = self._now()
        if window.outstanding == 0:
            window.touched = self._now()
        self._set(window, window.outstanding + size)
        window.full = window.outstanding >= self._limit()
        return window.gate if window.full else None

    def gate(self, subject: str) -> Gate | None:
        """Return the gate to wait at where the window of a target is full."""
        window = self._windows.get(subject)
        return window.gate if window is not None and window.full else None

    def receipt(self, subject: str, size: int) -> None:
        """The other side has written ``size`` bytes to the target."""
        window = self._windows.get(subject)
        if window is None:
            return
        window.touched = self._now()
        self._set(window, max(0, window.outstanding - size))
        if window.full and window.outstanding < self._limit():
            window.full = False
            window.gate.open()

    def forget(self, subject: str) -> None:
        """Nobody listens there: what was on the way is gone."""
        window = self._windows.pop(subject, None)
        if window is not None:
            self._set(window, 0)
            window.gate.open()

    def sweep(self) -> None:
        """
        Open windows whose receipts stopped coming (the receiver is gone) and drop idle ones.

        A target that is alive but slow sends receipts as it reads, and one that does not read is cut off.

        """
        now = self._now()
        for subject, window in list(self._windows.items()):
            idle_s = now - window.touched
            if idle_s > (_STALE_S if window.full else _IDLE_S):
                self.forget(subject)

    def _limit(self) -> int:
        return WINDOW_BYTES if self._excess < TOTAL_BYTES else SMALL_WINDOW_BYTES

    def _set(self, window: _Window, outstanding: int) -> None:
        self._excess -= window.excess
        window.outstanding = outstanding
        self._excess += window.excess


class Receipts:
    """What one socket has taken from each gateway since the last receipt to it."""

    __slots__ = ("_unsent",)

    def __init__(self) -> None:
        self._unsent: dict[str, int] = {}

    def add(self, source: str, size: int) -> int:
        """Count ``size`` bytes and return what is unsent to ``source`` now."""
        total = self._unsent[source] = self._unsent.get(source, 0) + size
        return total

    def due(self) -> list[tuple[str, int]]:
        """Return and forget the (gateway, bytes) pairs that are worth a message."""
        due = [(source, size) for source, size in self._unsent.items() if size >= RECEIPT_BYTES]
        for source, _ in due:
            del self._unsent[source]
        return due
