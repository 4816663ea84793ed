from __future__ import annotations

import asyncio

import pytest

from hypha_common.bus import Bus
from hypha_common.roll_call import answer_roll_call, call_roll
from tests.fixtures.auth import bus, nats_url, start_bus

__all__ = ["bus", "nats_url"]


async def test_everybody_there_answers(bus: Bus, nats_url: str) -> None:
    """With what is fixed and what changes; whoever has gone does not, and whoever asks hears nothing late."""
    others = [await start_bus(nats_url, "gateway") for _ in range(2)]
    for number, other in enumerate(others):
        await answer_roll_call(other, "gateway", lambda number=number: {"connections": number})  # type: ignore[misc]
        await other.flush()
    expected = [("gateway", other.instance) for other in others]
    began = asyncio.get_running_loop().time()
    answers = await call_roll(bus, expected=expected, timeout_s=10)
    assert asyncio.get_running_loop().time() - began < 5
    assert sorted((answer["id"], answer["connections"]) for answer in answers) == sorted(
        (other.instance, number) for number, other in enumerate(others)
    )
    assert {answer["role"] for answer in answers} == {"gateway"}
    await others[0].close()
    assert [answer["id"] for answer in await call_roll(bus, timeout_s=0.3)] == [others[1].instance]
    await others[1].close()
    assert await call_roll(bus, timeout_s=0.1) == []


async def test_listeners_are_known(bus: Bus, nats_url: str) -> None:
    """At once, and without a word that they could misunderstand."""
    other = await start_bus(nats_url)
    heard: list[bytes] = []
    subscription = await other.subscribe("hy.f.1.somebody", lambda subject, reply, payload: heard.append(payload))
    await other.flush()
    assert await bus.listens("hy.f.1.somebody")
    assert not await bus.listens("hy.f.1.nobody")
    await other.flush()
    assert heard == [b""]
    other.unsubscribe(subscription)
    await other.flush()
    assert not await bus.listens("hy.f.1.somebody")
    await other.close()
    with pytest.raises(Exception, match="not connected"):
        await other.listens("hy.f.1.somebody")
