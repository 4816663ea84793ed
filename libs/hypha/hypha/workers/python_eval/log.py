from __future__ import annotations

import codecs
from collections import deque
from typing import Any

__all__ = ["Lines", "SessionLog"]

_MAX_LINE = 8192  # characters; longer ones are parted


class SessionLog:
    """The newest of what a script has printed, and of what is to be said about it: ``{type, content}``."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._entries: deque[tuple[str, str]] = deque()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, kind: str, content: str) -> None:
        """Keep an entry; the oldest are dropped where there is no room."""
        self._entries.append((kind, content))
        self._bytes += _size(content)
        while len(self._entries) > self._max_entries or (self._bytes > self._max_bytes and len(self._entries) > 1):
            self._bytes -= _size(self._entries.popleft()[1])

    def page(self, kind: str | None = None, offset: int = 0, limit: int | None = None) -> dict[str, Any]:
        """Return ``{items, total, offset, limit}``, of one type or of all."""
        found = [{"type": one, "content": text} for one, text in self._entries if kind in (None, one)]
        end = None if limit is None else offset + limit
        return {"items": found[offset:end], "total": len(found), "offset": offset, "limit": limit}


class Lines:
    """Makes lines of the bytes of a stream, as they come."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now; without data, at the end, all that is left."""
        text = self._rest + self._decode(data, final=not data)
        *lines, self._rest = text.split("\n")
        if not data or len(self._rest) > _MAX_LINE:
            lines, self._rest = [*lines, *([self._rest] if self._rest else [])], ""
        return [line[at : at + _MAX_LINE] for line in lines for at in range(0, max(len(line), 1), _MAX_LINE)]


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
