from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hypha_common.bus import Bus
from hypha_common.errors import Unavailable
from hypha_common.revocation import RevocationFeed, RevokedTokens, announce, ask_auth
from hypha_common.subjects import broadcast
from tests.fixtures.auth import bus, eventually, nats_url, start_bus

__all__ = ["bus", "nats_url"]

Entries = list[tuple[str, float]]


def later(seconds: float = 60.0) -> float:
    return time.time() + seconds


async def nothing() -> Entries:
    return []


def test_forgets_what_has_expired() -> None:
    """An entry is kept until its token is refused for its age anyway."""
    now = 1000.0
    revoked = RevokedTokens(now=lambda: now)
    revoked.add([("a", 1010.0), ("b", 1020.0), ("old", 999.0)])
    revoked.add([("a", 1005.0)])
    assert "a" in revoked
    assert "old" not in revoked
    now = 1015.0
    revoked.drop_expired()
    assert "a" not in revoked
    assert "b" in revoked
    assert len(revoked) == 1


async def test_announced_everywhere(bus: Bus, nats_url: str) -> None:
    """A revocation reaches every process within a second."""
    feeds = []
    others = [await start_bus(nats_url) for _ in range(2)]
    for other in others:
        revoked = RevokedTokens()
        feed = RevocationFeed(other, revoked, nothing)
        await feed.start()
        await feed.ready.wait()
        feeds.append((feed, revoked))
    announce(bus, [("t1", later())])
    await eventually(lambda: all("t1" in revoked for _, revoked in feeds), timeout=1.0)
    for feed, _ in feeds:
        await feed.stop()
    for other in others:
        await other.close()


async def test_listed_at_start(bus: Bus) -> None:
    """What was revoked before a process started is known before it is ready, page by page."""
    pages: dict[str, dict[str, Any]] = {
        "": {"ids": [["a", later()], ["b", later()]], "next": "b"},
        "b": {"ids": [["c", later()]], "next": None},
    }

    async def listed(message: dict[str, Any]) -> dict[str, Any]:
        return pages[message["after"]]

    await bus.serve("auth", "revoked", listed)
    revoked = RevokedTokens()
    feed = RevocationFeed(bus, revoked, ask_auth(bus))
    await feed.start()
    await asyncio.wait_for(feed.ready.wait(), 2)
    assert {"a", "b", "c"} <= {token for token in "abc" if token in revoked}
    await feed.stop()


async def test_not_ready_without_a_list(bus: Bus) -> None:
    """While nobody can say what is revoked, nobody's token is to be trusted; later lists are asked for again."""
    answers: list[Entries | None] = [None, [("a", later())], None, [("b", later())]]

    async def listing() -> Entries:
        answer = answers.pop(0) if answers else []
        if answer is None:
            raise Unavailable("auth is away")
        return answer

    revoked = RevokedTokens()
    feed = RevocationFeed(bus, revoked, listing, relist_s=0.05)
    await feed.start()
    await asyncio.sleep(0.1)
    assert not feed.ready.is_set()
    await asyncio.wait_for(feed.ready.wait(), 3)
    assert "a" in revoked
    await eventually(lambda: "b" in revoked)
    await feed.stop()


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x01", b"\x81\xa3ids\x01", b"\x81\xa3ids\x91\x92\xa1a\xa1b"])
async def test_unreadable_announcement(bus: Bus, payload: bytes) -> None:
    """A broken announcement does not end the feed."""
    revoked = RevokedTokens()
    feed = RevocationFeed(bus, revoked, nothing)
    await feed.start()
    bus.publish(broadcast("revoked"), payload)
    announce(bus, [("t1", later())])
    await eventually(lambda: "t1" in revoked)
    await feed.stop()
