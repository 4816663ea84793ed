"""
WebSocket framing, server side (RFC 6455 §5), without I/O.

Written for a router: a large message is received straight into a buffer of its own size and unmasked once, a small one
is parsed out of a buffer that all sockets share, so that an idle socket holds no buffer at all. The limit is checked
before anything is stored and may change during the life of a connection (small until the peer is authenticated).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # the C speed-up where there is one

__all__ = ["FrameReader", "Opcode", "ProtocolError", "close_payload", "frame_head"]

SHARED_BUFFER_BYTES = 256 * 1024
_OWN_BUFFER_BYTES = 16 * 1024  # from this size on, a message gets a buffer of its own
_MAX_CONTROL_BYTES = 125


class Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class ProtocolError(Exception):
    """The peer broke the protocol or a limit; ``code`` is the close code to answer with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """
    Turns received bytes into messages.

    Drive it like ``asyncio.BufferedProtocol``: receive into :meth:`buffer`, then iterate over :meth:`received`.

    """

    __slots__ = ("_filled", "_fragments", "_fragments_kind", "_mask", "_opcode", "_own", "_stash", "max_bytes")

    # One loop a thread and no wait between buffer() and received(): all sockets can receive into the same memory.
    _shared = bytearray(SHARED_BUFFER_BYTES)
    _shared_view = memoryview(_shared)

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._stash = b""  # the beginning of a frame that has not arrived whole
        self._own: memoryview | None = None  # the payload of a large frame
        self._filled = 0
        self._mask = b""
        self._opcode = (0, False)  # of the large frame: opcode, fin
        self._fragments: bytearray | None = None  # of a message that comes in pieces, and
        self._fragments_kind = Opcode.BINARY  # what it will be

    def buffer(self) -> memoryview:
        """Return where the next bytes belong."""
        if self._own is not None:
            return self._own[self._filled :]
        kept = len(self._stash)
        if kept:
            self._shared_view[:kept] = self._stash
        return self._shared_view[kept:]

    def received(self, size: int) -> Iterator[tuple[Opcode, bytes]]:
        """
        Yield (opcode, payload) of each message that is complete now; control frames come as they are.

        Exhaust it before the next :meth:`buffer`. Raises ProtocolError.

        """
        if self._own is not None:
            self._filled += size
            if self._filled == len(self._own):
                payload, self._own = apply_mask(self._own, self._mask), None
                yield from self._frame(*self._opcode, payload)
            return
        yield from self._parse(self._shared_view[: len(self._stash) + size])

    def feed(self, data: bytes) -> Iterator[tuple[Opcode, bytes]]:
        """Take bytes that were received elsewhere, such as those behind the upgrade request."""
        view = memoryview(data)
        while view:
            target = self.buffer()
            size = min(len(target), len(view))
            target[:size] = view[:size]
            yield from self.received(size)
            view = view[size:]

    def _parse(self, data: memoryview) -> Iterator[tuple[Opcode, bytes]]:
        start, end = 0, len(data)
        self._stash = b""
        while end - start >= 2:
            first, second = data[start], data[start + 1]
            if not second & 0x80:
                raise ProtocolError(1002, "Client frames must be masked")
            size, at = second & 0x7F, start + 2
            if size == 126:
                size, at = int.from_bytes(data[at : at + 2], "big"), at + 2
            elif size == 127:
                size, at = int.from_bytes(data[at : at + 8], "big"), at + 8
            if at + 4 > end:
                break
            self._check(first, size)
            mask, at = bytes(data[at : at + 4]), at + 4
            if at + size > end:
                if size < _OWN_BUFFER_BYTES:
                    break
                self._take_own(first, mask, size, data[at:end])
                return
            payload = apply_mask(data[at : at + size], mask)
            start = at + size
            yield from self._frame(first & 0x0F, bool(first & 0x80), payload)
        if start < end:
            self._stash = bytes(data[start:end])

    def _take_own(self, first: int, mask: bytes, size: int, begun: memoryview) -> None:
        self._own = memoryview(bytearray(size))
        self._filled = len(begun)
        self._own[: self._filled] = begun
        self._mask = mask
        self._opcode = (first & 0x0F, bool(first & 0x80))

    def _check(self, first: int, size: int) -> None:
        if first & 0x70:
            raise ProtocolError(1002, "Reserved bits are set")
        if first & 0x08:
            if size > _MAX_CONTROL_BYTES or not first & 0x80:
                raise ProtocolError(1002, "Invalid control frame")
        elif size + len(self._fragments or b"") > self.max_bytes:
            raise ProtocolError(1009, f"Message too big: more than {self.max_bytes} bytes")

    def _frame(self, opcode: int, fin: bool, payload: bytes) -> Iterator[tuple[Opcode, bytes]]:
        try:
            kind = Opcode(opcode)
        except ValueError:
            raise ProtocolError(1002, f"Unknown opcode: {opcode}") from None
        if kind >= Opcode.CLOSE:
            yield kind, payload
        elif kind is Opcode.CONTINUATION:
            yield from self._continue(fin, payload)
        elif self._fragments is not None:
            raise ProtocolError(1002, "Expected a continuation frame")
        elif fin:
            yield kind, payload
        else:
            self._fragments, self._fragments_kind = bytearray(payload), kind

    def _continue(self, fin: bool, payload: bytes) -> Iterator[tuple[Opcode, bytes]]:
        if self._fragments is None:
            raise ProtocolError(1002, "Unexpected continuation frame")
        self._fragments += payload
        if fin:
            message, self._fragments = bytes(self._fragments), None
            yield self._fragments_kind, message


def frame_head(opcode: int, size: int) -> bytes:
    """Return the head of an unmasked final frame."""
    if size < 126:
        return bytes((0x80 | opcode, size))
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")


def close_payload(code: int, reason: str) -> bytes:
    """Return the payload of a close frame; the reason is cut to the 123 bytes that fit (contract 01 §1.5)."""
    return code.to_bytes(2, "big") + reason.encode(errors="replace")[:123].decode("utf-8", "ignore").encode()
