from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect
from tests.fixtures.scripts import StartScript

_TIMEOUT_S = 30.0

_JAVASCRIPT_PROVIDER = """
const server = await hyphaWebsocketClient.connectToServer({server_url: "URL", token: "TOKEN", client_id: "js"});
await server.registerService({id: "js-echo", config: {visibility: "public"}, echo: (x) => x});
console.log("registered");
"""


@pytest.mark.node
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_gateway_restart(
    number: signal.Signals, start_cluster: Callable[..., RunningCluster], start_script: StartScript
) -> None:
    """Clients in both languages come back by themselves, with their services and what they had subscribed to."""
    cluster = start_cluster("--drain-window=1")
    token = cluster.user_token()
    code = _JAVASCRIPT_PROVIDER.replace("URL", cluster.url).replace("TOKEN", token)
    script = await start_script(code, language="js")
    async with (
        connect_to_server({"server_url": cluster.url}) as named,
        connect_to_server({"server_url": cluster.url, "token": token}) as caller,
    ):
        registered = await named.register_service(
            {"id": "py-echo", "config": {"visibility": "public"}, "echo": lambda x: x}
        )
        await script.line("^registered$")
        before = [await caller.get_service(registered.id), await caller.get_service("js:js-echo")]
        assert [await service.echo(1) for service in before] == [1, 1]

        gateway = cluster.pids["gateway"][0]
        os.kill(gateway, number)
        await _until(lambda: _other_gateway(cluster, gateway))

        for service_id in (registered.id, "js:js-echo"):
            await _until(lambda service_id=service_id: _answers(caller, service_id))
        # What was handed out before the restart works as it did.
        assert [await service.echo(2) for service in before] == [2, 2]
        assert await named.echo("x") == "x"
    errors = cluster.errors()
    assert errors == []


async def test_disconnect(cluster: RunningCluster, connect: Connect) -> None:
    """Whoever has left is gone at once: not listed, not found, and calls to it fail without waiting."""
    token = cluster.user_token()
    provider, caller = await connect(token=token), await connect(token=token)
    registered = await provider.register_service({"id": "s", "f": lambda: 1})
    service = await caller.get_service(registered.id)
    assert await service.f() == 1
    await provider.disconnect()
    address = registered.id.split(":")[0]
    async with asyncio.timeout(2):
        with pytest.raises(Exception, match=f"{address}|Service not found"):
            await service.f()
        with pytest.raises(Exception, match="Service not found"):
            await caller.get_service("s")
    assert [service["id"] for service in await caller.list_services({"id": "s"})] == []


async def test_call_under_way_ends_with_its_callee(cluster: RunningCluster, connect: Connect) -> None:
    token = cluster.user_token()
    provider, caller = await connect(token=token), await connect(token=token)
    started = asyncio.Event()

    async def wait() -> None:
        started.set()
        await asyncio.sleep(60)

    registered = await provider.register_service({"id": "s", "wait": wait})
    service = await caller.get_service(registered.id)
    call = asyncio.ensure_future(service.wait())
    await started.wait()
    await provider.disconnect()
    async with asyncio.timeout(5):
        with pytest.raises(Exception, match=registered.id.split(":")[0]):
            await call


async def _other_gateway(cluster: RunningCluster, gateway: int) -> bool:
    return cluster.pids.get("gateway", [gateway]) != [gateway]


async def _answers(caller: Any, service_id: str) -> bool:
    try:
        async with asyncio.timeout(5):
            service = await caller.get_service(service_id)
            return bool(await service.echo(1) == 1)
    except Exception:  # noqa: BLE001 clients raise all sorts while their server is away
        return False


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        while not await condition():
            await asyncio.sleep(0.1)
