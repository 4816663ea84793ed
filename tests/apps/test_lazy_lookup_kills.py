from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

_FLAGS = (
    "--enable-server-apps", "--browser-workers=0", "--gateways=2", "--workspace-replicas=2", "--apps-replicas=2",
)  # fmt: skip


@pytest.mark.slow
async def test_replica_that_waits_for_a_start_is_killed(start_cluster: Callable[..., RunningCluster]) -> None:
    """Whoever waited there is told, or answered by the other one; nobody hangs, and one instance has been started."""
    cluster = start_cluster(*_FLAGS, storage=True)
    token = cluster.user_token()
    go = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        await go.wait()
        await client.register_service({"id": "default", "config": {"visibility": "public"}})

    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                connect_to_server({"server_url": cluster.gateway_urls[number % 2], "token": token})
            )
            for number in range(6)
        ]
        worker = await stack.enter_async_context(app_worker(servers[0], behaviour=behave))
        await create_app(servers[0], "patient")
        asked = [asyncio.ensure_future(server.get_service("default@patient")) for server in servers for _ in range(3)]
        async with asyncio.timeout(30):
            while not worker.started:
                await asyncio.sleep(0.05)
        os.kill(cluster.pids["workspace"][0], signal.SIGKILL)
        go.set()
        answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 40)
        instance = f"{worker.started[0]}:default"
        found = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert found
        assert {service.id for service in found} == {instance}
        async with asyncio.timeout(30):
            again = await asyncio.gather(*(server.get_service("default@patient") for server in servers))
        assert {service.id for service in again} == {instance}
        assert len(worker.started) == 1
    assert cluster.errors() == []
