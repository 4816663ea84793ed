from __future__ import annotations

import asyncio
from typing import Any

from hypha_apps.starting.progress import Progress


async def test_nobody_wants_to_know() -> None:
    progress = Progress(None)
    progress.tell("nothing")
    assert progress.relay is None


async def test_it_is_told_without_waiting_and_may_fail() -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()

    async def callback(message: dict[str, Any]) -> None:
        told.put_nowait(message)
        raise ValueError("no interest")

    progress = Progress(callback)
    progress.tell("one")
    assert progress.relay is not None
    progress.relay({"type": "warning", "message": "two"})
    progress.relay("three")
    assert [await told.get() for _ in range(3)] == [
        {"type": "info", "message": "one"},
        {"type": "warning", "message": "two"},
        {"type": "info", "message": "three"},
    ]


async def test_one_that_does_not_answer_does_not_pile_up() -> None:
    hold, calls = asyncio.Event(), []

    async def callback(message: dict[str, Any]) -> None:
        calls.append(message)
        await hold.wait()

    progress = Progress(callback)
    for _ in range(500):
        progress.tell("again")
    await asyncio.sleep(0)
    assert len(calls) == 100
    hold.set()
