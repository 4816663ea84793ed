from __future__ import annotations

import asyncio

from hypha_common.errors import Unavailable
from hypha_gateway.http.health import Readiness


class Dependency:
    """Counts how often it is asked; away or not."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False

    async def check(self) -> dict[str, str]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("store: away")
        return {"store": "ready"}


async def test_verdict_is_shared_and_remembered() -> None:
    """Many probes at once, and all within a second, cost one check."""
    now = [0.0]
    dependency = Dependency()
    readiness = Readiness(dependency.check, now=lambda: now[0])
    verdicts = await asyncio.gather(*(readiness.verdict() for _ in range(20)))
    assert verdicts == [(True, {"store": "ready"})] * 20
    now[0] = 0.9
    await readiness.verdict()
    assert dependency.asked == 1
    now[0] = 1.0
    await readiness.verdict()
    assert dependency.asked == 2


async def test_failure_and_recovery() -> None:
    """What is away is named; a second after it is back the gateway is ready again."""
    now = [0.0]
    dependency = Dependency()
    dependency.away = True
    readiness = Readiness(dependency.check, now=lambda: now[0])
    assert await readiness.verdict() == (False, "store: away")
    dependency.away = False
    assert (await readiness.verdict())[0] is False
    now[0] = 1.0
    assert (await readiness.verdict())[0] is True
