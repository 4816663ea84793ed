"""
``connect_to_server({"transport": "http"})`` (contract 01 §1.13): unmodified clients, through the whole cluster.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.balancer import Balancer, balancer
from tests.cluster.raw_client import raw_client
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect
from tests.fixtures.scripts import StartScript

_TIMEOUT_S = 30.0
_ATTEMPT_S = 3.0


class Provider:
    """What the clients of these tests call of each other."""

    def __init__(self) -> None:
        self.contexts: list[dict[str, Any]] = []

    async def register(self, server: Any) -> str:
        service = await server.register_service(
            {
                "id": "s",
                "config": {"visibility": "public", "require_context": ["who"]},
                "add": lambda a, b: a + b,
                "double": lambda array: array * 2,
                "call": self._call,
                "count": self._count,
                "fail": self._fail,
                "who": self._who,
            }
        )
        return str(service.id)

    async def _call(self, function: Any, *args: Any) -> Any:
        return await function(*args)

    def _count(self, n: int) -> Any:
        yield from range(n)

    def _fail(self) -> None:
        raise ValueError("bad thing")

    def _who(self, context: dict[str, Any]) -> None:
        self.contexts.append(context)


async def _exercise(caller: Any, service_id: str, *, size: int = 100_000) -> None:
    """Use every kind of function of a :class:`Provider`."""
    service = await caller.get_service(service_id)
    assert await service.add(1, 2) == 3
    assert await service.call(lambda a, b: a * b, 6, 7) == 42
    assert [item async for item in await service.count(3)] == [0, 1, 2]
    with pytest.raises(RemoteException, match="ValueError: bad thing"):
        await service.fail()
    assert await asyncio.gather(*(service.add(n, n) for n in range(30))) == [2 * n for n in range(30)]
    array = np.arange(size, dtype="float64").reshape(2, -1)  # 8 bytes each; clients send pieces of 256 KiB
    np.testing.assert_array_equal(await service.double(array), array * 2)


class TestCalls:
    async def test_both_directions(self, cluster: RunningCluster, connect: Connect) -> None:
        """Streams and websockets call each other, and streams streams."""
        streaming, other = await connect(transport="http"), await connect(transport="http")
        websocket = await connect()
        provider = Provider()
        ids = {client.config.client_id: await provider.register(client) for client in (streaming, websocket)}
        await _exercise(websocket, ids[streaming.config.client_id], size=400_000)
        await _exercise(streaming, ids[websocket.config.client_id], size=400_000)
        await _exercise(other, ids[streaming.config.client_id])

        await (await streaming.get_service(ids[websocket.config.client_id])).who()
        (context,) = provider.contexts
        assert context["from"] == f"{streaming.config.workspace}/{streaming.config.client_id}"
        assert context["user"] == streaming.config.user
        assert context["ws"] == streaming.config.workspace

    async def test_what_a_client_knows_about_itself(self, cluster: RunningCluster, connect: Connect) -> None:
        """As much as on a websocket."""
        streaming, websocket = await connect(transport="http"), await connect()
        assert set(streaming.config) == set(websocket.config)
        assert streaming.config.public_base_url == cluster.url
        assert streaming.config.user["is_anonymous"]

    async def test_token(self, cluster: RunningCluster, connect: Connect) -> None:
        """The user of the token, in the token's workspace; of a made one with the rights that it gives."""
        owner = await connect(transport="http", token=cluster.user_token("hanna"))
        assert owner.config.workspace == "ws-user-hanna"
        workspace = await owner.create_workspace({"name": "hanna-shared"})
        assert workspace["name"] == "hanna-shared"
        token = await owner.generate_token({"workspace": "hanna-shared", "permission": "read_write"})
        async with connect_to_server({"server_url": cluster.url, "transport": "http", "token": token}) as guest:
            assert guest.config.workspace == "hanna-shared"
            await guest.register_service({"id": "g", "f": lambda: 1})
            assert [service["id"] for service in await guest.list_services({"id": "g"})]

    async def test_reader(self, cluster: RunningCluster, connect: Connect) -> None:
        """A read-only client calls, but does not broadcast."""
        owner = await connect(token=cluster.user_token())
        heard: list[Any] = []
        owner.on("news", heard.append)
        await owner.subscribe("news")
        service_id = await Provider().register(owner)
        token = await owner.generate_token({"permission": "read"})
        reader = await connect(transport="http", token=token)
        assert await (await reader.get_service(service_id)).add(1, 1) == 2
        await reader.rpc.emit({"type": "news", "to": "*"})
        with pytest.raises(RemoteException, match="Permission"):
            await reader.set_env("A", "1")
        assert await owner.echo(1) == 1
        assert heard == []

    async def test_events(self, cluster: RunningCluster, connect: Connect) -> None:
        token = cluster.user_token()
        listener, speaker = await connect(transport="http", token=token), await connect(transport="http", token=token)
        heard: asyncio.Queue[Any] = asyncio.Queue()
        for kind in ("news", "client_disconnected"):
            listener.rpc.on(kind, lambda event: heard.put_nowait((event["type"], event["data"])))
        await listener.subscribe(["news", "client_disconnected"])
        await speaker.rpc.emit({"type": "news", "to": "*", "data": {"n": 1}})
        assert await asyncio.wait_for(heard.get(), 5) == ("news", {"n": 1})
        address = {"id": speaker.config.client_id, "workspace": speaker.config.workspace}
        await speaker.disconnect()
        assert await asyncio.wait_for(heard.get(), 5) == ("client_disconnected", address)

    async def test_callee_that_leaves(self, cluster: RunningCluster, connect: Connect) -> None:
        """A caller on a stream is told at once, and a stream that is closed is known to be gone at once."""
        token = cluster.user_token()
        caller, callee = await connect(transport="http", token=token), await connect(transport="http", token=token)
        called = asyncio.Event()

        async def hang() -> None:
            called.set()
            await asyncio.sleep(60)

        service_id = (await callee.register_service({"id": "h", "hang": hang})).id
        service = await caller.get_service(service_id)
        calling = service.hang()
        await called.wait()
        await callee.disconnect()
        async with asyncio.timeout(5):
            with pytest.raises(Exception, match="is not connected"):
                await calling


