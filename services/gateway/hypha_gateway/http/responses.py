from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC
from typing import Any

import msgpack
from starlette.responses import Response

from hypha_common.errors import Blocked, HyphaError, NotAcceptable, Unauthorized
from hypha_common.trace import trace_id
from hypha_common.wire import pack

from .arguments import Media

__all__ = [
    "Message",
    "Receive",
    "Scope",
    "Send",
    "discard",
    "encode",
    "encode_json",
    "error_body",
    "error_response",
    "failure_body",
    "send_body",
    "send_error",
    "told",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

# What the last answer of this task said went wrong: (trace id, detail). The edge writes it down.
told: ContextVar[tuple[str, str]] = ContextVar("told", default=("", ""))

_MAX_PIECE_BYTES = 256 * 1024
RETRY_AFTER_S = b"1"
_MAX_DISCARDED_BYTES = 256 * 2**20
_DISCARD_TIMEOUT_S = 10.0


def encode(value: Any, media: Media) -> bytes:
    """Encode a result in its wire form. Raises NotAcceptable where JSON cannot express it."""
    return pack(value) if media is Media.MSGPACK else encode_json(value)


def encode_json(value: Any) -> bytes:
    try:
        return _encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = "nesting that deep" if isinstance(error, RecursionError) else str(error)
        raise NotAcceptable(
            f"The result cannot be written as JSON ({reason}); ask for it with Content-Type: application/msgpack"
        ) from None


def error_body(error: HyphaError, detail: str | None = None) -> bytes:
    """Return the JSON of an error: credentials are refused in the form of web frameworks (contract 01 §5.2)."""
    body: dict[str, Any] = {"detail": error.message if detail is None else detail}
    if not isinstance(error, Unauthorized | Blocked):
        body = {"success": False, **body}
    return failure_body(body)


def failure_body(body: dict[str, Any]) -> bytes:
    """Return the JSON of an error with the id that an operator finds it by."""
    error_id = trace_id()
    told.set((error_id, str(body.get("detail", ""))))
    return _encode({**body, "error_id": error_id} if error_id else body).encode(errors="replace")


async def send_body(
    send: Send, status: int, body: bytes, content_type: bytes = Media.JSON.value, headers: Headers = ()
) -> None:
    """Send a whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    if len(body) > _MAX_PIECE_BYTES and content_type == Media.JSON.value:
        # It may be compressed on its way, which takes milliseconds a piece: frames of others go in between.
        last = (len(body) - 1) // _MAX_PIECE_BYTES * _MAX_PIECE_BYTES
        for start in range(0, last, _MAX_PIECE_BYTES):
            piece = body[start : start + _MAX_PIECE_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        body = body[last:]
    await send({"type": "http.response.body", "body": body})


async def discard(receive: Receive) -> None:
    """
    Read what is left of a body that is refused, within limits.

    Closing a connection with bytes unread resets it, and the caller may never see the answer.

    """
    left = _MAX_DISCARDED_BYTES
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_TIMEOUT_S):
            more = True
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)


async def send_error(send: Send, error: HyphaError, *, status: int | None = None, detail: str | None = None) -> None:
    """Answer with an error; ``status`` and ``detail`` stand in for the error's own."""
    status = status or error.status
    await send_body(send, status, error_body(error, detail), headers=_error_headers(status))


def error_response(error: HyphaError) -> Response:
    """Return the answer to an error, for handlers that return one."""
    response = Response(error_body(error), error.status, media_type=Media.JSON.value.decode())
    response.raw_headers.extend(_error_headers(error.status))
    return response


def _error_headers(status: int) -> list[tuple[bytes, bytes]]:
    if status in (429, 503):
        return [(b"retry-after", RETRY_AFTER_S)]
    return [(b"www-authenticate", b"Bearer")] if status == 401 else []


def _unencodable(value: Any) -> Any:
    if isinstance(value, msgpack.Timestamp):
        return value.to_datetime().astimezone(UTC).isoformat().replace("+00:00", "Z")
    name = "bytes" if isinstance(value, (bytes, bytearray, memoryview)) else type(value).__name__
    raise TypeError(f"it contains {name}")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_unencodable).encode
