from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Buffers", "Link", "LinkEvents"]

Buffers = Sequence[bytes | memoryview]


class Link(Protocol):
    """
    The transport of one websocket: what a connection needs of a socket, whatever server owns it.

    Sending never waits; ``queued_bytes`` says how much the peer has not taken yet.

    """

    remote: str  # address of the peer, for limits and logs
    last_heard: float  # time.monotonic() of the last bytes of any kind

    @property
    def queued_bytes(self) -> int: ...

    def send_text(self, text: str) -> None: ...

    def send_binary(self, parts: Buffers) -> None:
        """Send one binary message made of ``parts``."""

    def ping(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake; the link ends soon after, whether the peer answers or not."""

    def abort(self) -> None:
        """End at once, without a close frame."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_max_message(self, max_bytes: int) -> None: ...


class LinkEvents(Protocol):
    """What a link tells its connection. None of these may block or raise."""

    def on_text(self, text: str) -> None: ...

    def on_binary(self, data: bytes) -> None: ...

    def on_full(self) -> None:
        """The peer reads more slowly than it is sent to."""

    def on_drained(self) -> None:
        """What was queued has been taken."""

    def on_closing(self, code: int) -> None:
        """We have said that this is the end: nothing is exchanged from here on, whenever the peer answers."""

    def on_closed(self, code: int) -> None:
        """Called exactly once, last."""
