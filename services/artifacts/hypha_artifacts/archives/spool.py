from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hypha_common.wire import pack, unpack

__all__ = ["Spool", "StoredFile"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file whose bytes are in the store."""

    path: str
    key: str
    size: int
    modified_at: float  # Unix time, seconds


class Spool:
    """
    A list of files that is read twice, packed: about 60 bytes for each.

    What is written between the two readings of rows would differ, and an archive of 100,000 files must not hold as many
    rows for as long as somebody downloads it.

    """

    def __init__(self) -> None:
        self._pages: list[bytes] = []

    def add(self, files: Iterable[StoredFile]) -> None:
        """Append a page of files."""
        rows = [(file.path, file.key, file.size, file.modified_at) for file in files]
        self._pages.append(zlib.compress(pack(rows), level=1))

    def __iter__(self) -> Iterator[StoredFile]:
        for page in self._pages:
            for row in unpack(zlib.decompress(page)):
                yield StoredFile(*row)
