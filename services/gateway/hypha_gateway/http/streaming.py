from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Any

from hypha_common.errors import HyphaError
from hypha_common.faults import note_fault
from hypha_common.trace import trace_id

from .arguments import Media
from .errors import describe_failure
from .responses import Receive, Send, encode

__all__ = ["is_generator", "send_stream"]

_EVENT_STREAM = b"text/event-stream"
_DONE = b"data: [DONE]\n\n"


def is_generator(result: object) -> bool:
    return isinstance(result, dict) and result.get("_rtype") == "generator"


async def send_stream(
    items: AsyncGenerator[Any, None], media: Media, receive: Receive, send: Send, *, detailed: bool = False
) -> None:
    """
    Send each item as it comes: events of JSON ended by ``[DONE]``, or msgpack values one after another.

    Ends with the generator, or when the reader goes away; either way the remote generator is closed.

    """
    content_type = _EVENT_STREAM if media is Media.JSON else media.value
    headers = [(b"content-type", content_type), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]

    async def forward() -> None:
        async with aclosing(items):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for piece in _pieces(items, media, detailed):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    # Only receive() tells that the reader has gone: sending to nobody raises nothing.
    sending = asyncio.create_task(forward())
    watching = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((sending, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (watching, sending):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await sending


async def _pieces(items: AsyncIterator[Any], media: Media, detailed: bool) -> AsyncIterator[bytes]:
    try:
        async for item in items:
            yield _framed(encode(item, media), media)
    except HyphaError as error:
        traceback = getattr(error, "text", "") if detailed else ""
        text = describe_failure(error)[1]
        note_fault("http_stream_failed", error=text)
        failure = {"error": text, "traceback": traceback, "error_id": trace_id()}
        yield _framed(encode(failure, media), media)
    if media is Media.JSON:
        yield _DONE


def _framed(encoded: bytes, media: Media) -> bytes:
    return b"data: " + encoded + b"\n\n" if media is Media.JSON else encoded


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
