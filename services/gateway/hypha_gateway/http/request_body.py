from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from hypha_common.errors import BadRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from hypha_common.settings import Settings

from .responses import Receive, discard

__all__ = ["BodyLimits", "body_limits", "read_body"]

_BYTES_PER_S = 8 * 1024  # of a body beyond the time that each may take


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large a body may be, also when it is inflated, and how many seconds it may take besides one for 8 KiB."""

    max_bytes: int
    timeout_s: float


def body_limits(settings: Settings) -> BodyLimits:
    return BodyLimits(settings.max_message_bytes, settings.http_body_timeout)


async def read_body(
    receive: Receive, headers: Mapping[bytes, bytes], limits: BodyLimits, *, inflate: bool = True
) -> bytes:
    """
    Return the whole body, inflated unless that is not wanted.

    Raises PayloadTooLarge, RequestTimeout for one that drips, BadRequest for one that ends early or is not what
    ``Content-Encoding`` says, UnsupportedMediaType for other encodings than gzip.

    """
    coding = headers.get(b"content-encoding", b"").strip().lower() if inflate else b""
    if coding not in (b"", b"identity", b"gzip", b"x-gzip"):
        raise UnsupportedMediaType("Send the body uncompressed, or with Content-Encoding: gzip")
    body = await _read(receive, limits)
    return _inflate(body, limits.max_bytes) if body and coding.endswith(b"gzip") else body


async def _read(receive: Receive, limits: BodyLimits) -> bytes:
    pieces: list[bytes] = []
    size, more = 0, True
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(began + limits.timeout_s) as deadline:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BadRequest("The request ended before its body")
                piece = message.get("body", b"")
                more = message.get("more_body", False)
                size += len(piece)
                if size > limits.max_bytes:
                    break
                pieces.append(piece)
                if more:
                    deadline.reschedule(began + limits.timeout_s + size / _BYTES_PER_S)
    except TimeoutError:
        raise RequestTimeout(f"The request body came too slowly: {size} bytes so far") from None
    if size > limits.max_bytes:
        pieces.clear()
        if more:
            await discard(receive)
        raise _too_large(limits.max_bytes)
    return b"".join(pieces)


def _inflate(body: bytes, max_bytes: int) -> bytes:
    """Inflate the members of a gzip file. Raises BadRequest, and PayloadTooLarge before it takes more memory."""
    pieces: list[bytes] = []
    left = max_bytes
    while body:
        member = zlib.decompressobj(wbits=31)
        try:
            piece = member.decompress(body, left + 1)
        except zlib.error as error:
            raise BadRequest(f"The request body is not gzip: {error}") from None
        left -= len(piece)
        if left < 0:
            raise _too_large(max_bytes)
        if not member.eof:
            raise BadRequest("The request body is not gzip: it ends too early")
        pieces.append(piece)
        body = member.unused_data
    return b"".join(pieces)


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The request body is larger than {max_bytes} bytes")
