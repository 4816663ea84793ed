from __future__ import annotations

from collections.abc import Callable

from .gate import Gate

__all__ = ["Receipts", "SendWindows"]

WINDOW_BYTES = 4 * 2**20
RECEIPT_BYTES = 512 * 1024  # well below the window, so that a full window always earns a receipt
_STALE_S = 5.0
_IDLE_S = 30.0


class _Window:
    __slots__ = ("gate", "outstanding", "touched")

    def __init__(self) -> None:
        self.outstanding = 0
        self.touched = 0.0
        self.gate = Gate()


class SendWindows:
    """
    Bytes sent over the bus that the receiving gateway has not written to its socket yet, by target subject.

    NATS cuts off a reader it has to buffer too much for, and a gateway's connection serves all its sockets. So a
    gateway never has more than a window per target on the way: senders wait, the bus stays shallow.

    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._windows: dict[str, _Window] = {}

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
        window.outstanding += size
        return window.gate if window.outstanding >= WINDOW_BYTES else None

    def receipt(self, subject: str, size: int) -> None:
        """The other side has written ``size`` bytes to the target."""
        window = self._windows.get(subject)
        if window is None:
            return
        window.touched = self._now()
        window.outstanding = max(0, window.outstanding - size)
        if window.outstanding < WINDOW_BYTES:
            window.gate.open()

    def forget(self, subject: str) -> None:
        """Nobody listens there: what was on the way is gone."""
        window = self._windows.pop(subject, None)
        if window is not None:
            window.gate.open()

    def sweep(self) -> None:
        """
        Open windows whose receipts stopped coming (the receiver is gone) and drop idle ones.

        A target that is alive but slow sends receipts as it reads, and one that does not read is cut off.

        """
        now = self._now()
        for subject, window in list(self._windows.items()):
            idle_s = now - window.touched
            if idle_s > (_STALE_S if window.outstanding >= WINDOW_BYTES else _IDLE_S):
                self.forget(subject)


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
