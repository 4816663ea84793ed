from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from websockets.frames import Frame, Opcode

from hypha_common.ids import new_id

__all__ = ["RawSocket", "open_websocket", "raw_socket", "upgrade_request", "ws_frame"]

TIMEOUT_S = 15.0


class RawSocket:
    """A TCP connection to the server, for what well-behaved libraries refuse to send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def send(self, data: bytes) -> None:
        """Send all of it; a server that has hung up meanwhile is no error."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def head(self) -> str:
        """Read the head of an HTTP answer."""
        data = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
        return data.decode("latin-1")

    async def answer(self) -> tuple[int, bytes]:
        """Read one HTTP answer that has a length."""
        head = (await self.head()).lower()
        length = int(head.partition("content-length:")[2].split()[0])
        return int(head.split()[1]), await asyncio.wait_for(self._reader.readexactly(length), TIMEOUT_S)

    async def read(self) -> bytes:
        """Read what has come; nothing once the server has closed."""
        with suppress(ConnectionError):
            return await self._reader.read(65536)
        return b""

    async def rest(self, timeout_s: float = TIMEOUT_S) -> bytes:
        """Read until the server closes."""
        data = b""
        async with asyncio.timeout(timeout_s):
            with suppress(ConnectionError):
                while piece := await self._reader.read(65536):
                    data += piece
        return data

    async def chunk(self) -> bytes:
        """Read one chunk of an HTTP answer without a length."""
        async with asyncio.timeout(TIMEOUT_S):
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            return (await self._reader.readexactly(size + 2))[:-2]

    def pause(self) -> None:
        """Read no more, not even ahead."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    async def frame(self) -> tuple[int, bytes]:
        """Read one websocket frame of the server."""
        async with asyncio.timeout(TIMEOUT_S):
            first, size = await self._reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self._reader.readexactly(size)

    async def close_code(self) -> int:
        """Read on until the close frame; 1006 where none comes."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                opcode, payload = await self.frame()
                if opcode == Opcode.CLOSE:
                    return int.from_bytes(payload[:2], "big")
        return 1006

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def raw_socket(url: str) -> AsyncIterator[RawSocket]:
    parts = urlsplit(url)
    socket = RawSocket(*await asyncio.open_connection(parts.hostname, parts.port))
    try:
        yield socket
    finally:
        socket.close()


@asynccontextmanager
async def open_websocket(url: str, *, authenticated: bool = True) -> AsyncIterator[RawSocket]:
    """Open a websocket by hand; ``authenticated`` goes on through the handshake."""
    async with raw_socket(url) as socket:
        await socket.send(upgrade_request())
        assert " 101 " in await socket.head()
        if authenticated:
            await socket.send(ws_frame(Opcode.TEXT, json.dumps({"client_id": new_id(8)}).encode()))
            _, info = await socket.frame()
            assert json.loads(info)["type"] == "connection_info"
        yield socket


def upgrade_request(
    path: str = "/ws", *, method: str = "GET", version: str = "HTTP/1.1", **headers: str | None
) -> bytes:
    """Return an upgrade request; ``headers`` (``Sec_WebSocket_Key=…``) replace the usual ones, None drops one."""
    fields: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{name}: {value}\r\n" for name, value in fields.items() if value is not None]
    return f"{method} {path} {version}\r\n{''.join(lines)}\r\n".encode("latin-1")


def ws_frame(opcode: int, payload: bytes, *, fin: bool = True, mask: bool = True, reserved: int = 0) -> bytes:
    """Return a websocket frame; ``reserved`` is what its reserved bits hold."""
    known = opcode if opcode in list(Opcode) else Opcode.BINARY
    data = bytearray(Frame(Opcode(known), payload, fin=fin).serialize(mask=mask))
    data[0] = (data[0] & 0x80) | reserved << 4 | opcode
    return bytes(data)
