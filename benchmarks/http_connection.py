from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import urlsplit

__all__ = ["HttpConnection", "get_request", "post_request"]


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection that sends prepared requests, one at a time, and reads just what a run has to know."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, url: str) -> HttpConnection:
        parts = urlsplit(url)
        _, connection = await asyncio.get_running_loop().create_connection(cls, parts.hostname or "", parts.port or 80)
        return connection

    async def request(self, raw: bytes, *, timeout_s: float = 30) -> tuple[int, bytes]:
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout_s, self._transport.abort)
        self._transport.write(raw)
        try:
            return await self._waiter
        finally:
            timer.cancel()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("closed before the answer was complete"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0 or self._waiter is None or self._waiter.done():
            return
        head = self._buffer[:head_end].lower()
        body = self._buffer[head_end + 4 :]
        if (start := head.find(b"\r\ncontent-length:")) >= 0:
            length = int(head[start + 17 :].split(b"\r\n", 1)[0])
            complete = body if len(body) >= length else None
        else:
            complete = _dechunk(body)
        if complete is not None:
            self._buffer = b""
            self._waiter.set_result((int(head[9:12]), complete))


def _dechunk(body: bytes) -> bytes | None:
    """The content of a chunked body, or None while it is incomplete."""
    content = b""
    while (line_end := body.find(b"\r\n")) >= 0:
        size = int(body[:line_end], 16)
        chunk_end = line_end + 2 + size
        if len(body) < chunk_end + 2:
            return None
        if size == 0:
            return content
        content += body[line_end + 2 : chunk_end]
        body = body[chunk_end + 2 :]
    return None


def get_request(url: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n".encode()


def post_request(url: str, path: str, body: bytes, *, content_type: str = "application/json") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
