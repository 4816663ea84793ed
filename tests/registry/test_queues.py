from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from hypha_common.db import Database
from hypha_common.errors import NotFound, PayloadTooLarge, QuotaExceeded, Unavailable
from hypha_workspace.queues import repository
from hypha_workspace.queues.repository import forget_empty
from hypha_workspace.stores import Stores

from .people import join, user

WS = "ws-user-alice"


async def _counters(database: Database) -> list[tuple[str, int, int]]:
    rows = await database.home.fetch("SELECT name, length, bytes FROM queues ORDER BY name")
    return [(row["name"], row["length"], row["bytes"]) for row in rows]


async def test_tasks_come_out_in_the_order_they_went_in(stores: Stores, database: Database) -> None:
    await join(stores, user())
    for text in (b"1", b"22", b"333"):
        await stores.queues.push(WS, "q", text)
    assert await stores.queues.peek(WS, "q", 2) == [b"1", b"22"]
    assert await stores.queues.length(WS, "q") == 3
    assert await _counters(database) == [("q", 3, 6)]
    first = await stores.queues.take(WS, "q")
    assert first is not None
    assert first.task == b"1"
    await stores.queues.put_back(WS, "q", first)
    assert await stores.queues.peek(WS, "q", 9) == [b"1", b"22", b"333"]
    assert [(await stores.queues.take(WS, "q")).task for _ in range(3)] == [b"1", b"22", b"333"]  # type: ignore[union-attr]
    assert await stores.queues.take(WS, "q") is None
    assert await _counters(database) == [("q", 0, 0)]
    assert await forget_empty(database.home) == 1
    assert await stores.queues.length(WS, "q") == 0


async def test_many_at_once_lose_nothing_and_take_nothing_twice(stores: Stores, database: Database) -> None:
    """Pushing and taking concurrently; the counters agree with the rows in the end."""
    await join(stores, user())
    taken: Counter[bytes] = Counter()

    async def take() -> None:
        while sum(taken.values()) < 100:
            found = await stores.queues.take(WS, "q")
            if found is not None:
                taken[found.task] += 1

    async def push(start: int) -> None:
        for number in range(start, start + 25):
            await stores.queues.push(WS, "q", b"%d" % number)

    async with asyncio.timeout(30):
        await asyncio.gather(*(push(start) for start in (0, 25, 50, 75)), take(), take(), take())
    assert taken == Counter({b"%d" % number: 1 for number in range(100)})
    assert await _counters(database) == [("q", 0, 0)]


async def test_only_a_connection_that_lasts_takes(stores: Stores) -> None:
    admitted = await join(stores, user(), "c1")
    await stores.queues.push(WS, "q", b"1")
    for client, generation in (("c1", admitted.generation + 1), ("c2", admitted.generation)):
        with pytest.raises(Unavailable, match="not in the registry"):  # "nothing there" would be wrong
            await stores.queues.take(WS, "q", client_id=client, generation=generation)
    assert await stores.queues.take(WS, "q", client_id="c1", generation=admitted.generation) is not None


async def test_queues_are_bounded(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tasks and bytes, one by one and together; what is taken makes room."""
    await join(stores, user())
    for name, value in (("TASKS", 3), ("QUEUE_BYTES", 10), ("QUEUES", 2), ("WORKSPACE_BYTES", 10)):
        monkeypatch.setattr(repository, f"MAX_{name}", value)
    push = stores.queues.push
    for _ in range(3):
        await push(WS, "a", b"1")
    with pytest.raises(QuotaExceeded, match="Queue a is full: it holds 3/3 tasks"):
        await push(WS, "a", b"1")
    await stores.queues.take(WS, "a")
    with pytest.raises(QuotaExceeded, match="Queue a is full: it may hold 10 bytes"):
        await push(WS, "a", b"123456789")
    with pytest.raises(QuotaExceeded, match="The queues of workspace ws-user-alice are full: they may hold 10 bytes"):
        await push(WS, "b", b"123456789")
    await push(WS, "b", b"1")
    with pytest.raises(QuotaExceeded, match="Workspace ws-user-alice has 2/2 queues"):
        await push(WS, "c", b"1")
    await stores.queues.take(WS, "b")
    await push(WS, "c", b"1")
    monkeypatch.setattr(repository, "MAX_PEEK_BYTES", 1)
    with pytest.raises(PayloadTooLarge, match="ask for fewer"):
        await stores.queues.peek(WS, "a", 2)


async def test_queues_end_with_their_workspace(stores: Stores, database: Database) -> None:
    await join(stores, user())
    await stores.queues.push(WS, "q", b"1")
    taken = await stores.queues.take(WS, "q")
    assert taken is not None
    await stores.queues.push(WS, "q", b"2")
    await stores.workspaces.delete(WS)
    assert await _counters(database) == []
    assert await database.home.fetchval("SELECT count(*) FROM queue_tasks") == 0
    await stores.queues.put_back(WS, "q", taken)
    with pytest.raises(NotFound):
        await stores.queues.push(WS, "q", b"3")
    assert await stores.queues.filled([(WS, "q"), ("ws-other", "q")]) == []
