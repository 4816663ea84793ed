"""
Conditional requests and ranges of files (RFC 9110 §13, §14). Pure: size, etag and time of a file are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

__all__ = ["Entity", "UnsatisfiableError", "precondition", "range_for_store", "wanted_range"]

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.ASCII | re.IGNORECASE)
_TAGS = re.compile(r'(W/)?"([^"]*)"')
_MAX_DIGITS = 18

Request = Mapping[str, str]  # headers of a request


class UnsatisfiableError(ValueError):
    """A range begins behind the end of the file."""


@dataclass(frozen=True, slots=True)
class Entity:
    """What validators are compared with."""

    size: int
    etag: str  # without quotes; may be empty
    modified_at: float  # Unix time, seconds

    @property
    def last_modified(self) -> str:
        return formatdate(int(self.modified_at), usegmt=True)


def precondition(request: Request, entity: Entity) -> int | None:
    """Return the status that ends a request early: 304 or 412; None where it goes on (RFC 9110 §13.2.2)."""
    if "if-match" in request:
        if not _matches(request["if-match"], entity.etag, weakly=False):
            return 412
    elif (since := _time(request.get("if-unmodified-since"))) is not None and int(entity.modified_at) > since:
        return 412
    if "if-none-match" in request:
        return 304 if _matches(request["if-none-match"], entity.etag, weakly=True) else None
    since = _time(request.get("if-modified-since"))
    return 304 if since is not None and int(entity.modified_at) <= since else None


def wanted_range(request: Request, entity: Entity) -> tuple[int, int] | None:
    """
    Return first and last byte of the piece that is wanted, or None for the whole.

    Several ranges, or what is no range, are not looked at, as the RFC allows. Raises UnsatisfiableError.

    """
    found = _RANGE.fullmatch(request.get("range", ""))
    if found is None or not _still_fits(request.get("if-range"), entity):
        return None
    first, last = found.groups()
    if max(len(first), len(last)) > _MAX_DIGITS or not (first or last):
        return None
    if not first:
        length = min(int(last), entity.size)
        if not length:
            raise UnsatisfiableError
        return entity.size - length, entity.size - 1
    begin, end = int(first), min(int(last), entity.size - 1) if last else entity.size - 1
    if last and int(last) < begin:
        return None
    if begin >= entity.size:
        raise UnsatisfiableError
    return begin, end


def range_for_store(request: Request) -> list[tuple[str, str]]:
    """
    Return the header that asks a store for the piece that is wanted: none for what is no range.

    Clients send `bytes=0--1` to read nothing; stores that should not look at it answer 416.

    """
    found = _RANGE.fullmatch(request.get("range", ""))
    if found is None:
        return []
    first, last = found.groups()
    if not (first or last) or (first and last and int(last[:_MAX_DIGITS]) < int(first[:_MAX_DIGITS])):
        return []
    return [("range", f"bytes={first}-{last}")]


def _still_fits(condition: str | None, entity: Entity) -> bool:
    """Tell whether a piece may be sent: If-Range wants the whole where the file is another one by now."""
    if condition is None:
        return True
    if condition.lstrip().startswith(('"', "W/")):
        return _matches(condition, entity.etag, weakly=False)
    return _time(condition) == int(entity.modified_at)


def _matches(condition: str, etag: str, *, weakly: bool) -> bool:
    if condition.strip() == "*":
        return True
    return bool(etag) and any(tag == etag and (weakly or not weak) for weak, tag in _TAGS.findall(condition))


def _time(text: str | None) -> int | None:
    """Read an HTTP date; what is none does not count."""
    if not text:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None
