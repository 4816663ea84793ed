from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog

from .bus import Bus, Subscription
from .errors import HyphaError
from .subjects import broadcast, role_verb
from .wire import pack, unpack

__all__ = ["Listing", "RevocationFeed", "RevokedTokens", "announce", "ask_auth"]

log = structlog.get_logger(__name__)

Entry = tuple[str, float]  # token id, Unix time after which it need not be remembered
Listing = Callable[[], Awaitable[list[Entry]]]

_TOPIC = "revoked"
_RELIST_S = 30.0
_RETRY_S = 1.0


class RevokedTokens:
    """The ids of revoked tokens, each until the token would have expired anyway."""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._until: dict[str, float] = {}

    def __contains__(self, token_id: object) -> bool:
        return token_id in self._until

    def __len__(self) -> int:
        return len(self._until)

    def add(self, entries: Iterable[Entry]) -> None:
        """Revoke. Nothing is ever taken back, so the order of announcements does not matter."""
        now = self._now()
        for token_id, until in entries:
            if until > now:
                self._until[token_id] = max(until, self._until.get(token_id, 0.0))

    def drop_expired(self) -> None:
        now = self._now()
        for token_id in [token_id for token_id, until in self._until.items() if until <= now]:
            del self._until[token_id]


class RevocationFeed:
    """
    Keeps a :class:`RevokedTokens` in step with the cluster: the whole list at start, announcements as they come.

    An announcement may be lost with a bus connection, so the list is fetched again every 30 s. ``ready`` is set once
    the first one has arrived; until then nobody's token can be trusted.

    """

    def __init__(self, bus: Bus, revoked: RevokedTokens, listing: Listing, *, relist_s: float = _RELIST_S) -> None:
        self.ready = asyncio.Event()
        self._bus = bus
        self._revoked = revoked
        self._listing = listing
        self._relist_s = relist_s
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, then begin to list: what is revoked in between is seen twice rather than not at all."""
        self._subscription = await self._bus.subscribe(broadcast(_TOPIC), self._announced)
        self._bus.on_reconnected.append(self._wake.set)
        await self._bus.flush()
        self._task = asyncio.create_task(self._keep_listing(), name="revocations")

    async def stop(self) -> None:
        if self._subscription is not None:
            self._bus.unsubscribe(self._subscription)
            self._bus.on_reconnected.remove(self._wake.set)
            self._subscription = None
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _announced(self, subject: str, reply: str, payload: bytes) -> None:
        try:
            self._revoked.add(_entries(unpack(payload)))
        except (HyphaError, KeyError, TypeError, ValueError) as error:
            log.warning("revocation_unreadable", error=repr(error))

    async def _keep_listing(self) -> None:
        while True:
            listed = await self._list()
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._relist_s if listed else _RETRY_S)

    async def _list(self) -> bool:
        try:
            self._revoked.add(await self._listing())
        except HyphaError as error:
            log.warning("revocations_not_listed", error=str(error))
            return False
        self._revoked.drop_expired()
        self.ready.set()
        return True


def announce(bus: Bus, entries: Iterable[Entry]) -> None:
    """Tell the whole cluster that tokens are revoked. Raises Unavailable while the bus is away."""
    bus.publish(broadcast(_TOPIC), pack({"ids": [list(entry) for entry in entries]}))


def ask_auth(bus: Bus) -> Listing:
    """Return a listing that asks the auth service, page by page."""

    async def listing() -> list[Entry]:
        entries: list[Entry] = []
        after: str | None = ""
        while after is not None:
            answer = await bus.request(role_verb("auth", 0, "revoked"), {"after": after})
            entries.extend(_entries(answer))
            after = answer.get("next")
        return entries

    return listing


def _entries(message: dict[str, Any]) -> list[Entry]:
    return [(str(token_id), float(until)) for token_id, until in message["ids"]]
