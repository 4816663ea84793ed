from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from hypha_common.errors import BadRequest, HyphaError, PayloadTooLarge
from hypha_common.plans import Store, Stored

from .failures import ClientGoneError, StoreAway, StoreRefused
from .spool import Spool, SpoolRoom
from .upstream import IDLE_S, Upstream

if TYPE_CHECKING:
    from aiohttp import ClientResponse

    from .body import RequestBody

__all__ = ["Storing"]

log = structlog.get_logger(__name__)

STORED_BYTES = Counter("file_stored_bytes", "Bytes of files that went to the store")

_SHORT_BYTES = 256 * 1024  # kept until the store has them, so that they can be sent again
_SPOOL_BYTES = 16 * 2**30  # on disk at once, all bodies of unknown length together
_MAX_ANSWER_BYTES = 64 * 1024
_STORE_CODE = re.compile(rb"<Code>([A-Za-z0-9]{1,64})</Code>")
# What the store says of the body itself, and the status that it is told with.
_FAULTS_OF_THE_BODY = {
    "BadDigest": 400,
    "EntityTooLarge": 413,
    "EntityTooSmall": 400,
    "IncompleteBody": 400,
    "InvalidDigest": 400,
    "InvalidPart": 400,
    "NoSuchUpload": 404,
    "XAmzContentSHA256Mismatch": 400,
}


class Storing:
    """Sends bodies of requests to the store as they come; never more than a MiB of one is in memory."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._room = SpoolRoom(_SPOOL_BYTES)

    async def store(self, plan: Store, body: RequestBody) -> Stored:
        """
        Send the body where the plan says, and return what the store said.

        Raises PayloadTooLarge, BadRequest or RequestTimeout for the body, ClientGoneError, StoreAway or StoreRefused.
        The store keeps nothing of a body that ended before its length.

        """
        length = body.length(chunked=plan.chunked)
        if length is not None and length > plan.max_bytes:
            raise _too_large(plan)
        pieces = body.pieces(chunked=plan.chunked)
        if length is None:
            with Spool(self._room) as spool:
                async for piece in pieces:
                    if spool.size + len(piece) > plan.max_bytes:
                        raise _too_large(plan)
                    await spool.add(piece)
                return await self._stream(plan, _Outgoing(spool.pieces(), spool.size))
        outgoing = _Outgoing(pieces, length)
        return await (self._at_once(plan, outgoing) if length <= _SHORT_BYTES else self._stream(plan, outgoing))

    async def _at_once(self, plan: Store, outgoing: _Outgoing) -> Stored:
        data = b"".join([piece async for piece in outgoing.counted()])
        try:
            return await self._put(plan, data, len(data))
        except StoreAway:
            return await self._put(plan, data, len(data))

    async def _stream(self, plan: Store, outgoing: _Outgoing) -> Stored:
        try:
            async with asyncio.timeout(None) as outgoing.patience:
                return await self._put(plan, outgoing.counted(), outgoing.length)
        except (StoreAway, TimeoutError):
            if outgoing.failure is not None:  # the store got no whole body because we got none
                raise outgoing.failure from None
            raise StoreAway from None

    async def _put(self, plan: Store, data: bytes | AsyncIterator[bytes], size: int) -> Stored:
        headers = [*plan.send, ("Content-Length", str(size))]
        async with self._upstream.request("PUT", plan.url, headers, data) as answer:
            if answer.status not in (200, 201, 204):
                raise await _refused(answer)
            STORED_BYTES.inc(size)
            return Stored(plan.receipt, size, answer.headers.get("ETag", "").strip('"'))


class _Outgoing:
    """A body on its way to the store: has to be as long as it was said, and to move."""

    def __init__(self, pieces: AsyncIterator[bytes], length: int) -> None:
        self.length = length
        self.failure: HyphaError | ClientGoneError | None = None
        self.patience: asyncio.Timeout | None = None
        self._pieces = pieces

    async def counted(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._pieces:
                size += len(piece)
                if size > self.length:
                    raise BadRequest(f"The body is longer than the {self.length} bytes that were announced")
                self._be_patient()
                yield piece
            if size != self.length:
                raise BadRequest(f"The body ended after {size} of {self.length} bytes")
        except (HyphaError, ClientGoneError) as error:
            self.failure = error
            raise

    def _be_patient(self) -> None:
        """The store has taken all before this piece: it gets time for this one, and the client for the next."""
        if self.patience is not None:
            self.patience.reschedule(asyncio.get_running_loop().time() + 2 * IDLE_S)


async def _refused(answer: ClientResponse) -> HyphaError:
    """Return what is told of a refusal; of keys and buckets, which its text may name, nothing is."""
    text = await answer.content.read(_MAX_ANSWER_BYTES)
    found = _STORE_CODE.search(text)
    code = found.group(1).decode() if found else ""
    log.warning("store_refused", method="PUT", status=answer.status, code=code)
    if answer.status >= 500 or answer.status == 429:
        return StoreAway()
    if code == "EntityTooLarge" or answer.status == 413:
        return PayloadTooLarge("The store takes no file as large as this in one piece; use a multipart upload")
    if code not in _FAULTS_OF_THE_BODY:
        return StoreRefused()
    error = StoreRefused(f"The store refused the body: {code}", store_code=code)
    error.status = _FAULTS_OF_THE_BODY[code]
    return error


def _too_large(plan: Store) -> PayloadTooLarge:
    return PayloadTooLarge(f"The file is larger than {plan.max_bytes} bytes")
