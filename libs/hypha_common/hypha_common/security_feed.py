from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from .blocks import Block, BlockList
from .bus import Bus, Subscription
from .errors import HyphaError
from .keys import PublicKeys
from .revocation import Entry, RevokedTokens
from .subjects import broadcast, role_verb
from .wire import pack, unpack

__all__ = ["AuthSource", "Policy", "Security", "SecurityFeed", "Source", "announce", "announce_revoked"]

log = structlog.get_logger(__name__)

_TOPIC = "security"
_RELIST_S = 30.0
_RETRY_S = 1.0
_UNREADABLE = (HyphaError, KeyError, TypeError, ValueError, AttributeError)

Policy = dict[str, Any]  # {"blocks": [[kind, id, reason, until]], "keys": [JWK], "custom_auth": map or None}


@dataclass(slots=True)
class Security:
    """What every process that judges callers must know."""

    revoked: RevokedTokens = field(default_factory=RevokedTokens)
    blocks: BlockList = field(default_factory=BlockList)
    keys: PublicKeys = field(default_factory=PublicKeys)  # of the cluster's signing keys
    custom_auth: dict[str, Any] | None = None  # startup functions that judge tokens: CustomAuth.dump()


class Source(Protocol):
    """Where the whole truth is asked for. Both raise HyphaError where it cannot be told now."""

    async def revoked(self) -> list[Entry]:
        """Return every revoked token."""

    async def policy(self) -> Policy:
        """Return everything else."""


class SecurityFeed:
    """
    Keeps a :class:`Security` in step with the cluster: everything at start, announcements as they come.

    A revocation is final, so its announcement is all there is to it. Everything else may be taken back: there an
    announcement applies at once and is a reason to ask for the whole, so that the order in which announcements come
    does not matter. One may be lost with a bus connection: everything is fetched again every 30 s.

    ``ready`` is set once everything has arrived; until then nobody's token can be trusted.

    """

    def __init__(self, bus: Bus, security: Security, source: Source, *, relist_s: float = _RELIST_S) -> None:
        self.ready = asyncio.Event()
        self.on_revoked: list[Callable[[set[str]], None]] = []  # told ids that were not revoked before
        self.on_policy: list[Callable[[], None]] = []  # told that anything else may have changed
        self._bus = bus
        self._security = security
        self._source = source
        self._relist_s = relist_s
        self._wake = asyncio.Event()
        self._list_due = 0.0  # loop time at which revoked tokens are listed again
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, then begin to list: what happens in between is seen twice rather than not at all."""
        if self._subscription is None:  # else an earlier try got that far
            self._subscription = await self._bus.subscribe(broadcast(_TOPIC), self._announced)
            self._bus.on_reconnected.append(self._relist)
        await self._bus.flush()
        self._task = asyncio.create_task(self._keep_up(), name="security-feed")

    async def stop(self) -> None:
        if self._subscription is not None:
            self._bus.unsubscribe(self._subscription)
            self._bus.on_reconnected.remove(self._relist)
            self._subscription = None
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self) -> None:
        """Ask for everything that may be taken back, now. Raises HyphaError where it cannot be told."""
        self._take_policy(await self._source.policy())

    def revoke(self, entries: Iterable[Entry]) -> None:
        """Take note of revocations."""
        new = self._security.revoked.add(entries)
        if new:
            for told in self.on_revoked:
                told(new)

    def _announced(self, subject: str, reply: str, payload: bytes) -> None:
        try:
            message = unpack(payload)
            self.revoke(_entries(message.get("revoked") or ()))
            if "policy" not in message:
                return
            changed = message["policy"]
            self._security.blocks.add(Block.load(block) for block in changed.get("blocked") or ())
            for kind, name in changed.get("unblocked") or ():
                self._security.blocks.remove(kind, name)
            if "custom_auth" in changed:
                self._security.custom_auth = changed["custom_auth"]
        except _UNREADABLE as error:
            log.warning("announcement_unreadable", error=repr(error))
            return
        self._tell_policy()
        self._wake.set()

    def _relist(self) -> None:
        self._list_due = 0.0
        self._wake.set()

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()  # before asking: what is announced meanwhile is a reason to ask again
            pause_s = max(0.0, self._list_due - loop.time()) if await self._fetch(loop) else _RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def _fetch(self, loop: asyncio.AbstractEventLoop) -> bool:
        try:
            if loop.time() >= self._list_due:
                self.revoke(await self._source.revoked())
                self._security.revoked.drop_expired()
                self._list_due = loop.time() + self._relist_s
            await self.refresh()
        except _UNREADABLE as error:
            log.warning("security_not_listed", error=str(error))
            return False
        self.ready.set()
        return True

    def _take_policy(self, policy: Policy) -> None:
        blocks = [Block.load(block) for block in policy["blocks"]]
        self._security.blocks.replace(blocks)
        self._security.keys.replace(policy["keys"])
        self._security.custom_auth = policy["custom_auth"]
        self._tell_policy()

    def _tell_policy(self) -> None:
        for told in self.on_policy:
            told()


class AuthSource:
    """Asks the auth service; what every process but the auth service itself uses."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def revoked(self) -> list[Entry]:
        entries: list[Entry] = []
        after: str | None = ""
        while after is not None:
            answer = await self._bus.request(role_verb("auth", 0, "revoked"), {"after": after})
            entries.extend(_entries(answer["ids"]))
            after = answer.get("next")
        return entries

    async def policy(self) -> Policy:
        policy: Policy = await self._bus.request(role_verb("auth", 0, "policy"), {})
        return policy


def announce_revoked(bus: Bus, entries: Iterable[Entry]) -> None:
    """Tell the whole cluster that tokens are revoked. Raises Unavailable while the bus is away."""
    bus.publish(broadcast(_TOPIC), pack({"revoked": [list(entry) for entry in entries]}))


def announce(
    bus: Bus, *, blocked: Iterable[Block] = (), unblocked: Iterable[tuple[str, str]] = (), **changed: Any
) -> None:
    """
    Tell the whole cluster that blocks, keys or custom authentication have changed. Raises Unavailable.

    ``changed`` may hold ``custom_auth`` as it is now.

    """
    blocks = {"blocked": [block.dump() for block in blocked], "unblocked": [list(pair) for pair in unblocked]}
    bus.publish(broadcast(_TOPIC), pack({"policy": {**blocks, **changed}}))


def _entries(rows: Iterable[Any]) -> list[Entry]:
    return [(str(token_id), float(until)) for token_id, until in rows]
