from __future__ import annotations

import asyncio

import pytest

from hypha_auth.oidc.refreshed import Refreshed
from hypha_common.errors import Unavailable


class Source:
    """Counts; may be away, and may be slow."""

    def __init__(self) -> None:
        self.time = 0.0
        self.fetched = 0
        self.is_away = False
        self.value = Refreshed("test", self._fetch, fresh_s=100, stale_s=1000, retry_s=5, now=lambda: self.time)

    async def _fetch(self) -> int:
        await asyncio.sleep(0)
        self.fetched += 1
        if self.is_away:
            raise Unavailable("it is away")
        return self.fetched


async def test_fetched_once_until_it_is_old() -> None:
    source = Source()
    assert await asyncio.gather(*(source.value.get() for _ in range(10))) == [1] * 10
    source.time = 99
    assert await source.value.get() == 1
    source.time = 101
    assert await asyncio.gather(*(source.value.get() for _ in range(10))) == [2] * 10


async def test_newer_on_demand_but_not_all_the_time() -> None:
    source = Source()
    assert await source.value.get() == 1
    source.time = 4
    assert await source.value.newer() == 1
    source.time = 6
    assert await asyncio.gather(*(source.value.newer() for _ in range(10))) == [2] * 10
    source.time = 8
    assert await source.value.newer() == 2


async def test_away() -> None:
    """A failure is remembered for a while; a value that is known outlives it, but not for ever."""
    source = Source()
    source.is_away = True
    for _ in range(5):
        with pytest.raises(Unavailable, match="it is away"):
            await source.value.get()
    assert source.fetched == 1
    source.is_away, source.time = False, 5
    assert await source.value.get() == 2
    source.is_away, source.time = True, 900
    assert await source.value.get() == 2
    assert await source.value.newer() == 2
    source.time = 1100
    with pytest.raises(Unavailable):
        await source.value.get()
