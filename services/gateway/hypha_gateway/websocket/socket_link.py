from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from hypha_gateway.link import Buffers

from .events import GONE_AFTER_S, PROBE_AFTER_S, WebsocketEvents
from .frames import FrameReader, Opcode, ProtocolError, close_payload, frame_head

__all__ = ["SocketLink"]

_CLOSE_TIMEOUT_S = 3.0
_JOIN_BYTES = 8 * 1024  # up to here one copy is cheaper than another buffer in the system call


class SocketLink(asyncio.BufferedProtocol):
    """A websocket on a plain transport, after the upgrade. The fast path: no task and no copy a message."""

    probe_after_s = PROBE_AFTER_S
    gone_after_s = GONE_AFTER_S
    may_idle = False

    def __init__(
        self,
        transport: asyncio.Transport,
        *,
        events: Callable[[SocketLink], WebsocketEvents],
        max_message_bytes: int,
        high_water_bytes: int,
    ) -> None:
        self._transport = transport
        self._reader = FrameReader(max_bytes=max_message_bytes)
        self._closing = False
        self._close_code = 1006
        self._hears_out = False
        self._paused = False
        self._ended = False
        self._discarding = False
        self._full = False
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if isinstance(peer, tuple) else ""
        self.last_heard = time.monotonic()
        transport.set_write_buffer_limits(high=high_water_bytes, low=high_water_bytes // 4)
        self._events = events(self)

    # What the connection calls.

    @property
    def queued_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def send_control(self, message: Mapping[str, Any]) -> None:
        self._send(Opcode.TEXT, json.dumps(message).encode())

    def send_binary(self, parts: Buffers) -> None:
        if self._closing:
            return
        size = sum(map(len, parts))
        head = frame_head(Opcode.BINARY, size)
        if size <= _JOIN_BYTES:
            self._transport.write(b"".join((head, *parts)))
        else:
            self._transport.writelines((head, *parts))

    def ping(self) -> None:
        self._send(Opcode.PING, b"")

    def close(self, code: int, reason: str, *, hear_out: bool = False) -> None:
        if self._closing:
            return
        self._hears_out = hear_out
        self._send(Opcode.CLOSE, close_payload(code, reason))
        self._closing = True
        self._close_code = code
        self._events.on_closing(code)
        if not hear_out:  # else whoever paused it resumes it
            self.resume_reading()  # the peer's close frame ends the handshake
        asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        self._closing = True
        self._transport.abort()

    def pause_reading(self) -> None:
        if not self._paused and (not self._closing or self._hears_out):
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def set_max_message(self, max_bytes: int) -> None:
        self._reader.max_bytes = max_bytes

    # What the event loop calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._discarding:
            return
        self.last_heard = time.monotonic()
        try:
            for opcode, payload in self._reader.received(nbytes):
                self._message(opcode, payload)
        except ProtocolError as error:
            self._fail(error)

    def feed(self, data: bytes) -> None:
        """Take what arrived together with the upgrade request."""
        try:
            for opcode, payload in self._reader.feed(data):
                self._message(opcode, payload)
        except ProtocolError as error:
            self._fail(error)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._full = True
        self._events.on_full()

    def resume_writing(self) -> None:
        self._full = False
        self._events.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._closing = True
            self._events.on_closed(self._close_code)

    def _message(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.BINARY:
            if not self._closing or self._hears_out:
                self._events.on_binary(payload)
        elif opcode is Opcode.TEXT:
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                raise ProtocolError(1007, "Text is not UTF-8") from None
            if not self._closing:
                self._events.on_text(text)
        elif opcode is Opcode.PING:
            if not self._full:  # whoever does not read needs no more answers
                self._send(Opcode.PONG, payload)
        elif opcode is Opcode.CLOSE:
            self._closed_by_peer(payload)

    def _closed_by_peer(self, payload: bytes) -> None:
        if len(payload) == 1:
            raise ProtocolError(1002, "Invalid close frame")
        if not self._closing:
            self._close_code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self._send(Opcode.CLOSE, payload[:2])
            self._closing = True
        self._transport.close()

    def _fail(self, error: ProtocolError) -> None:
        """Tell the peer why; what it still sends until it reads that is neither parsed nor kept."""
        self._discarding = True
        self._reader = FrameReader(max_bytes=0)
        self.close(error.code, error.reason)

    def _send(self, opcode: Opcode, payload: bytes) -> None:
        if not self._closing:
            self._transport.write(frame_head(opcode, len(payload)) + payload)
