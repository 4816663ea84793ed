from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from hypha_common.errors import BadRequest, RequestTimeout
from hypha_gateway.http.responses import Receive

from .aws_chunked import AwsChunks
from .failures import ClientGoneError

__all__ = ["RequestBody"]

_LENGTH = b"content-length"
_DECODED_LENGTH = b"x-amz-decoded-content-length"


class RequestBody:
    """The body of one request, piece by piece as it comes, while the one who sends it does not fall asleep."""

    def __init__(self, receive: Receive, headers: Mapping[bytes, bytes], *, idle_s: float) -> None:
        self._receive = receive
        self._headers = headers
        self._idle_s = idle_s
        self._more = True

    @property
    def is_pending(self) -> bool:
        """Whether there is a body of which not all has come."""
        return self._more and (self._headers.get(_LENGTH, b"0") != b"0" or b"transfer-encoding" in self._headers)

    def taken(self) -> None:
        """Somebody else has read all of it."""
        self._more = False

    def length(self, *, chunked: bool) -> int | None:
        """Return the bytes that there will be, where that is known. ``chunked``: below AWS's own framing."""
        text = self._headers.get(_DECODED_LENGTH if chunked else _LENGTH, b"")
        if not text:
            return None if chunked or b"transfer-encoding" in self._headers else 0
        if not text.isdigit() or len(text) > 18:
            raise BadRequest("The length of the body is no number")
        return int(text)

    async def pieces(self, *, chunked: bool) -> AsyncIterator[bytes]:
        """
        Yield the body, without AWS's own framing where it is ``chunked``.

        Raises ClientGoneError, RequestTimeout after the time without a byte, BadRequest for broken framing.

        """
        if not chunked:
            async for piece in self._raw():
                yield piece
            return
        framing = AwsChunks()
        async for data in self._raw():
            for piece in framing.feed(data):
                yield piece
        if not framing.is_complete:
            raise BadRequest("The body ends before its last chunk")

    async def _raw(self) -> AsyncIterator[bytes]:
        while self._more:
            try:
                async with asyncio.timeout(self._idle_s):
                    message = await self._receive()
            except TimeoutError:
                raise RequestTimeout(f"Nothing of the request body came for {self._idle_s:g} s") from None
            if message["type"] == "http.disconnect":
                self._more = False
                raise ClientGoneError
            self._more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece
