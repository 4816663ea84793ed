from __future__ import annotations

import asyncio

from hypha_workspace.queues.line import Lines
from hypha_workspace.queues.turns import Turns

KEY = ("ws-a", "q")


async def test_only_the_first_of_a_line_is_called() -> None:
    """The next one when it leaves, whatever made it leave; a line that everybody has left is forgotten."""
    lines = Lines()
    with lines.join(KEY) as first:
        assert await first.turn(1)  # nobody was there: it may look at once
        assert not await first.turn(0.01)
        with lines.join(KEY) as second:
            assert not await second.turn(0.01)
            lines.wake(KEY)
            assert await first.turn(1)
            assert not await second.turn(0.01)
        with lines.join(KEY) as third:
            waiting = asyncio.create_task(third.turn(1))
            await asyncio.sleep(0)
            lines.dissolve()
            assert await waiting
            assert await first.turn(1)
    assert len(lines) == 0
    lines.wake(KEY)  # nobody hears it
    last = lines.join(KEY)
    place = last.__enter__()
    with lines.join(KEY) as heir:
        last.__exit__(None, None, None)
        assert await heir.turn(1)
    assert await place.turn(0.01)
    assert list(lines) == []


async def test_turns_are_taken_in_the_order_of_asking() -> None:
    """One at a time for one key; other keys do not wait; a failure or cancellation lets the next one go on."""
    turns, order = Turns(), list[str]()

    async def work(name: str, key: str, pause_s: float) -> None:
        async with turns.of(key):
            order.append(f"+{name}")
            await asyncio.sleep(pause_s)
            order.append(f"-{name}")
            if name == "b":
                raise ValueError(name)

    tasks = [
        asyncio.create_task(work(name, key, pause_s))
        for name, key, pause_s in (
            ("a", "k", 0.03),
            ("b", "k", 0.01),
            ("c", "k", 0.01),
            ("d", "k", 0),
            ("x", "other", 0),
        )
    ]
    await asyncio.sleep(0)
    tasks[2].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["+a", "+x", "-x", "-a", "+b", "-b", "+d", "-d"]
    assert isinstance(results[1], ValueError)
    assert not turns._locks
