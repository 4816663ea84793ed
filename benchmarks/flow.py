from __future__ import annotations

import asyncio
import time

import msgpack

from .raw_connection import RawConnection

__all__ = ["Flow", "check_routed"]


class Flow:
    """
    A sender and a receiver with a fixed number of messages between them.

    Both ends are in this process, so the arrival of one message at the receiver is what sends the next one: no
    acknowledgement travels through the server.

    """

    def __init__(
        self,
        sender: RawConnection,
        receiver: RawConnection,
        message: bytes,
        *,
        in_flight: int,
        min_bytes: int,
    ) -> None:
        self._sender = sender
        self._receiver = receiver
        self._message = message
        self._in_flight = in_flight
        self._min_bytes = min_bytes
        self._outstanding = 0
        self._stopping = False
        self._sent_at = 0.0
        self._drained = asyncio.Event()
        self.received = 0
        self.latencies_s: list[float] = []
        self.max_samples = 200_000

    def start(self) -> None:
        self._receiver.on_message = self._on_sequential if self._in_flight == 1 else self._on_windowed
        for _ in range(self._in_flight):
            self._send()

    async def stop(self, timeout_s: float) -> None:
        """Let what is under way arrive; what does not within the time was lost, and that is an error."""
        self._stopping = True
        if self._outstanding:
            try:
                await asyncio.wait_for(self._drained.wait(), timeout_s)
            except TimeoutError:
                raise RuntimeError(f"{self._outstanding} messages were lost") from None
        self._receiver.on_message = None

    def _send(self) -> None:
        self._outstanding += 1
        self._sent_at = time.perf_counter()
        self._sender.send(self._message)

    def _on_sequential(self, size: int) -> None:
        if len(self.latencies_s) < self.max_samples:
            self.latencies_s.append(time.perf_counter() - self._sent_at)
        self._on_windowed(size)

    def _on_windowed(self, size: int) -> None:
        if size < self._min_bytes:
            raise RuntimeError(f"a message of {size} bytes arrived where at least {self._min_bytes} were sent")
        self.received += 1
        self._outstanding -= 1
        if not self._stopping:
            self._outstanding += 1
            self._sent_at = time.perf_counter()
            self._sender.send(self._message)
        elif not self._outstanding:
            self._drained.set()


def check_routed(raw: bytes, *, sender: str, receiver: str, payload: bytes) -> None:
    """Refuse to measure a server that does not stamp identities or does not keep the payload."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(raw)
    header, extra = unpacker
    if (header["from"], header["to"]) != (sender, receiver) or "user" not in header or "ws" not in header:
        raise RuntimeError(f"unexpected header after routing: {header}")
    if extra["args"][0] != payload:
        raise RuntimeError("the payload was changed on the way")
