from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any, Self

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

__all__ = ["FrameClient", "RefusedError", "split"]

_MAX_FRAME_BYTES = 32 * 2**20
_TIMEOUT_S = 20.0


class RefusedError(Exception):
    """The server turned the connection away; the text is what it said."""


class FrameClient:
    """
    A websocket after the handshake on which a test sends and receives frame by frame.

    Nothing is read that the test does not ask for, and sending waits for the socket: TCP's back-pressure reaches the
    test and starts from it.

    """

    def __init__(self, websocket: ClientConnection, info: dict[str, Any]) -> None:
        self.websocket = websocket
        self.info = info
        self.address = f"{info['workspace']}/{info['client_id']}"

    @classmethod
    async def connect(cls, server_url: str, client_id: str, **hello: Any) -> Self:
        """Connect as an anonymous user, or with what ``hello`` says. Raises RefusedError."""
        address = f"{server_url.replace('http', 'ws', 1)}/ws"
        # Of what a test does not ask for a single message is read ahead.
        websocket = await connect(
            address, max_size=_MAX_FRAME_BYTES, compression=None, max_queue=1, ping_interval=None, close_timeout=1
        )
        try:
            first = {"client_id": client_id, "workspace": None, "token": None, "reconnection_token": None}
            await websocket.send(json.dumps({**first, **hello}))
            async with asyncio.timeout(_TIMEOUT_S):
                answer = json.loads(await websocket.recv())
        except BaseException:
            await websocket.close()
            raise
        if answer["type"] != "connection_info":
            await websocket.close()
            raise RefusedError(answer["message"])
        return cls(websocket, answer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.websocket.close()

    async def send(self, to: str, extra: Any = None, **header: Any) -> None:
        """Send one frame; waits while TCP takes no more."""
        head = {"type": "method", "from": self.address, "to": to, **header}
        await self.websocket.send(msgpack.packb(head) + msgpack.packb({} if extra is None else extra))

    async def receive(self, timeout: float = _TIMEOUT_S) -> tuple[dict[str, Any], Any]:
        """Return header and extra of the next frame; the extra of an event is None."""
        # Not wait_for(): in Python 3.11 it forgets a cancellation that comes together with a frame.
        async with asyncio.timeout(timeout):
            while not isinstance(data := await self.websocket.recv(), bytes):
                pass
        return split(data)

    async def call(self, to: str, method: str, *args: Any, session: str = "session-1", **more: Any) -> Any:
        """Call a method; returns the value. Raises RuntimeError with the text of a rejection."""
        await self.send(to, {"args": list(args), **more}, method=method, session=session)
        while True:
            header, extra = await self.receive()
            if header.get("method") == f"{session}.resolve":
                return extra["args"][0] if extra["args"] else None
            if header.get("method") == f"{session}.reject":
                raise RuntimeError(extra["args"][0]["_rvalue"])

    async def ended(self, timeout: float = _TIMEOUT_S) -> int:
        """Wait until the server has closed; return the close code (1006 without a close frame)."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self.websocket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006


def split(data: bytes) -> tuple[dict[str, Any], Any]:
    """Return header and extra of a frame."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(data)
    header = unpacker.unpack()
    return header, unpacker.unpack() if unpacker.tell() < len(data) else None
