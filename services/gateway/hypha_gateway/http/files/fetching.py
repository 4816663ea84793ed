from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from hypha_common.errors import NotFound
from hypha_common.plans import Fetch, Headers

from .failures import ClientGoneError, PreconditionFailed, RangeNotSatisfiable, StoreAway, StoreRefused
from .upstream import IDLE_S, Upstream
from .user_content import user_content_headers

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from .exchange import Exchange

__all__ = ["fetch"]

log = structlog.get_logger(__name__)

FETCHED_BYTES = Counter("file_fetched_bytes", "Bytes of files that came from the store")
CUT_SHORT = Counter("file_cut_short", "Files that the store did not send to their end")

_FROM_STORE = ("accept-ranges", "content-encoding", "content-range", "etag", "last-modified")
_AT_ONCE_BYTES = 64 * 1024
_ATTEMPTS = 2


async def fetch(plan: Fetch, exchange: Exchange, upstream: Upstream) -> None:
    """
    Answer with what is at ``plan.url``, as fast as the client takes it.

    Raises NotFound, RangeNotSatisfiable, StoreAway or StoreRefused before the first byte, ClientGoneError. A body that
    the store cuts short ends the client's connection, so that it cannot pass for a whole one.

    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            await _try(plan, exchange, upstream)
            return
        except StoreAway:
            if exchange.started or attempt == _ATTEMPTS:
                raise
        except RangeNotSatisfiable as error:
            if not error.content_range:  # not every store tells of what there is no such range
                error.content_range = await _all_of_it(plan, exchange, upstream)
            raise


async def _try(plan: Fetch, exchange: Exchange, upstream: Upstream) -> None:
    method = "HEAD" if exchange.method == "HEAD" else "GET"
    send = [*plan.send, ("Accept-Encoding", "identity")]
    async with upstream.request(method, plan.url, send) as answer:
        status = _status(answer, plan)
        headers = _headers(answer, plan)
        has_body = method == "GET" and status in (200, 206)
        length = answer.content_length
        if length is not None and has_body:
            headers.append(("content-length", str(length)))
        elif method == "HEAD" and "content-length" in answer.headers:
            headers.append(("content-length", answer.headers["content-length"]))
        if not has_body:
            await exchange.send_whole(status, headers, b"", as_it_is=True)
        elif length is not None and length <= _AT_ONCE_BYTES:
            await exchange.send_whole(status, headers, await _read(answer), as_it_is=True)
        else:
            await exchange.begin(status, headers, as_it_is=True)
            await _pass_on(answer, exchange)


async def _all_of_it(plan: Fetch, exchange: Exchange, upstream: Upstream) -> str:
    send = [(name, value) for name, value in plan.send if name.lower() != "range"]
    method = "HEAD" if exchange.method == "HEAD" else "GET"  # as the address is signed
    async with upstream.request(method, plan.url, send) as answer:
        size = answer.headers.get("content-length")
        return f"bytes */{size}" if answer.status == 200 and size else ""


def _status(answer: ClientResponse, plan: Fetch) -> int:
    status = answer.status
    if status == 200 and "content-range" in answer.headers:  # rclone
        return 206
    if status in (200, 206, 304):
        return status
    if status == 412:
        raise PreconditionFailed
    if status == 404:
        raise NotFound(plan.missing, rpc_type="FileNotFoundError")
    if status == 416:
        raise RangeNotSatisfiable(answer.headers.get("content-range", ""))
    log.warning("store_refused", method=answer.method, status=status)
    raise StoreAway if status >= 500 or status == 429 else StoreRefused


def _headers(answer: ClientResponse, plan: Fetch) -> Headers:
    own = user_content_headers(plan.headers)
    given = {name for name, _ in own}
    if "content-type" not in given:
        own.append(("content-type", "application/octet-stream"))
    return own + [(name, answer.headers[name]) for name in _FROM_STORE if name in answer.headers and name not in given]


async def _read(answer: ClientResponse) -> bytes:
    from aiohttp import ClientError

    try:
        body = await answer.read()
    except (ClientError, OSError, TimeoutError):
        raise StoreAway from None
    FETCHED_BYTES.inc(len(body))
    return body


async def _pass_on(answer: ClientResponse, exchange: Exchange) -> None:
    # Only receive() tells that the client has gone: sending to nobody raises nothing.
    sending = asyncio.create_task(_send_all(answer, exchange))
    watching = asyncio.create_task(exchange.client_gone())
    try:
        await asyncio.wait((sending, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        if not sending.done():
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
    if sending.cancelled():
        raise ClientGoneError
    sending.result()


async def _send_all(answer: ClientResponse, exchange: Exchange) -> None:
    from aiohttp import ClientError

    try:
        async for piece in _pieces(answer):
            async with asyncio.timeout(IDLE_S):
                await exchange.send_piece(piece)
            FETCHED_BYTES.inc(len(piece))
    except (ClientError, OSError, TimeoutError) as error:
        CUT_SHORT.inc()
        log.warning("file_cut_short", error=type(error).__name__)
        exchange.cut()
        return
    await exchange.end()


async def _pieces(answer: ClientResponse) -> AsyncIterator[bytes]:
    while piece := await answer.content.readany():
        yield piece
