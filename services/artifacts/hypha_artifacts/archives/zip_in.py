from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from hypha_artifacts.data_port import Body

from .unpacker import LOCAL_HEADER_BYTES, Unpacker, data_offset
from .zip_directories import ZipDirectories
from .zip_end import invalid_zip

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore

    from .zip_index import ZipIndex, ZipMember

__all__ = ["ZipIn"]

_FEW_MEMBERS = 2000


class ZipIn:
    """Looks into archives in the store, and unpacks their members while they are sent."""

    LISTING = "zip-listing"
    MEMBER = "zip-member"

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._directories = ZipDirectories(store)

    async def listing(self, key: str, size: int, folder: str) -> bytes | None:
        """
        Return what is directly in a folder of an archive, as JSON; None where it may be much: :meth:`make_listing`.

        Raises InternalError where it is no archive.

        """
        index = await self._directories.get(key, size)
        return _listing(index, folder) if len(index) <= _FEW_MEMBERS else None

    async def find(self, key: str, size: int, path: str) -> ZipMember | None:
        """Return a member, or None. Raises InternalError where it cannot be read."""
        return (await self._directories.get(key, size)).find(path)

    async def order(self, key: str, size: int, member: ZipMember) -> dict[str, Any]:
        """Return the order for :meth:`make`. Raises InternalError where the member cannot be unpacked."""
        member.check_readable()
        if member.offset + LOCAL_HEADER_BYTES > size:
            raise invalid_zip(f"{member.name!r} is beyond its end")
        header = await self._store.read(key, first=member.offset, size=LOCAL_HEADER_BYTES)
        first = data_offset(header, member.offset)
        if first + member.compressed_size > size:
            raise invalid_zip(f"{member.name!r} goes beyond its end")
        return {
            "key": key,
            "first": first,
            "packed": member.compressed_size,
            "method": member.method,
            "size": member.size,
            "crc": member.crc,
        }

    async def make(self, order: Mapping[str, Any]) -> Body:
        """Return a member, unpacked."""
        return Body(order["size"], _unpacked(self._store, order))

    async def make_listing(self, order: Mapping[str, Any]) -> Body:
        """Return a listing of an archive with many members."""
        index = await self._directories.get(order["key"], order["size"])
        listing = await asyncio.to_thread(_listing, index, order["folder"])
        return Body(len(listing), _once(listing), "application/json")


def _listing(index: ZipIndex, folder: str) -> bytes:
    return json.dumps(list(index.children(folder)), ensure_ascii=False).encode(errors="replace")


async def _unpacked(store: BlobStore, order: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
    unpacker = Unpacker(method=order["method"], size=order["size"], crc=order["crc"])
    last = b""  # waits until the check sum is known: whoever has all bytes believes them
    async with aclosing(store.stream(order["key"], first=order["first"], size=order["packed"])) as chunks:
        async for chunk in chunks:
            for piece in unpacker.feed(chunk):
                yield last
                last = piece
    unpacker.finish()
    yield last


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
