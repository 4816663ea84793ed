from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import structlog
from hypercorn.protocol.events import Data, Event

from .frames import Opcode, frame_head

__all__ = ["FrameWriter"]

log = structlog.get_logger(__name__)

_PIECE_BYTES = 256 * 1024  # of a long message: a slow reader of it is seen to make progress
_STALLED_S = 30.0


class FrameWriter:
    """Writes the frames of one websocket through hypercorn, one after another, while its peer takes them."""

    def __init__(self, send: Callable[[Event], Awaitable[None]], stream_id: int, abort: Callable[[], None]) -> None:
        self._send = send
        self._stream_id = stream_id
        self._abort = abort
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def is_busy(self) -> bool:
        return self._turn.locked()

    async def message(self, message: Mapping[str, Any]) -> None:
        """Send what an ASGI application gave, a long one in fragments; returns when the peer can take more."""
        text, data = message.get("text"), message.get("bytes")
        opcode, payload = (Opcode.BINARY, bytes(data)) if data is not None else (Opcode.TEXT, str(text).encode())
        for piece, kind, last in _fragments(opcode, payload):
            await self.frame(kind, piece, last=last)

    async def frame(self, opcode: Opcode, payload: bytes, *, last: bool = True) -> None:
        """Send one frame; after a close frame none."""
        head = frame_head(opcode, len(payload))
        if not last:
            head = bytes((head[0] & 0x7F,)) + head[1:]
        try:
            async with asyncio.timeout(_STALLED_S), self._turn:
                if self._closed:
                    return
                self._closed = opcode is Opcode.CLOSE
                await self._send(Data(stream_id=self._stream_id, data=head + payload))
        except TimeoutError:
            log.info("slow_websocket_closed")
            self._abort()


def _fragments(opcode: Opcode, payload: bytes) -> Iterator[tuple[bytes, Opcode, bool]]:
    if len(payload) <= _PIECE_BYTES:
        yield payload, opcode, True
        return
    for start in range(0, len(payload), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        yield payload[start:end], opcode if start == 0 else Opcode.CONTINUATION, end >= len(payload)
