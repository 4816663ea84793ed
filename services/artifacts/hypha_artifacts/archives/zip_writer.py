from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterable, Iterator

from hypha_common.errors import Unavailable

from .zip_format import (
    Member,
    central_length,
    central_record,
    descriptor,
    end_length,
    end_records,
    local_header,
    member_length,
)

__all__ = ["ZipLength", "ZipWriter"]

_DIRECTORY_CHUNK_BYTES = 64 * 1024


class ZipLength:
    """Adds up how long the archive of some members is, which :class:`ZipWriter` writes to the byte."""

    def __init__(self) -> None:
        self._count = self._offset = self._directory = 0

    def add(self, name: str, size: int) -> None:
        name_bytes = len(name.encode())
        self._count += 1
        self._directory += central_length(name_bytes, size, self._offset)
        self._offset += member_length(name_bytes, size)

    @property
    def total(self) -> int:
        return self._offset + self._directory + end_length(self._count, self._offset, self._directory)


class ZipWriter:
    """
    Writes an archive front to back: for each member begin, data as often as needed, end; then the directory.

    Without I/O: what has to be written is returned. Of a member 12 bytes are kept.

    """

    def __init__(self) -> None:
        self._crcs = array("I")
        self._offsets = array("Q")
        self._position = 0
        self._member: Member | None = None
        self._crc = self._size = 0

    def begin(self, member: Member) -> bytes:
        """Return what stands before the bytes of a member."""
        header = local_header(member)
        self._offsets.append(self._position)
        self._position += len(header)
        self._member, self._crc, self._size = member, 0, 0
        return header

    def data(self, chunk: bytes) -> None:
        """Note bytes of the member, which are written as they are."""
        self._crc = zlib.crc32(chunk, self._crc)
        self._size += len(chunk)

    def end(self) -> bytes:
        """Return what follows the bytes of the member. Raises Unavailable where they were not as many as announced."""
        assert self._member is not None
        if self._size != self._member.size:
            raise Unavailable(f"{self._member.name!r} has {self._size} bytes, not {self._member.size}")
        tail = descriptor(self._size, self._crc)
        self._crcs.append(self._crc)
        self._position += self._size + len(tail)
        return tail

    def directory(self, members: Iterable[Member]) -> Iterator[bytes]:
        """Yield the rest of the archive. ``members`` are those that were written, once more."""
        start, chunk, size = self._position, bytearray(), 0
        for member, crc, offset in zip(members, self._crcs, self._offsets, strict=True):
            chunk += central_record(member, crc, offset)
            if len(chunk) >= _DIRECTORY_CHUNK_BYTES:
                size += len(chunk)
                yield bytes(chunk)
                chunk.clear()
        size += len(chunk)
        yield bytes(chunk) + end_records(len(self._crcs), start, size)
