from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from types import TracebackType
from typing import IO

from hypha_common.errors import Unavailable

__all__ = ["MEMORY_BYTES", "Spool", "SpoolRoom"]

MEMORY_BYTES = 1024 * 1024  # of one body, before it goes to disk; also written and read at once


class SpoolRoom:
    """The room on disk that all bodies of unknown length share."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.taken = 0

    def take(self, size: int) -> None:
        """Raise Unavailable where there is no room."""
        if self.taken + size > self._max_bytes:
            raise Unavailable("Too many bodies without a length at once; send Content-Length, or retry later")
        self.taken += size

    def give_back(self, size: int) -> None:
        self.taken -= size


class Spool:
    """
    Keeps a body until its length is known: a short one in memory, any other in a file without a name.

    For a store that takes no body without a length; the gateway may ask it for one request only, so that a multipart
    upload is no way.

    """

    def __init__(self, room: SpoolRoom) -> None:
        self._room = room
        self._recent: list[bytes] = []
        self._recent_bytes = 0
        self._file: IO[bytes] | None = None
        self._on_disk = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._room.give_back(self._on_disk)
        if self._file is not None:
            self._file.close()

    @property
    def size(self) -> int:
        return self._on_disk + self._recent_bytes

    async def add(self, piece: bytes) -> None:
        """Keep a piece. Raises Unavailable where there is no room."""
        self._recent.append(piece)
        self._recent_bytes += len(piece)
        if self._recent_bytes >= MEMORY_BYTES:
            await self._write()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield all of it, once."""
        if self._file is not None:
            await asyncio.to_thread(self._file.seek, 0)
            while data := await asyncio.to_thread(self._file.read, MEMORY_BYTES):
                yield data
        yield b"".join(self._recent)

    async def _write(self) -> None:
        size = self._recent_bytes
        self._room.take(size)
        self._on_disk += size
        data, self._recent, self._recent_bytes = self._recent, [], 0
        try:
            await asyncio.to_thread(self._append, data)
        except OSError as error:
            raise Unavailable(f"A body without a length could not be kept: {error.strerror}") from None

    def _append(self, data: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="hypha-body-")  # noqa: SIM115  # closed by __exit__
        self._file.writelines(data)
