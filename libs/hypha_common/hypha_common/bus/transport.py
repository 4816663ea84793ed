from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import cast
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport

__all__ = ["WideTransport"]

_BUFFER_BYTES = 4 * 1024 * 1024
# Packets that vanish are sent again after longer and longer pauses, which may outlast a lease; a new connection is
# tried every few seconds. Shorter than a lease, longer than a busy server keeps us waiting.
_UNHEARD_MS = 10_000


class _ChunkReader(asyncio.StreamReader):
    """A stream reader that hands on the pieces the socket gave, instead of copying them through one buffer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=_BUFFER_BYTES, loop=loop)
        self._source: asyncio.ReadTransport | None = None
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._arrived = asyncio.Event()
        self._stopped = False

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        super().set_transport(transport)
        self._source = cast("asyncio.ReadTransport", transport)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # event loops give bytes
        self._chunks.append(data)
        self._held += len(data)
        self._arrived.set()
        if self._held > _BUFFER_BYTES and not self._stopped and self._source is not None:
            self._stopped = True
            self._source.pause_reading()

    def feed_eof(self) -> None:
        super().feed_eof()
        self._arrived.set()

    def at_eof(self) -> bool:
        return super().at_eof() and not self._chunks

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self._arrived.set()

    async def read(self, n: int = -1) -> bytes:
        """Return the next piece, whatever its size; empty at the end."""
        while not self._chunks:
            if (error := self.exception()) is not None:
                raise error
            if super().at_eof():
                return b""
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._chunks.popleft()
        self._held -= len(chunk)
        if self._stopped and self._held < _BUFFER_BYTES // 2 and self._source is not None:
            self._stopped = False
            self._source.resume_reading()
        return chunk

    async def readline(self) -> bytes:
        """Return one line; only the greeting of the server is read by lines."""
        data = b""
        while b"\n" not in data:
            piece = await self.read()
            if not piece:
                return data
            data += piece
        line, _, rest = data.partition(b"\n")
        if rest:
            self._chunks.appendleft(rest)
            self._held += len(rest)
        return line + b"\n"


class WideTransport(TcpTransport):
    """nats-py's TCP transport for large frames: pieces of a quarter of a megabyte instead of 32 KiB, uncopied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Written at the end of the turn of the event loop, or of the next one while frames come in numbers: those that
        # arrive at about the same time leave in one packet, which halves what the other side spends on each.
        self._corked: list[bytes | memoryview] = []
        self._corked_bytes = 0
        self._batch = self._last_batch = 0

    def __bool__(self) -> bool:
        # nats-py asks before it connects, and would put a transport of its own in the place of a false one.
        return True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        loop = asyncio.get_running_loop()
        reader = _ChunkReader(loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        opening = loop.create_connection(lambda: protocol, uri.hostname or "127.0.0.1", uri.port or 4222)
        async with asyncio.timeout(connect_timeout):
            transport, _ = await opening
        transport.set_write_buffer_limits(high=_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    def close(self) -> None:
        """Close at once, also where something is queued: nats-py waits for the end, and the server may take nothing."""
        if self._io_writer is not None:
            if self.queued_bytes:
                self._io_writer.transport.abort()
            self._io_writer.close()

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Write in order, a moment later, without waiting."""
        if not self._corked:
            loop = asyncio.get_running_loop()
            if self._last_batch > 1:
                loop.call_soon(loop.call_soon, self._uncork)
            else:
                loop.call_soon(self._uncork)
        self._batch += 1
        self._corked.extend(parts)
        self._corked_bytes += sum(map(len, parts))

    def _uncork(self) -> None:
        parts, self._corked, self._corked_bytes = self._corked, [], 0
        self._last_batch, self._batch = self._batch, 0
        if self._io_writer is not None and not self._io_writer.transport.is_closing():
            self._io_writer.transport.writelines(parts)

    async def written(self) -> None:
        """Wait until little enough is queued to write on, or the connection is gone."""
        if self._io_writer is not None:
            with suppress(ConnectionError):
                await self._io_writer.drain()

    @property
    def queued_bytes(self) -> int:
        """What was written and not taken by the kernel yet."""
        writer = self._io_writer
        return self._corked_bytes + (0 if writer is None else int(writer.transport.get_write_buffer_size()))
