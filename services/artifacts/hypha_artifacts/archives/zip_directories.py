from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from hypha_common.errors import PayloadTooLarge

from .zip_end import END_64_BYTES, TAIL_BYTES, DirectoryPlace, find_end, invalid_zip, read_end_64
from .zip_index import ZipIndex

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore

__all__ = ["ZipDirectories"]

_MAX_DIRECTORY_BYTES = 64 * 2**20  # more than half a million members
_MAX_CACHED_BYTES = 96 * 2**20
_MAX_READ_AT_ONCE = 2

_Object = tuple[str, int]  # key and size


class ZipDirectories:
    """
    The directories of archives in the store: read by a few ranged requests, whatever the size of the archive.

    Objects never change, so what was read once is kept, as far as it fits. Who asks for one that is being read waits
    for that reading.

    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._known: OrderedDict[_Object, ZipIndex] = OrderedDict()  # the least recently used first
        self._reading: dict[_Object, asyncio.Task[ZipIndex]] = {}
        self._gate = asyncio.Semaphore(_MAX_READ_AT_ONCE)
        self._cached_bytes = 0

    async def get(self, key: str, size: int) -> ZipIndex:
        """Return the directory of an archive. Raises InternalError (it is none), PayloadTooLarge, NotFound."""
        wanted = (key, size)
        if wanted in self._known:
            self._known.move_to_end(wanted)
            return self._known[wanted]
        task = self._reading.get(wanted)
        if task is None:
            task = self._reading[wanted] = asyncio.create_task(self._read(key, size))
            task.add_done_callback(lambda done: self._finished(wanted, done))
        return await asyncio.shield(task)  # others may wait for it, too

    def _finished(self, wanted: _Object, task: asyncio.Task[ZipIndex]) -> None:
        del self._reading[wanted]
        if task.cancelled() or task.exception() is not None:
            return
        index = task.result()
        if index.cost > _MAX_CACHED_BYTES:
            return
        self._known[wanted] = index
        self._cached_bytes += index.cost
        while self._cached_bytes > _MAX_CACHED_BYTES:
            self._cached_bytes -= self._known.popitem(last=False)[1].cost

    async def _read(self, key: str, size: int) -> ZipIndex:
        async with self._gate:
            start = max(0, size - TAIL_BYTES)
            tail = await self._store.read(key, first=start, size=size - start)
            place = await self._place(key, tail, start)
            if place.size > _MAX_DIRECTORY_BYTES:
                raise PayloadTooLarge(f"The directory of the ZIP file has {place.size} bytes: too many to be read")
            if place.offset >= start:
                directory = tail[place.offset - start : place.offset - start + place.size]
            else:
                directory = await self._store.read(key, first=place.offset, size=place.size)
            # Sorting half a million names takes a second.
            return await asyncio.to_thread(ZipIndex, directory, shift=place.shift)

    async def _place(self, key: str, tail: bytes, start: int) -> DirectoryPlace:
        end = find_end(tail, start)
        if end.place is not None:
            return end.place
        for at in end.wide:
            if at >= start:
                record = tail[at - start : at - start + END_64_BYTES]
            else:
                record = await self._store.read(key, first=at, size=END_64_BYTES)
            if (place := read_end_64(record, at)) is not None:
                return place
        raise invalid_zip("its zip64 end of central directory record is missing")