@pytest.fixture
async def balanced(two_gateways: RunningCluster) -> AsyncIterator[Balancer]:
    """One address for two gateways: the stream ends up at one, the POSTs at both."""
    async with balancer(two_gateways.gateway_urls) as running:
        yield running


_JAVASCRIPT = """
const server = await hyphaWebsocketClient.connectToServer({server_url: "URL", transport: "http"});
const call = async (f, x) => await f(x);
const service = await server.registerService({id: "s", config: {visibility: "public"}, call});
console.log("registered " + service.id);
"""


@pytest.mark.node
async def test_anonymous_javascript(cluster: RunningCluster, connect: Connect, start_script: StartScript) -> None:
    """It keeps no cookies and has no token; where its POSTs come from must do."""
    script = await start_script(_JAVASCRIPT.replace("URL", cluster.url), language="js")
    service_id = (await script.line(r"^registered (\S+)$")).group(1)
    caller = await connect(transport="http")
    service = await caller.get_service(service_id)
    assert await service.call(lambda x: x + 1, 41) == 42


class TestTwoGateways:
    @pytest.mark.parametrize("named", [True, False], ids=["token", "anonymous"])
    async def test_calls(self, two_gateways: RunningCluster, balanced: Balancer, named: bool) -> None:
        config: dict[str, Any] = {"server_url": balanced.url, "transport": "http"}
        if named:
            config["token"] = two_gateways.user_token()
        async with (
            connect_to_server(config) as streaming,
            connect_to_server({"server_url": two_gateways.gateway_urls[0]}) as first,
            connect_to_server({"server_url": two_gateways.gateway_urls[1]}) as second,
        ):
            service_id = await Provider().register(streaming)
            for websocket in (first, second):
                await _exercise(websocket, service_id)
                await _exercise(streaming, await Provider().register(websocket))

    async def test_gateways_that_end(self, start_cluster: Callable[..., RunningCluster]) -> None:
        """
        Streams come back at the other gateway, with their services; what was handed out works again.

        One gateway is killed, then the other one is stopped.

        """
        cluster = start_cluster("--gateways=2", "--drain-window=1")
        async with balancer(cluster.gateway_urls) as running:
            config = {"server_url": running.url, "transport": "http"}
            async with (
                connect_to_server(config) as anonymous,
                connect_to_server({**config, "token": cluster.user_token()}) as named,
                connect_to_server({"server_url": cluster.gateway_urls[1]}) as websocket,
            ):
                ids = [await Provider().register(client) for client in (anonymous, named)]
                services = [await websocket.get_service(service_id) for service_id in ids]
                assert [await service.add(1, 1) for service in services] == [2, 2]

                async def work() -> bool:
                    found = [await websocket.get_service(service_id) for service_id in ids]
                    return [await service.add(2, 2) for service in found] == [4, 4]

                for index, number in enumerate((signal.SIGKILL, signal.SIGTERM)):
                    os.kill(cluster.pids["gateway"][index], number)
                    await _until(work)
                    assert [await service.add(3, 3) for service in services] == [6, 6]
                    assert await anonymous.echo("x") == await named.echo("x") == "x"
        assert cluster.errors() == []


class TestEnds:
    async def test_workspace_that_is_deleted(self, cluster: RunningCluster, connect: Connect) -> None:
        """Its streams end with it, and a client without a place stays out."""
        owner = await connect(token=cluster.user_token())
        workspace = (await owner.create_workspace({"name": f"doomed-{owner.config.client_id.lower()}"}))["id"]
        token = await owner.generate_token({"workspace": workspace, "permission": "read_write"})
        guest = await connect(transport="http", token=token)
        service_id = await Provider().register(guest)
        await owner.delete_workspace(workspace)
        async with asyncio.timeout(5):
            with pytest.raises(Exception, match=r"not connected|not found|does not exist"):
                await (await owner.get_service(service_id)).add(1, 1)
        async with raw_client(cluster.url) as witness:
            assert await witness.manager("echo", 1) == 1


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_TIMEOUT_S):
        while True:
            try:
                # A client whose own socket breaks under a call waits for it as long as it ever waits.
                async with asyncio.timeout(_ATTEMPT_S):
                    if await condition():
                        return
            except (RemoteException, ConnectionError, TimeoutError):
                await asyncio.sleep(0.1)
