from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from hypha_common.errors import HyphaError, Unavailable

from .functions import Calls, Identity
from .sessions import new_session_id

__all__ = ["CHUNK_BYTES", "MAX_FRAME_BYTES", "send_in_chunks"]

CHUNK_BYTES = 256 * 1024
MAX_FRAME_BYTES = CHUNK_BYTES + 1024  # clients read no larger frame from their socket (contract 01 §1.1)
# Fewer than a client would send: all of them may wait in the queue of one slow connection.
_IN_FLIGHT = 8
_CACHE = "services.built-in.message_cache"


async def send_in_chunks(
    calls: Calls, frame: bytes, *, to: str, identity: Identity, parent: str | None, ends: str | None
) -> None:
    """
    Send a long frame through the receiver's message cache (contract 01 §2.8). Raises what the calls raise.

    ``ends`` is the session of the call that the frame answers, if it does.

    """
    key = parent or new_session_id()

    async def cache(verb: str, *args: Any, ends: str | None = None) -> None:
        await calls.request(
            to, f"{_CACHE}.{verb}", [key, *args], None, identity=identity, encode=False, decode=False, ends=ends
        )

    prolongs = parent is not None
    pieces = [frame[start : start + CHUNK_BYTES] for start in range(0, len(frame), CHUNK_BYTES)]
    in_any_order = await _takes_any_order(calls, to, identity)
    await cache("create", prolongs)
    try:
        if in_any_order:
            await _send_all([partial(cache, "set", index, piece, prolongs) for index, piece in enumerate(pieces)])
        else:
            for piece in pieces:
                await cache("append", piece, prolongs)
        await cache("process", prolongs, ends=ends)
    except HyphaError:
        with suppress(Unavailable):
            calls.notify(to, f"{_CACHE}.remove", [key], identity=identity)
        raise


async def _send_all(sends: list[Callable[[], Awaitable[None]]]) -> None:
    waiting = iter(sends)

    async def send_some() -> None:
        for send in waiting:
            await send()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_IN_FLIGHT, len(sends))):
                group.create_task(send_some())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _takes_any_order(calls: Calls, to: str, identity: Identity) -> bool:
    service = await calls.request(
        to, "services.built-in.get_service", ["built-in"], None, identity=identity, encode=False, decode=False
    )
    config = service.get("config") if isinstance(service, dict) else None
    version = config.get("api_version") if isinstance(config, dict) else None
    return isinstance(version, int) and version >= 3
