from __future__ import annotations

from collections import OrderedDict

from hypha_common.envelope import Envelope

__all__ = ["Reassembly"]


class Reassembly:
    """
    Rejoins messages that were larger than the bus allows.

    Fragments of one message arrive in order on one connection; those of different senders interleave. Memory is
    bounded: when ``max_bytes`` is exceeded the oldest unfinished message is given up (its sender died midway, or
    nobody could hold it).

    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._parts: OrderedDict[tuple[str, str, int], list[bytes]] = OrderedDict()
        self._replies: dict[tuple[str, str, int], str] = {}  # the first fragment says where an answer should go
        self.dropped = 0

    def add(self, subject: str, piece: Envelope, reply: str = "") -> tuple[bytes, str] | None:
        """Take one fragment; return the whole message, and where its answer should go, when it was the last one."""
        key = (subject, piece.source, piece.message)
        parts = self._parts.get(key)
        if parts is None:
            if piece.index != 0:
                self.dropped += 1
                return None
            parts = self._parts[key] = []
            if reply:
                self._replies[key] = reply
        if piece.index != len(parts):
            self._forget(key)
            return None
        parts.append(bytes(piece.body))
        self._bytes += len(piece.body)
        if len(parts) == piece.count:
            del self._parts[key]
            self._bytes -= sum(map(len, parts))
            return b"".join(parts), self._replies.pop(key, "")
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._parts)))
        return None

    def _forget(self, key: tuple[str, str, int]) -> None:
        self._bytes -= sum(map(len, self._parts.pop(key)))
        self._replies.pop(key, None)
        self.dropped += 1
