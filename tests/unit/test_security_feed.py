from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hypha_common.blocks import Block, BlockKind
from hypha_common.bus import Bus
from hypha_common.errors import PermissionDenied, Unavailable
from hypha_common.revocation import Entry
from hypha_common.security_feed import AuthSource, Policy, Security, SecurityFeed, announce, announce_revoked
from hypha_common.subjects import broadcast
from tests.fixtures.auth import bus, eventually, nats_url, start_bus

__all__ = ["bus", "nats_url"]


def later(seconds: float = 60.0) -> float:
    return time.time() + seconds


def block(name: str = "eve") -> Block:
    return Block(BlockKind.USER, name, "spam", later())


def policy(*blocks: Block, **changes: Any) -> Policy:
    return {"blocks": [one.dump() for one in blocks], "keys": [], "custom_auth": None, **changes}


class Truth:
    """What the auth service would tell; ``answers`` of None are failures."""

    def __init__(self) -> None:
        self.tokens: list[list[Entry] | None] = []
        self.current = policy()
        self.asked = 0
        self.hold: Callable[[], Any] | None = None

    async def revoked(self) -> list[Entry]:
        answer = self.tokens.pop(0) if self.tokens else []
        if answer is None:
            raise Unavailable("auth is away")
        return answer

    async def policy(self) -> Policy:
        self.asked += 1
        told = self.current
        if self.hold is not None:
            await self.hold()
        return told


@asynccontextmanager
async def feeding(bus: Bus, source: Any, **options: Any) -> AsyncIterator[tuple[SecurityFeed, Security]]:
    security = Security()
    feed = SecurityFeed(bus, security, source, **options)
    await feed.start()
    yield feed, security
    await feed.stop()


def is_blocked(security: Security, user: str = "eve") -> bool:
    try:
        security.blocks.check([user], "192.0.2.1")
    except PermissionDenied:
        return True
    return False


async def test_announced_everywhere(bus: Bus, nats_url: str) -> None:
    """A revocation and a block reach every process within a second."""
    others = [await start_bus(nats_url) for _ in range(2)]
    truth = Truth()
    async with feeding(others[0], truth) as (one, first), feeding(others[1], truth) as (two, second):
        await asyncio.gather(one.ready.wait(), two.ready.wait())
        truth.current = policy(block())
        announce_revoked(bus, [("t1", later())])
        announce(bus, blocked=[block()])
        for security in (first, second):
            await eventually(lambda known=security: "t1" in known.revoked and is_blocked(known), timeout=1.0)  # type: ignore[misc]
        truth.current = policy()
        announce(bus, unblocked=[("user", "eve")])
        for security in (first, second):
            await eventually(lambda known=security: not is_blocked(known), timeout=1.0)  # type: ignore[misc]
    for other in others:
        await other.close()


async def test_told_once(bus: Bus) -> None:
    """Whoever ends what a revoked token had begun hears of each revocation once."""
    told: list[set[str]] = []
    truth = Truth()
    truth.tokens = [[("a", later())], [("a", later()), ("b", later())]]
    security = Security()
    feed = SecurityFeed(bus, security, truth, relist_s=0.05)
    feed.on_revoked.append(told.append)
    await feed.start()
    await eventually(lambda: told == [{"a"}, {"b"}])
    announce_revoked(bus, [("b", later()), ("c", later())])
    await eventually(lambda: told == [{"a"}, {"b"}, {"c"}])
    await feed.stop()


async def test_listed_at_start(bus: Bus) -> None:
    """What was decided before a process started is known before it is ready, page by page."""
    pages: dict[str, dict[str, Any]] = {
        "": {"ids": [["a", later()], ["b", later()]], "next": "b"},
        "b": {"ids": [["c", later()]], "next": None},
    }

    async def listed(message: dict[str, Any]) -> dict[str, Any]:
        return pages[message["after"]]

    async def decided(message: dict[str, Any]) -> Policy:
        return policy(block(), keys=[{"kid": "k"}], custom_auth={"client": "x"})

    await bus.serve("auth", "revoked", listed)
    await bus.serve("auth", "policy", decided)
    async with feeding(bus, AuthSource(bus)) as (feed, security):
        await asyncio.wait_for(feed.ready.wait(), 2)
        assert {"a", "b", "c"} <= {token for token in "abc" if token in security.revoked}
        assert is_blocked(security)
        assert (security.keys.jwks, security.custom_auth) == ([{"kid": "k"}], {"client": "x"})


async def test_not_ready_without_a_list(bus: Bus) -> None:
    """While nobody can say what is revoked, nobody's token is to be trusted; later lists are asked for again."""
    truth = Truth()
    truth.tokens = [None, [("a", later())], None, [("b", later())]]
    async with feeding(bus, truth, relist_s=0.05) as (feed, security):
        await asyncio.sleep(0.1)
        assert not feed.ready.is_set()
        await asyncio.wait_for(feed.ready.wait(), 3)
        assert "a" in security.revoked
        await eventually(lambda: "b" in security.revoked)


async def test_announced_while_listing(bus: Bus) -> None:
    """An answer that is older than an announcement does not undo it for long."""
    truth, release = Truth(), asyncio.Event()
    truth.hold = release.wait
    async with feeding(bus, truth) as (_, security):
        await eventually(lambda: truth.asked == 1)  # it will be told that nobody is blocked
        truth.current = policy(block())
        announce(bus, blocked=[block()])
        await eventually(lambda: is_blocked(security))
        release.set()
        await eventually(lambda: truth.asked == 2 and is_blocked(security))


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"\xc1", b"\x01", b"\x81\xa7revoked\x01", b"\x81\xa7revoked\x91\x92\xa1a\xa1b"),
        *(b"\x81\xa6policy\x01", b"\x81\xa6policy\x81\xa7blocked\x91\xa1x"),
    ],
)
async def test_unreadable_announcement(bus: Bus, payload: bytes) -> None:
    """A broken announcement does not end the feed."""
    async with feeding(bus, Truth()) as (_, security):
        bus.publish(broadcast("security"), payload)
        announce_revoked(bus, [("t1", later())])
        await eventually(lambda: "t1" in security.revoked)
