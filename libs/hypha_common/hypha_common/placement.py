from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from .subjects import PARTITIONS

__all__ = ["NamedDatabase", "Placed", "default_name", "partition_range", "placement", "ranges"]

NO_PARTITION = "none"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RANGE = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?")
# An address may hold commas, too: several hosts of one server.
_NEXT = re.compile(r",(?=\s*(?:[A-Za-z0-9._-]+:)?(?:\d[\d-]*|none)=)")


@dataclass(frozen=True, slots=True)
class NamedDatabase:
    """A database that may hold workspaces. Its name has no password in it; the place of a partition is kept by name."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Placed:
    """One part of ``database_partitions``."""

    name: str
    numbers: range
    url: str


def placement(value: str) -> list[Placed]:
    """Parse ``[name:]0-31=url,[name:]none=url``. Raises ValueError with what is wrong, without any address."""
    found = []
    for part in _NEXT.split(value):
        head, equals, url = part.strip().partition("=")
        name, colon, numbers = head.rpartition(":")
        if not equals or not url or (colon and not _NAME.fullmatch(name)):
            raise ValueError("must look like 0-31=postgresql://…,32-63=postgresql://…")
        if not colon and not (numbers == NO_PARTITION or _RANGE.fullmatch(numbers)):
            raise ValueError("must look like 0-31=postgresql://…,32-63=postgresql://…")
        found.append(Placed(name, range(0) if numbers == NO_PARTITION else partition_range(numbers), url))
    # One name for one database, in whichever of its parts that is given.
    names = {part.url: part.name for part in reversed(found) if part.name}
    return [
        Placed(part.name or names.get(part.url) or default_name(part.url), part.numbers, part.url) for part in found
    ]


def default_name(url: str) -> str:
    """Return ``host:port/database``: where a database is, without who uses it."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return f"{parts.hostname or 'localhost'}:{port or 5432}{parts.path}"


def partition_range(text: str) -> range:
    """Parse ``0-31`` or ``5``. Raises ValueError with what is wrong."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"must be partitions like 0-31 or 5, not {text.strip()!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last < PARTITIONS:
        raise ValueError(
            f"must be partitions between 0 and {PARTITIONS - 1}, the lower one first, not {text.strip()!r}"
        )
    return range(first, last + 1)


def ranges(partitions: Iterable[int]) -> str:
    """Write partitions as ``0-31,40``."""
    runs: list[list[int]] = []
    for number in sorted(set(partitions)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
