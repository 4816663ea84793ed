from __future__ import annotations

from collections import deque
from typing import Any

from .errors import WorkerError

__all__ = ["MAX_ENTRIES", "SessionLog"]

MAX_ENTRIES = 2048
_MAX_ENTRY_BYTES = 8192
_MAX_BYTES = 4 * 2**20
_CUT = " … (cut)"
_HIDDEN = "<token>"


class SessionLog:
    """
    What a session logged: the newest entries ``{type, content}``, each of them cut.

    ``secrets`` are hidden wherever they stand, such as the token that the app was given.

    """

    def __init__(
        self, *, secrets: tuple[str, ...] = (), max_entries: int = MAX_ENTRIES, max_bytes: int = _MAX_BYTES
    ) -> None:
        self._secrets = tuple(secret for secret in secrets if secret)
        self._entries: deque[tuple[str, str, int]] = deque()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, kind: str, text: str) -> None:
        """Add an entry; the oldest ones make room."""
        text = self.clean(text)
        encoded = text.encode(errors="replace")
        if len(encoded) > _MAX_ENTRY_BYTES:
            text = encoded[:_MAX_ENTRY_BYTES].decode(errors="ignore") + _CUT
        size = min(len(encoded), _MAX_ENTRY_BYTES)
        self._entries.append((kind, text, size))
        self._bytes += size
        self._make_room()

    def clean(self, text: str) -> str:
        """Return a text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return text

    def shrink(self, max_bytes: int) -> None:
        """Keep the end only, of a session that has ended: there may be many."""
        self._max_bytes = max_bytes
        self._make_room()

    def texts(self, kind: str) -> list[str]:
        return [text for entry, text, _ in self._entries if entry == kind]

    def page(self, kind: str | None = None, offset: int = 0, limit: int | None = None) -> dict[str, Any]:
        """Return ``{items: [{type, content}], total, offset, limit}``, of one type or of all. Raises WorkerError."""
        if offset < 0 or (limit is not None and limit < 0):
            raise WorkerError("offset and limit must not be less than 0")
        wanted = [{"type": entry, "content": text} for entry, text, _ in self._entries if kind is None or entry == kind]
        end = None if limit is None else offset + limit
        return {"items": wanted[offset:end], "total": len(wanted), "offset": offset, "limit": limit}

    def _make_room(self) -> None:
        while len(self._entries) > self._max_entries or (self._bytes > self._max_bytes and len(self._entries) > 1):
            self._bytes -= self._entries.popleft()[2]
