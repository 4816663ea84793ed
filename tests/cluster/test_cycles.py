"""Clients come and go, by every way in: nothing of them is left."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from benchmarks.census import take_census
from benchmarks.cycles import Cycles, grown, settled
from tests.cluster.running_cluster import RunningCluster


async def test_idle_http_connections_end_with_their_clients(cluster: RunningCluster) -> None:
    """A server that kept them until its keep-alive timeout would run out of files."""
    before = await take_census(cluster)
    parts = urlsplit(cluster.url)
    for _ in range(30):
        with socket.create_connection((parts.hostname, parts.port), timeout=10) as client:
            client.sendall(b"GET /health/liveness HTTP/1.1\r\nhost: hub\r\n\r\n")
            assert (await asyncio.to_thread(client.recv, 4096)).startswith(b"HTTP/1.1 200")
    after = await settled(cluster, before, memory=False, limit_s=5)
    assert _counts(grown(before, after, memory=False)) == {}


@pytest.mark.slow
async def test_nothing_is_left_of_clients(start_cluster: Callable[..., RunningCluster]) -> None:
    """Tasks, subscriptions, files, tables and rows are as they were."""
    cluster = start_cluster("--gateways=2", environ={"HYPHA_WORKSPACE_UNLOAD_GRACE_PERIOD": "1"})
    cycles = Cycles(cluster)
    async with cycles.partners():
        await cycles.run(50, at_once=10)
        await asyncio.sleep(3)  # the grace period of temporary workspaces, and a sweep
        before = await take_census(cluster)
        await cycles.run(150, at_once=10)
        # Windows of clients that are gone are kept for half a minute; that they go, benchmarks.cycles shows.
        await asyncio.sleep(2)
        after = await take_census(cluster)
    assert _counts(grown(before, after, memory=False)) == {}
    assert cluster.errors() == []


def _counts(found: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    return {name: both for name, both in found.items() if not name.endswith((" series", " send_windows"))}
