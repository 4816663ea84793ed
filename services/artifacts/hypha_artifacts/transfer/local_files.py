from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypha_common.errors import BadRequest

__all__ = ["LocalFile", "Skipped", "find_files", "read_pieces"]

_PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to send; ``name`` is its path below the folder that was named, with slashes."""

    name: str
    path: Path
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the folder that is not sent."""

    name: str
    why: str


def find_files(source: Path) -> Iterator[LocalFile | Skipped]:
    """
    Yield the files of a folder, sorted by name, or the one file that is named. Raises BadRequest.

    Links that lead to a file in the same folder are sent as that file; others, and all that is no file, are skipped.

    """
    if source.is_file():
        yield _file(source, source.name)
    elif source.is_dir():
        yield from _below(source, source.resolve(), "")
    else:
        raise BadRequest(f"There is no file or folder {source}")


def _below(folder: Path, root: Path, prefix: str) -> Iterator[LocalFile | Skipped]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        name, path = prefix + entry.name, folder / entry.name
        if not entry.name.isprintable() or not _is_text(entry.name):
            yield Skipped(repr(name), "its name is no text")
        elif entry.is_symlink():
            target = path.resolve()
            if target.is_relative_to(root) and target.is_file():
                yield _file(path, name)
            else:
                yield Skipped(name, "a symbolic link to something that is no file in this folder")
        elif entry.is_dir():
            yield from _below(path, root, f"{name}/")
        elif entry.is_file():
            yield _file(path, name)
        else:
            yield Skipped(name, "no file")


async def read_pieces(path: Path, first: int, size: int) -> AsyncIterator[bytes]:
    """Yield a range of a file, a MiB at a time. Raises BadRequest where the file has become shorter."""
    import asyncio

    with path.open("rb") as file:
        file.seek(first)
        while size:
            piece = await asyncio.to_thread(file.read, min(_PIECE_BYTES, size))
            if not piece:
                raise BadRequest(f"{path} became shorter while it was being read")
            size -= len(piece)
            yield piece


def _file(path: Path, name: str) -> LocalFile:
    status = path.stat()
    return LocalFile(name, path, status.st_size, status.st_mtime_ns)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        return False
    return True
