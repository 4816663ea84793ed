from __future__ import annotations

from collections.abc import Iterable

from starlette_compress import CompressMiddleware, remove_compress_type

from .responses import Receive, Scope, Send

__all__ = ["compressing", "is_small"]

MIN_BYTES = 1000
_MIN_DIGITS = len(str(MIN_BYTES))
_OURS = "hypha.compressing"  # key of a scope that lives for one answer

remove_compress_type("text/event-stream")  # each event is to be seen at once


def is_small(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Tell whether an answer says that it has less than 1000 bytes: most have, and are not looked at any further."""
    for name, value in headers:
        if name == b"content-length":
            return len(value) < _MIN_DIGITS
    return False


async def compressing(scope: Scope, receive: Receive, send: Send) -> Send:
    """Return a ``send`` that compresses an answer, where that helps and the caller takes it, and passes it on."""
    request: Scope = {**scope, _OURS: send}
    await _middleware(request, receive, send)
    made: Send = request[_OURS]
    return made


async def _keep(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand where the middleware expects the app, to take the ``send`` that it makes for one."""
    scope[_OURS] = send


_middleware = CompressMiddleware(_keep, minimum_size=MIN_BYTES)
