from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from hypha_common.errors import BadRequest
from hypha_common.settings import Settings
from hypha_common.wire import pack, split_frame
from hypha_gateway.http.responses import Receive, Send
from hypha_gateway.link import Buffers, LinkEvents

__all__ = ["StreamLink"]

log = structlog.get_logger(__name__)

_HIGH_WATER_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024  # a slow reader of one long frame is seen to make progress
_CLOSE_TIMEOUT_S = 3.0

# Clients take a frame of one of these types for the server's own, whoever it is from.
_SAID_BY_US = frozenset({"connection_info", "error", "ping", "pong", "reconnection_token"})


class StreamLink:
    """
    The way to a client over one long HTTP answer: frames, each after its length (4 bytes, big endian).

    What the client sends comes by POST, see :class:`~.inbox.Inbox`. The ASGI server owns the socket; here are a queue,
    a task while something is in it, and the task that notices the end.

    """

    may_idle = True

    def __init__(self, settings: Settings, *, remote: str, abort_transport: Callable[[], None] | None) -> None:
        self.remote = remote
        self.last_heard = time.monotonic()
        self.probe_after_s = settings.stream_idle_threshold
        self.gone_after_s = math.inf  # who only listens has no way to answer: the transport must tell
        self.probe: Callable[[], bytes] | None = None  # makes a frame that the client answers
        self.events: LinkEvents | None = None
        self.code = 1006
        self.reading = asyncio.Event()
        self.reading.set()
        self._ping_interval_s = settings.stream_ping_interval
        self._patience_s = self.probe_after_s + settings.stream_max_missed_pings * self._ping_interval_s
        self._pinged_at = 0.0
        self._keep_alive_s = settings.stream_keepalive_interval
        self._sent_at = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._abort_transport = abort_transport
        self._outgoing: deque[bytes | memoryview] = deque()
        self._queued = 0
        self._full = False
        self._closing = False
        self._said_end = False
        self._told: object = None  # the reason, where an error was the last that was said
        self._send: Send | None = None
        self._sender: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(self, receive: Receive, send: Send, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the answer until the link is closed or the client has gone."""
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        self._send = send
        self._sent_at = time.monotonic()
        self._keep_alive()
        self._go_on()
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((gone, self._over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = True
            self.reading.set()
            gone.cancel()
            if self._timer is not None:
                self._timer.cancel()
            if self._sender is not None:
                self._sender.cancel()

    def heard(self) -> None:
        """The client has sent a POST."""
        self.last_heard = time.monotonic()
        self.gone_after_s = self._patience_s

    # What the connection calls.

    @property
    def queued_bytes(self) -> int:
        return self._queued

    def send_control(self, message: Mapping[str, Any]) -> None:
        self._told = message.get("message")
        self._queue(pack(message))

    def send_binary(self, parts: Buffers) -> None:
        if _looks_like_ours(parts[0]):
            log.debug("frame_dropped", reason="the client would take it for the server's own")
        else:
            self._queue(*parts)

    def ping(self) -> None:
        now = time.monotonic()
        speaks = self.gone_after_s < math.inf
        if speaks and self.probe is not None and now - self._pinged_at >= self._ping_interval_s:
            self._pinged_at = now
            self._queue(self.probe())

    def close(self, code: int, reason: str, *, hear_out: bool = False) -> None:
        if self._closing:
            return
        if reason and reason != self._told:
            self.send_control({"type": "error", "message": reason})
        self._closing = True
        self.code = code
        self.reading.set()
        if self.events is not None:
            self.events.on_closing(code)
        self._go_on()
        asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        self._closing = True
        self.reading.set()
        if self._over.done():
            return
        self._outgoing.clear()
        self._queued = 0
        if self._sender is None:
            self._go_on()
            return
        # The client does not take what it is being sent, not even the end.
        if self._abort_transport is not None:
            self._abort_transport()
        self._over.set_result(None)

    def pause_reading(self) -> None:
        if not self._closing:
            self.reading.clear()

    def resume_reading(self) -> None:
        self.reading.set()

    def set_max_message(self, max_bytes: int) -> None:
        """Each POST is limited by itself."""

    def _queue(self, *parts: bytes | memoryview) -> None:
        if self._closing:
            return
        size = sum(map(len, parts))
        self._outgoing.append(b"".join((size.to_bytes(4, "big"), *parts)))
        self._queued += size + 4
        self._go_on()
        if self._queued > _HIGH_WATER_BYTES and not self._full and self.events is not None:
            self._full = True
            self.events.on_full()

    def _go_on(self) -> None:
        if self._sender is None and self._send is not None and (self._outgoing or self._closing):
            self._sender = asyncio.create_task(self._empty(self._send))
            self._sender.add_done_callback(self._emptied)

    async def _empty(self, send: Send) -> None:
        while self._outgoing:
            piece = self._next_piece()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self._queued = max(0, self._queued - len(piece))
            self._sent_at = time.monotonic()
            if self._full and self._queued < _HIGH_WATER_BYTES // 4 and self.events is not None:
                self._full = False
                self.events.on_drained()
        if self._closing:
            self._said_end = True
            await send({"type": "http.response.body", "body": b""})

    def _emptied(self, sender: asyncio.Task[None]) -> None:
        self._sender = None
        # Servers raise what they like when the client has gone.
        broken = None if sender.cancelled() else sender.exception()
        if broken is not None:
            log.debug("stream_broken", error=repr(broken))
        if broken is None and not sender.cancelled() and (self._outgoing or (self._closing and not self._said_end)):
            self._go_on()  # queued after the task had looked for the last time
        elif (self._closing or broken is not None) and not self._over.done():
            self._over.set_result(None)

    def _next_piece(self) -> bytes:
        """Take many small frames, or a part of a large one."""
        first = self._outgoing.popleft()
        if len(first) > _PIECE_BYTES:
            view = memoryview(first)
            self._outgoing.appendleft(view[_PIECE_BYTES:])
            return bytes(view[:_PIECE_BYTES])
        pieces, size = [first], len(first)
        while self._outgoing and size + len(self._outgoing[0]) <= _PIECE_BYTES:
            pieces.append(self._outgoing.popleft())
            size += len(pieces[-1])
        return b"".join(pieces)

    def _keep_alive(self) -> None:
        silent_s = time.monotonic() - self._sent_at
        if silent_s >= self._keep_alive_s and not self._outgoing and self._sender is None:
            self.send_control({"type": "ping"})
            silent_s = 0.0
        delay_s = max(0.05, self._keep_alive_s - silent_s)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._keep_alive)


def _looks_like_ours(head: bytes | memoryview) -> bool:
    try:
        header, _ = split_frame(head)
    except BadRequest:
        return True  # nothing that a client could make sense of
    kind = header.get("type")
    return isinstance(kind, str) and kind in _SAID_BY_US


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
