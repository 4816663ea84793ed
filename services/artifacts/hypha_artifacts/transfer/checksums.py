from __future__ import annotations

import hashlib
import re
from pathlib import Path

__all__ = ["is_md5", "local_etag", "part_size_for"]

_MD5 = re.compile(r"[0-9a-f]{32}")
_OF_PARTS = re.compile(r"[0-9a-f]{32}-(\d+)")
_PIECE_BYTES = 2**20
_MAX_PARTS = 10_000
MIN_PART_BYTES = 32 * 2**20


def part_size_for(size: int, least: int = MIN_PART_BYTES) -> int:
    """Return the size of the parts that a file of ``size`` bytes is sent in, whole MiB."""
    needed = -(-size // _MAX_PARTS)
    return max(least, -(-needed // 2**20) * 2**20)


def is_md5(etag: str | None) -> bool:
    return etag is not None and _MD5.fullmatch(etag) is not None


def local_etag(path: Path, etag: str | None, *, part_bytes: int) -> str | None:
    """
    Return the etag of a file on this machine, in the form that ``etag`` has; None for an unknown form.

    The etag of an object that was sent in parts is the MD5 of their MD5s, and how many they were.

    """
    if etag is None:
        return None
    if is_md5(etag):
        return _digest(path, 0, path.stat().st_size).hexdigest()
    size = path.stat().st_size
    of_parts = _OF_PARTS.fullmatch(etag)
    if of_parts is None or int(of_parts[1]) != -(-size // part_bytes):
        return None
    digests = b"".join(_digest(path, first, part_bytes).digest() for first in range(0, size, part_bytes))
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{of_parts[1]}"


def _digest(path: Path, first: int, size: int) -> hashlib._Hash:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        file.seek(first)
        while size > 0 and (piece := file.read(min(_PIECE_BYTES, size))):
            digest.update(piece)
            size -= len(piece)
    return digest
