from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.balancer import balancer
from tests.cluster.frame_client import FrameClient
from tests.cluster.operations import until
from tests.cluster.running_cluster import RunningCluster

DRAIN_WINDOW_S = 3.0
MAX_BACK_S = 5.0  # the promise: after the signal every service is callable again
MAX_EXIT_S = DRAIN_WINDOW_S + 8.0
CLIENTS = 12


@pytest.fixture
def draining(start_cluster: Callable[..., RunningCluster]) -> RunningCluster:
    return start_cluster(
        "--gateways=2", "--workspace-replicas=2", "--auth-replicas=2", f"--drain-window={DRAIN_WINDOW_S}"
    )


async def test_drain(draining: RunningCluster) -> None:
    """SIGTERM moves every client to the other gateway, and nobody has to do anything."""
    first, second = draining.gateway_urls
    token = draining.user_token()
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(balancer([first, second]))

        async def join(url: str, client_id: str) -> Any:
            config = {"server_url": url, "token": token, "client_id": client_id, "logger": None}
            return await stack.enter_async_context(connect_to_server(config))

        providers = [await join(front.url, f"provider-{number}") for number in range(CLIENTS)]
        for provider in providers:
            await provider.register_service({"id": "work", "type": "work", "echo": lambda x: x})
        caller = await join(second, "caller")
        services = [await caller.get_service(f"{provider.config.client_id}:work") for provider in providers]
        assert [await service.echo(1) for service in services] == [1] * CLIENTS
        bare = await stack.enter_async_context(await FrameClient.connect(first, "bare", token=token))
        probe = await stack.enter_async_context(httpx.AsyncClient(base_url=first))
        assert (await probe.get("/health/readiness")).status_code == 200

        front.leave(first)
        gateway = draining.pids["gateway"][0]
        os.kill(gateway, signal.SIGTERM)
        signalled = time.monotonic()
        await _unready(probe)
        assert await bare.ended() == 1001
        # Sockets are closed one after another: a service that answers before that is not back but still there.
        await until(lambda: gateway not in draining.pids.get("gateway", []))
        exit_s = time.monotonic() - signalled
        await asyncio.gather(*(_until_callable(caller, provider.config.client_id) for provider in providers))
        back_s = time.monotonic() - signalled
        # What was handed out before works as it did.
        assert [await service.echo(2) for service in services] == [2] * CLIENTS
    assert back_s < MAX_BACK_S
    assert exit_s < MAX_EXIT_S
    [ended] = [line for line in draining.log.splitlines() if '"process_ended"' in line]
    assert '"process": "gateway-0", "code": 0' in ended
    assert draining.errors() == []


async def test_nothing_is_lost_on_the_way_out(draining: RunningCluster) -> None:
    """Departures are told before the process ends: nobody waits for a lease to run out."""
    first, second = draining.gateway_urls
    token = draining.user_token()
    async with AsyncExitStack() as stack:
        witness = await stack.enter_async_context(await FrameClient.connect(second, "witness", token=token))
        await witness.call("*/manager-hypha", "services.default.subscribe", ["client_disconnected"], promise="*")
        for number in range(CLIENTS):
            await stack.enter_async_context(await FrameClient.connect(first, f"bare-{number}", token=token))
        os.kill(draining.pids["gateway"][0], signal.SIGTERM)
        gone: set[str] = set()
        async with asyncio.timeout(MAX_EXIT_S):
            while len(gone) < CLIENTS:
                header, _ = await witness.receive()
                if header["type"] == "client_disconnected":
                    assert header["data"]["id"] not in gone
                    gone.add(header["data"]["id"])
    assert gone == {f"bare-{number}" for number in range(CLIENTS)}


async def _unready(probe: httpx.AsyncClient) -> None:
    """Wait until readiness says so, on the connection that is open already; a new one is refused."""
    statuses: list[int] = []
    with suppress(httpx.TransportError):
        while not statuses or statuses[-1] == 200:
            statuses.append((await probe.get("/health/readiness")).status_code)
    assert statuses[-1] == 503


async def _until_callable(caller: Any, client_id: str) -> None:
    while True:
        with suppress(Exception):
            service = await caller.get_service(f"{client_id}:work")
            assert await service.echo(client_id) == client_id
            return
        await asyncio.sleep(0.05)
