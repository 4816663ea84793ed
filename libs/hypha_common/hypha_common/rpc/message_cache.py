from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypha_common.errors import BadRequest, Conflict, NotFound, PayloadTooLarge, QuotaExceeded

__all__ = ["MessageCache"]

MAX_PIECES = 4096
MAX_KEY_CHARACTERS = 512


@dataclass(slots=True)
class _Message:
    touched: float
    pieces: dict[int, bytes] = field(default_factory=dict)
    size: int = 0


class MessageCache:
    """
    Pieces of long messages that are still on their way (contract 01 §2.8).

    A message belongs to the client that made it: no other can see, fill or remove it. What has not moved for
    ``max_age_s`` is forgotten.

    """

    def __init__(
        self,
        *,
        now: Callable[[], float],
        sender_bytes: int = 64 * 2**20,
        total_bytes: int = 256 * 2**20,
        sender_messages: int = 256,
        max_age_s: float = 120.0,
    ) -> None:
        self._now = now
        self._sender_bytes = sender_bytes
        self._total_bytes = total_bytes
        self._sender_messages = sender_messages
        self._max_age_s = max_age_s
        self._by_sender: dict[str, dict[str, _Message]] = {}  # an entry exists while it has a message
        self._sizes: dict[str, int] = {}
        self.size = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_sender.values()))

    def create(self, sender: str, key: str, *, overwrite: bool = False) -> None:
        """Begin a message."""
        if len(key) > MAX_KEY_CHARACTERS:
            raise BadRequest("The key of a message is too long")
        messages = self._by_sender.get(sender, {})
        if key in messages:
            if not overwrite:
                raise Conflict(f"Message with the same key ({key}) already exists in the cache store")
            self.remove(sender, key)
            messages = self._by_sender.get(sender, {})
        if len(messages) >= self._sender_messages:
            raise QuotaExceeded(f"Too many unfinished messages of {sender}")
        self._by_sender.setdefault(sender, messages)[key] = _Message(self._now())

    def append(self, sender: str, key: str, data: bytes) -> None:
        """Add the next piece."""
        self.set(sender, key, len(self._get(sender, key).pieces), data)

    def set(self, sender: str, key: str, index: int, data: bytes) -> None:
        """Add or replace the piece at ``index``. Raises PayloadTooLarge where a limit is reached."""
        message = self._get(sender, key)
        if not 0 <= index < MAX_PIECES:
            raise BadRequest(f"Invalid piece of a message: {index}")
        growth = len(data) - len(message.pieces.get(index, b""))
        used = self._sizes.get(sender, 0)
        if used + growth > self._sender_bytes or self.size + growth > self._total_bytes:
            self.remove(sender, key)
            raise PayloadTooLarge(f"The unfinished messages of {sender} take more memory than allowed")
        message.pieces[index] = data
        message.size += growth
        message.touched = self._now()
        self._account(sender, growth)

    def take(self, sender: str, key: str) -> bytes:
        """Remove a message and return it joined. Raises BadRequest where a piece is missing."""
        pieces = self._get(sender, key).pieces
        self.remove(sender, key)
        try:
            return b"".join([pieces[index] for index in range(len(pieces))])
        except KeyError:
            raise BadRequest(f"Message with key {key} is incomplete") from None

    def remove(self, sender: str, key: str) -> None:
        """Forget a message."""
        self._account(sender, -self._get(sender, key).size)
        messages = self._by_sender[sender]
        del messages[key]
        if not messages:
            del self._by_sender[sender]

    def sweep(self) -> None:
        """Forget what has not moved for too long."""
        oldest = self._now() - self._max_age_s
        for sender, messages in list(self._by_sender.items()):
            for key, message in list(messages.items()):
                if message.touched < oldest:
                    self.remove(sender, key)

    def _get(self, sender: str, key: str) -> _Message:
        message = self._by_sender.get(sender, {}).get(key)
        if message is None:
            raise NotFound(f"Message with key {key} does not exists.")
        return message

    def _account(self, sender: str, growth: int) -> None:
        self.size += growth
        used = self._sizes.get(sender, 0) + growth
        if used:
            self._sizes[sender] = used
        else:
            self._sizes.pop(sender, None)
