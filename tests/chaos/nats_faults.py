"""What may happen to one of three NATS servers, or to one after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.arena import Arena
from tests.fixtures.nats_cluster import NODES, NatsCluster

__all__ = ["frozen_node", "lost_node", "nodes_in_turn"]


def _busiest(nats: NatsCluster) -> list[int]:
    """Return the nodes, first the one with most of the hub's connections."""
    return sorted(range(NODES), key=lambda node: -len(nats.connections(node)))


def _of(arena: Arena) -> NatsCluster:
    assert arena.nats is not None, "the hub has a NATS of its own"
    return arena.nats


@asynccontextmanager
async def lost_node(arena: Arena) -> AsyncIterator[None]:
    nats = _of(arena)
    node = _busiest(nats)[0]
    await asyncio.to_thread(nats.kill, node)
    yield
    await asyncio.to_thread(nats.start, node)


@asynccontextmanager
async def nodes_in_turn(arena: Arena) -> AsyncIterator[None]:
    """Each of two nodes is killed and started again; the second has got the connections of the first."""
    nats = _of(arena)
    await asyncio.to_thread(nats.restart, _busiest(nats)[0])
    await asyncio.to_thread(nats.restart, _busiest(nats)[0])
    yield


@asynccontextmanager
async def frozen_node(arena: Arena) -> AsyncIterator[None]:
    nats = _of(arena)
    node = _busiest(nats)[0]
    nats.pause(node)
    try:
        yield
    finally:
        nats.resume(node)
