from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Page", "Part", "StoredBlob"]


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """What the store says of an object."""

    key: str
    size: int
    etag: str  # without quotes
    modified_at: float  # Unix time, seconds
    content_type: str | None = None  # None in listings


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing; ``next`` is where it goes on, empty where it does not."""

    objects: list[StoredBlob]
    folders: list[str]  # prefixes up to and with the delimiter
    next: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a multipart upload."""

    number: int
    size: int
    etag: str  # without quotes
    modified_at: float  # Unix time, seconds
