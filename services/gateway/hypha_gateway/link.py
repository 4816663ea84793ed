from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Buffers", "Link", "LinkEvents"]

Buffers = Sequence[bytes | memoryview]


class Link(Protocol):
    """
    The transport of one client: what a connection needs of a socket, whatever server and protocol carry it.

    Sending never waits; ``queued_bytes`` says how much the peer has not taken yet.

    """

    remote: str  # address of the peer, for limits and logs
    last_heard: float  # time.monotonic() of the last sign of life
    probe_after_s: float  # of silence, from when on ping() is called every few seconds
    gone_after_s: float  # of silence, after which nobody is there
    may_idle: bool  # its clients send nothing of their own accord

    @property
    def queued_bytes(self) -> int: ...

    def send_control(self, message: Mapping[str, Any]) -> None:
        """Send a message of the server itself: ``connection_info``, ``pong``, ``error`` …"""

    def send_binary(self, parts: Buffers) -> None:
        """Send one binary message made of ``parts``."""

    def ping(self) -> None:
        """Ask the peer for a sign of life."""

    def close(self, code: int, reason: str, *, hear_out: bool = False) -> None:
        """
        Say that this is the end; the link ends soon after, whether the peer answers or not.

        With ``hear_out``, what the peer sent before it heard of it is still taken.

        """

    def abort(self) -> None:
        """End at once, without a word."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_max_message(self, max_bytes: int) -> None: ...


class LinkEvents(Protocol):
    """What every link tells its session. None of these may block or raise."""

    def on_full(self) -> None:
        """The peer reads more slowly than it is sent to."""

    def on_drained(self) -> None:
        """What was queued has been taken."""

    def on_closing(self, code: int) -> None:
        """We have said that this is the end: nothing is exchanged from here on, whenever the peer answers."""

    def on_closed(self, code: int) -> None:
        """Called exactly once, last."""
