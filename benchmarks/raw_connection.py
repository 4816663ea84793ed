from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Self

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

__all__ = ["RawConnection"]

_MAX_FRAME_BYTES = 32 * 2**20


class RawConnection(WSListener):
    """
    A websocket connection that costs the load generator as little as possible.

    Subclasses speak a protocol's handshake: they start it in ``_greet`` and finish it by setting ``_welcome``. After
    that ``on_message`` gets the size of each binary message, and ``on_first`` the bytes of the next one alone, so
    that a run can check what it measures without paying for it on every message.

    """

    _headers: ClassVar[dict[str, str]] = {}

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.on_message: Callable[[int], None] | None = None
        self.on_first: Callable[[bytes], None] | None = None
        self.lost: asyncio.Future[None] = loop.create_future()
        self._welcome: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._partial_bytes = 0

    @classmethod
    async def open(cls, url: str, *, timeout_s: float, read_buffer: int) -> Self:
        async with asyncio.timeout(timeout_s):
            _, connection = await ws_connect(
                cls,
                url,
                websocket_handshake_timeout=timeout_s,
                max_frame_size=_MAX_FRAME_BYTES,
                read_buffer_init_size=read_buffer,
                extra_headers=cls._headers,
            )
            assert isinstance(connection, cls)
            await connection._welcome
        return connection

    def send(self, message: bytes) -> None:
        self._transport.send(WSMsgType.BINARY, message)

    async def close(self) -> None:
        self._transport.disconnect()
        await asyncio.wait([self.lost], timeout=5)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._greet()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY or frame.msg_type == WSMsgType.CONTINUATION:
            self._on_binary(frame)
        elif frame.msg_type == WSMsgType.TEXT:
            self._on_text(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._welcome.done():
            self._welcome.set_exception(ConnectionError("closed during the handshake"))
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """What is under way is bounded by the run; the base class would log each time."""

    def resume_writing(self) -> None:
        pass

    def _greet(self) -> None:
        raise NotImplementedError

    def _on_text(self, text: str) -> None:
        pass

    def _on_binary(self, frame: WSFrame) -> None:
        size = frame.payload_size
        if not frame.fin:
            self._partial_bytes += size
            return
        if self.on_first is not None and not self._partial_bytes:
            check, self.on_first = self.on_first, None
            check(frame.get_payload_as_bytes())
        if self.on_message is not None:
            size, self._partial_bytes = size + self._partial_bytes, 0
            self.on_message(size)
