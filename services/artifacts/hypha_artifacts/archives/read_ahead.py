from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore

    from .spool import StoredFile

__all__ = ["read_ahead"]

_SMALL_BYTES = 256 * 1024  # what is smaller is read whole, before its turn
_MAX_READS = 12
_MAX_HELD_BYTES = 4 * 2**20


async def read_ahead(
    store: BlobStore, files: Iterable[StoredFile]
) -> AsyncGenerator[tuple[StoredFile, AsyncGenerator[bytes, None]], None]:
    """
    Yield files in their order, each with its bytes.

    The small ones that follow are being read meanwhile, for many of them would take a round trip each; how much is held
    is bounded.

    """
    source = iter(files)
    ahead = _Ahead(store)
    upcoming = next(source, None)
    try:
        while True:
            while upcoming is not None and ahead.has_room(upcoming):
                ahead.push(upcoming)
                upcoming = next(source, None)
            if ahead.is_empty:
                return
            yield await ahead.pop()
    finally:
        await ahead.close()


class _Ahead:
    """Files in their order, and the reading of those that are small."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._waiting: deque[tuple[StoredFile, asyncio.Task[bytes] | None]] = deque()
        self._held = 0

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def has_room(self, file: StoredFile) -> bool:
        fits = not _is_small(file) or self._held + file.size <= _MAX_HELD_BYTES
        return not self._waiting or (len(self._waiting) < _MAX_READS and fits)

    def push(self, file: StoredFile) -> None:
        task = None
        if _is_small(file):
            self._held += file.size
            task = asyncio.create_task(_whole(self._store, file))
        self._waiting.append((file, task))

    async def pop(self) -> tuple[StoredFile, AsyncGenerator[bytes, None]]:
        file, task = self._waiting[0]
        if task is None:
            self._waiting.popleft()
            return file, self._store.stream(file.key, size=file.size)
        data = await task
        self._waiting.popleft()
        self._held -= file.size
        return file, _once(data)

    async def close(self) -> None:
        tasks = [task for _, task in self._waiting if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_small(file: StoredFile) -> bool:
    return file.size <= _SMALL_BYTES


async def _whole(store: BlobStore, file: StoredFile) -> bytes:
    return b"".join([chunk async for chunk in store.stream(file.key, size=file.size)])


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data
