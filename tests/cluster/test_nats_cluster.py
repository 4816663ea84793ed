"""A hub on three NATS servers, with the files and the users of a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from hypha_common.bus import Bus
from hypha_common.bus_permissions import USERS
from hypha_common.errors import HyphaError
from hypha_common.ids import new_id
from hypha_common.subjects import answers, client_frames
from tests.fixtures.nats_cluster import NatsCluster, nats_cluster

__all__ = ["nats_cluster"]

BACK_S = 15.0


async def bus_at(cluster: NatsCluster, user: str, *nodes: int) -> Bus:
    urls = [cluster.urls[node] for node in nodes or range(3)]
    bus = Bus(
        urls=urls, role=user, instance=new_id(8), user=user, password=cluster.password_of[user],
        on_fatal=lambda reason: None,
    )  # fmt: skip
    await bus.connect()
    return bus


@pytest.fixture
async def pair(nats_cluster: NatsCluster) -> AsyncIterator[tuple[Bus, Bus]]:
    """Two gateways; the first may use nodes 0 and 2, the second node 1 alone."""
    one, two = await bus_at(nats_cluster, "gateway", 0, 2), await bus_at(nats_cluster, "gateway", 1)
    yield one, two
    await one.close()
    await two.close()


def _take(taken: asyncio.Queue[bytes], subject: str, reply: str, payload: bytes) -> None:
    if payload:  # else somebody asks whether this address exists
        taken.put_nowait(payload)


async def reached(sender: Bus, subject: str) -> None:
    """Wait until somebody listens at ``subject``: what one node knows takes a moment to the others."""
    async with asyncio.timeout(BACK_S):
        while True:
            try:
                if await sender.listens(subject):
                    return
            except HyphaError:
                pass
            await asyncio.sleep(0.02)


async def test_gateways_at_different_nodes_reach_each_other(nats_cluster: NatsCluster, pair: tuple[Bus, Bus]) -> None:
    """In both directions, in order; where nobody listens in the whole cluster, the sender is told."""
    one, two = pair
    for sender, receiver in ((one, two), (two, one)):
        subject = client_frames("ws", receiver.instance)
        taken: asyncio.Queue[bytes] = asyncio.Queue()
        await receiver.subscribe(subject, partial(_take, taken))
        await reached(sender, subject)
        for number in range(1000):
            sender.publish(subject, b"%d" % number)
        async with asyncio.timeout(10):
            got = [await taken.get() for _ in range(1000)]
        assert got == [b"%d" % number for number in range(1000)]
    assert not await one.listens(client_frames("ws", "nobody"))
    assert nats_cluster.violations() == []


async def test_a_node_is_lost_and_comes_back(nats_cluster: NatsCluster, pair: tuple[Bus, Bus]) -> None:
    """Who was connected there connects to another one, and is heard again; so is the node, when it is back."""
    one, two = pair
    subject = client_frames("ws", one.instance)
    await one.subscribe(subject, lambda subject, reply, payload: None)
    await reached(two, subject)
    lost = next(node for node in (0, 2) if nats_cluster.connections(node))
    away, back = asyncio.Event(), asyncio.Event()
    one.on_disconnected.append(away.set)
    one.on_reconnected.append(back.set)
    await asyncio.to_thread(nats_cluster.kill, lost)
    async with asyncio.timeout(BACK_S):
        await away.wait()
        await back.wait()
    await reached(two, subject)
    await asyncio.to_thread(nats_cluster.start, lost)
    third = await bus_at(nats_cluster, "gateway", lost)
    await reached(third, subject)
    await third.close()


async def test_permissions_hold_at_every_node(nats_cluster: NatsCluster) -> None:
    """A role hears no other role's answers, wherever it is connected."""
    for node in range(3):
        for user in USERS:
            bus = await bus_at(nats_cluster, user, node)
            other = next(name for name in USERS if name != user)
            await bus.subscribe(answers(other, "x", "*"), lambda subject, reply, payload: None)
            await bus.flush()
            assert len(bus.missing) == 1
            await bus.close()
