from __future__ import annotations

from collections import deque
from typing import Any

__all__ = ["SessionLog"]

_MAX_ENTRIES = 2048
_MAX_ENTRY_BYTES = 8192
_MAX_BYTES = 4 * 2**20
_MAX_ENDED_BYTES = 64 * 2**10
_CUT = " … (cut)"
_HIDDEN = "<token>"


class SessionLog:
    """What an app logged: the newest entries, each of them cut, and without the token that the app was given."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)
        self._entries: deque[tuple[str, str]] = deque()
        self._bytes = 0
        self._max_bytes = _MAX_BYTES

    def add(self, kind: str, text: str) -> None:
        """Add an entry; the oldest ones make room."""
        text = self.clean(text)
        encoded = text.encode(errors="replace")
        if len(encoded) > _MAX_ENTRY_BYTES:
            text = encoded[:_MAX_ENTRY_BYTES].decode(errors="ignore") + _CUT
        self._entries.append((kind, text))
        self._bytes += len(text)
        self._make_room()

    def shrink(self) -> None:
        """Keep the end only, of an app that has ended: there may be many."""
        self._max_bytes = _MAX_ENDED_BYTES
        self._make_room()

    def clean(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    def _make_room(self) -> None:
        while len(self._entries) > _MAX_ENTRIES or self._bytes > self._max_bytes:
            self._bytes -= len(self._entries.popleft()[1])

    def texts(self, kind: str) -> list[str]:
        return [text for entry, text in self._entries if entry == kind]

    def page(self, kind: str | None, offset: int, limit: int | None) -> dict[str, Any]:
        """Return ``{items: [{type, content}], total, offset, limit}``."""
        wanted = [(entry, text) for entry, text in self._entries if kind is None or entry == kind]
        end = None if limit is None else offset + limit
        return {
            "items": [{"type": entry, "content": text} for entry, text in wanted[offset:end]],
            "total": len(wanted),
            "offset": offset,
            "limit": limit,
        }
