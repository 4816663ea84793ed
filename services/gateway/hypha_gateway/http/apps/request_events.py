from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from hypha_gateway.http.responses import Receive

__all__ = ["PIECE_BYTES", "RequestEvents"]

PIECE_BYTES = 192 * 1024  # of a body in one event: with all that is around it, it fits into one frame
_AHEAD_BYTES = 256 * 1024
_STALLED_S = 60.0
_REST_S = 10.0  # for what a service has not read when its answer is complete


class RequestEvents:
    """
    What a service is told of one request: the body as it comes, then that the client has left.

    The body is read a little ahead of the service and no further, so that TCP slows down who sends it. That a client
    leaves is noticed as soon as its body has been read.

    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._whole = False  # all of the body has come
        self._told = False  # … and has been handed out
        self._over = False  # nothing more is handed out
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def is_pending(self) -> bool:
        """Whether a part of the body has not come yet."""
        return not self._whole

    async def read(self) -> bool:
        """Read until the client has left (True) or has sent nothing for too long where something must come (False)."""
        try:
            while True:
                async with asyncio.timeout(None if self._whole or self._over else _STALLED_S):
                    message = await self._receive()
                if message["type"] == "http.disconnect":
                    return True
                self._take_in(message.get("body", b""), more=message.get("more_body", False))
                while self._size >= _AHEAD_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            return False
        finally:
            self.end()

    async def next(self) -> dict[str, Any]:
        """Return the next event, for the service."""
        async with self._turn:  # who asks first is told first
            while not self._over:
                if self._size or (self._whole and not self._told):
                    return self._hand_out()
                self._news.clear()
                await self._news.wait()
            return {"type": "http.disconnect"}

    def end(self) -> None:
        """Nothing more is handed out: for the service that is as if the client had left."""
        self._over = True
        self._drop()
        self._news.set()

    async def settle(self) -> None:
        """
        Read what is left of the body, to nobody's use: its sender does not listen before all of it is sent.

        Raises TimeoutError where that takes too long.

        """
        self.end()
        async with asyncio.timeout(_REST_S):
            while not self._whole:
                self._news.clear()
                await self._news.wait()

    def _take_in(self, piece: bytes, *, more: bool) -> None:
        if piece and not self._over:
            self._pieces.append(piece)
            self._size += len(piece)
        self._whole = self._whole or not more
        self._news.set()

    def _hand_out(self) -> dict[str, Any]:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        body, rest = body[:PIECE_BYTES], body[PIECE_BYTES:]
        self._drop()
        if rest:
            self._pieces.append(rest)
            self._size = len(rest)
        more = bool(rest) or not self._whole
        self._told = not more
        return {"type": "http.request", "body": body, "more_body": more}

    def _drop(self) -> None:
        self._pieces.clear()
        self._size = 0
        self._room.set()
