from __future__ import annotations

import asyncio
import itertools
from typing import Any, ClassVar, Self

import msgpack
from picows import WSFrame

from .peer import websocket_url
from .raw_connection import RawConnection

__all__ = ["WampPeer"]

_HELLO, _WELCOME, _PUBLISH, _SUBSCRIBE, _SUBSCRIBED, _EVENT = 1, 2, 16, 32, 33, 36
_CALL, _RESULT, _REGISTER, _REGISTERED, _INVOCATION, _YIELD = 48, 50, 64, 65, 68, 70
_ROLES: dict[str, dict[str, Any]] = {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}}


class WampPeer(RawConnection):
    """A WAMP session over msgpack, as far as a message or a call between two clients needs it."""

    _headers: ClassVar[dict[str, str]] = {"Sec-WebSocket-Protocol": "wamp.2.msgpack"}

    def __init__(self) -> None:
        super().__init__()
        self._requests = itertools.count(1)
        self._answers: dict[int, asyncio.Future[list[Any]]] = {}

    @classmethod
    async def connect(cls, server_url: str, *, timeout_s: float = 30, read_buffer: int = 16 * 1024) -> Self:
        return await cls.open(websocket_url(server_url), timeout_s=timeout_s, read_buffer=read_buffer)

    async def subscribe(self, topic: str) -> None:
        await self._request(_SUBSCRIBE, {}, topic)

    async def register(self, procedure: str) -> None:
        """Answer calls of a procedure with their arguments."""
        await self._request(_REGISTER, {}, procedure)

    async def call(self, procedure: str, *args: Any) -> list[Any]:
        return await self._request(_CALL, {}, procedure, list(args))

    def publication(self, topic: str, payload: bytes) -> bytes:
        """A message to a topic; unacknowledged, so it may be sent again with the request id it has."""
        message: bytes = msgpack.packb([_PUBLISH, next(self._requests), {}, topic, [payload]])
        return message

    def _greet(self) -> None:
        self.send(msgpack.packb([_HELLO, "bench", {"roles": _ROLES}]))

    async def _request(self, kind: int, *rest: Any) -> list[Any]:
        request = next(self._requests)
        answer = self._answers[request] = asyncio.get_running_loop().create_future()
        self.send(msgpack.packb([kind, request, *rest]))
        try:
            return await asyncio.wait_for(answer, 30)
        finally:
            del self._answers[request]

    def _on_binary(self, frame: WSFrame) -> None:
        if self.on_message is not None:
            super()._on_binary(frame)
            return
        message = msgpack.unpackb(frame.get_payload_as_bytes())
        kind = message[0]
        if kind == _WELCOME:
            self._welcome.set_result(message[2])
        elif kind in (_SUBSCRIBED, _REGISTERED, _RESULT):
            if (answer := self._answers.get(message[1])) and not answer.done():
                answer.set_result(message)
        elif kind == _INVOCATION:
            self.send(msgpack.packb([_YIELD, message[1], {}, message[4] if len(message) > 4 else []]))
        elif kind != _EVENT:
            raise ConnectionError(f"refused: {message}")
