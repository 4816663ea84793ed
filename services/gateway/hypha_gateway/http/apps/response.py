from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hypha_common.errors import BadRequest, HyphaError, QuotaExceeded
from hypha_gateway.http.responses import Send
from hypha_gateway.web_apps import Room

from .faults import AppFault, ClientGone
from .headers import app_headers
from .request_events import RequestEvents
from .sending import Sending, in_bytes

__all__ = ["AppResponse"]

_PIECE_BYTES = 64 * 1024  # a slow client of one long event is seen to make progress
_STALLED_S = 60.0  # without a byte taken, until a client is given up
_BODYLESS = (204, 304)


class AppResponse:
    """
    The answer to one request, event by event as the service sends it; each goes out at once.

    ``over`` is resolved when the answer is complete, and fails where it cannot be.

    """

    def __init__(self, send: Send, request: RequestEvents, *, room: Room, is_head: bool) -> None:
        self.started = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send = send
        self._request = request
        self._bodyless = is_head
        self._left: int | None = None  # bytes that are still to come, where the service has said so
        self._sending = Sending(room)

    @property
    def is_complete(self) -> bool:
        return self.over.done() and self.over.exception() is None

    async def send(self, event: Any) -> None:
        """
        Take one event from the service; returns when the client can take more.

        Raises AppFault, QuotaExceeded, ClientGone, and BadRequest for what comes after the end.

        """
        try:
            kind = event.get("type") if isinstance(event, dict) else None
            body = in_bytes(event.get("body")) if kind == "http.response.body" else b""
            async with self._sending.turn(len(body)):
                if self.over.done():
                    raise BadRequest("The answer is complete")
                if kind == "http.response.start":
                    await self._start(event)
                elif kind == "http.response.body":
                    await self._body(body, more=bool(event.get("more_body", False)))
                elif not isinstance(kind, str) or not kind.startswith("http.response."):  # trailers and the like
                    raise AppFault(f"unexpected event {str(kind)[:64]!r}")
        except (AppFault, QuotaExceeded, ClientGone) as error:
            self.fail(error)
            raise

    def gone(self) -> None:
        """The client has left."""
        self._sending.stop()
        self.fail(ClientGone("The client has left"))

    def fail(self, error: HyphaError) -> None:
        """The answer cannot be completed."""
        if not self.over.done():
            self.over.set_exception(error)
            self.over.exception()  # not everybody asks

    async def settled(self) -> None:
        """Wait until what has been sent so far has been taken."""
        await self._sending.idle()

    async def _start(self, event: Mapping[str, Any]) -> None:
        if self.started:
            raise AppFault("the answer has begun already")
        status = event.get("status", 200)
        if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
            raise AppFault(f"invalid status {str(status)[:32]!r}")
        headers = app_headers(event.get("headers") or [])
        lengths = {value for name, value in headers if name == b"content-length"}
        if lengths:
            self._left = _length(lengths)
            headers = [pair for pair in headers if pair[0] != b"content-length"]
            headers.append((b"content-length", str(self._left).encode()))
        self._bodyless = self._bodyless or status in _BODYLESS
        if self._request.is_pending:
            headers.append((b"connection", b"close"))
        self.started = True
        await self._forward({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, body: bytes, *, more: bool) -> None:
        if not self.started:
            raise AppFault("the body comes before the beginning of the answer")
        if self._bodyless:
            body = b""
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (not more and self._left):
                raise AppFault("the body is not as long as its content-length")
        pieces = [body[start : start + _PIECE_BYTES] for start in range(0, len(body), _PIECE_BYTES)]
        last = pieces.pop() if pieces and not more and not self._request.is_pending else b""
        for piece in pieces:
            await self._forward({"type": "http.response.body", "body": piece, "more_body": True})
        if not more:
            await self._end(last)

    async def _end(self, last: bytes) -> None:
        try:
            await self._request.settle()
        except TimeoutError:
            raise ClientGone("The client does not end its request") from None
        await self._forward({"type": "http.response.body", "body": last, "more_body": False})
        if not self.over.done():
            self.over.set_result(None)

    async def _forward(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(_STALLED_S):
                await self._send(message)
        except (OSError, TimeoutError):
            raise ClientGone("The client does not read") from None


def _length(values: set[bytes]) -> int:
    text = next(iter(values))
    if len(values) != 1 or not text.isdigit() or len(text) > 18:
        raise AppFault("invalid header 'content-length'")
    return int(text)
