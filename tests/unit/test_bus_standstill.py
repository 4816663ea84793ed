from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hypha_common.bus import standstill
from hypha_common.bus.standstill import STILL_S, Standstill


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_what_is_found_after_a_standstill_is_late_until_all_of_it_is_read() -> None:
    clock, read = Clock(), asyncio.Event()
    still: Any = Standstill(read.wait, now=clock)  # type: ignore[arg-type]  # returns True
    assert still.over()
    clock.now += STILL_S / 2
    assert still.over()
    clock.now += STILL_S
    assert not still.over()
    await asyncio.sleep(0)
    assert not still.over()
    read.set()
    async with asyncio.timeout(5):
        while not still.over():
            await asyncio.sleep(0)
    clock.now += STILL_S / 2
    assert still.over()


async def test_the_clock_may_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop may run what is due before it reads what has come."""
    monkeypatch.setattr(standstill, "TICK_S", 0.001)
    clock, reading, read = Clock(), asyncio.Event(), asyncio.Event()

    async def catch_up() -> None:
        reading.set()
        await read.wait()

    still = Standstill(catch_up, now=clock)
    watching = asyncio.create_task(still.watch())
    await asyncio.sleep(0.01)
    assert still.over()
    clock.now += 5
    async with asyncio.timeout(5):
        await reading.wait()
    await asyncio.sleep(0.01)  # the clock goes on meanwhile
    assert not still.over()
    read.set()
    async with asyncio.timeout(5):
        while not still.over():
            await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
