from __future__ import annotations

import time
from collections.abc import Callable, Iterable

__all__ = ["Entry", "RevokedTokens", "key_mark"]

Entry = tuple[str, float]  # token id, Unix time after which it need not be remembered


class RevokedTokens:
    """The ids of revoked tokens, each until the token would have expired anyway."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._until: dict[str, float] = {}

    def __contains__(self, token_id: object) -> bool:
        return token_id in self._until

    def __len__(self) -> int:
        return len(self._until)

    def add(self, entries: Iterable[Entry]) -> set[str]:
        """
        Revoke, and return the ids that were not revoked before.

        Nothing is ever taken back, so the order of announcements does not matter.

        """
        now, new = self._now(), set()
        for token_id, until in entries:
            if until > now:
                if token_id not in self._until:
                    new.add(token_id)
                self._until[token_id] = max(until, self._until.get(token_id, 0.0))
        return new

    def drop_expired(self) -> None:
        now = self._now()
        for token_id in [token_id for token_id, until in self._until.items() if until <= now]:
            del self._until[token_id]


def key_mark(key_id: str) -> str:
    """
    Return the id under which everything that a signing key has signed is revoked at once.

    No token has such an id: see ``tokens``.

    """
    return f"key:{key_id}"
