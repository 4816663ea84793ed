from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest
from hypha_rpc import connect_to_server

from hypha_common.ids import new_id
from tests.cluster.frame_client import FrameClient, RefusedError
from tests.cluster.operations import operate
from tests.cluster.running_cluster import RunningCluster

MAX_NOT_FOUND_S = 0.1  # the promise; on a busy machine for the best of several tries
MAX_NOT_FOUND_BUSY_S = 2.0
QUIET_S = 0.5

Join = Callable[..., Awaitable[Any]]
JoinRaw = Callable[..., Awaitable[FrameClient]]

SIDES = [pytest.param(0, id="same gateway"), pytest.param(1, id="other gateway")]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def token(two_gateways: RunningCluster) -> str:
    """Of one user of the test's own: clients with it share a workspace."""
    return two_gateways.user_token()


@pytest.fixture
def join(two_gateways: RunningCluster, stack: AsyncExitStack, token: str) -> Join:
    """Connect a hypha-rpc client at gateway 0 or 1."""

    async def join(gateway: int, **config: Any) -> Any:
        address = two_gateways.gateway_urls[gateway]
        return await stack.enter_async_context(connect_to_server({"server_url": address, "token": token, **config}))

    return join


@pytest.fixture
def join_raw(two_gateways: RunningCluster, stack: AsyncExitStack, token: str) -> JoinRaw:
    """Connect a bare websocket at gateway 0 or 1."""

    async def join(gateway: int, client_id: str = "", **hello: Any) -> FrameClient:
        address = two_gateways.gateway_urls[gateway]
        client = await FrameClient.connect(address, client_id or f"raw-{new_id(6)}", token=token, **hello)
        return await stack.enter_async_context(client)

    return join


class Events:
    """The events of some types that a client hears, in order."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @classmethod
    async def of(cls, server: Any, *types: str) -> Events:
        events = cls()
        for event_type in types:
            server.on(event_type, events._heard.put_nowait)
        await server.subscribe(list(types))
        return events

    async def next(self) -> tuple[str, Any]:
        event = await asyncio.wait_for(self._heard.get(), 10)
        return event["type"], event["data"]

    async def rest(self) -> list[tuple[str, Any]]:
        """Return what else there is after a quiet while."""
        await asyncio.sleep(QUIET_S)
        return [await self.next() for _ in range(self._heard.qsize())]


async def test_calls(join: Join) -> None:
    """Values, callbacks, generators and large arrays cross gateways in both directions."""
    provider, caller = await join(0), await join(1)

    async def relay(function: Any, value: Any) -> Any:
        return await function(value)

    async def count(n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    for here, there in [(provider, caller), (caller, provider)]:
        registered = await here.register_service(
            {"id": "s", "echo": lambda x: x, "relay": relay, "count": count, "double": lambda x: 2 * x}
        )
        service = await there.get_service(registered.id)
        value = {"text": "grüezi", "bytes": b"\x00\xff", "list": [1, None, 2.5, True], "map": {"a": [{}]}}
        assert await service.echo(value) == value
        assert await service.relay(lambda x: x + 1, 41) == 42
        assert [i async for i in await service.count(50)] == list(range(50))
        array = np.random.default_rng(1).integers(0, 255, 3 * 2**20, dtype=np.uint8).reshape(3, 1024, 1024)
        assert np.array_equal(await service.echo(array), array)
        assert (await asyncio.gather(*(service.double(i) for i in range(200)))) == [2 * i for i in range(200)]


async def test_order(join_raw: JoinRaw) -> None:
    """What one client sends to another arrives in the order it was sent, also where small and large frames mix."""
    sender, receiver = await join_raw(0), await join_raw(1)
    sizes = [10, 300_000, 10, 40_000, 9_000_000, 10, 10, 600_000] * 4

    async def send() -> None:
        for number, size in enumerate(sizes):
            await sender.send(receiver.address, {"number": number, "data": bytes(size)}, method="x")

    sending = asyncio.create_task(send())
    for number, size in enumerate(sizes):
        _, extra = await receiver.receive()
        assert (extra["number"], len(extra["data"])) == (number, size)
    await sending


async def test_events(join: Join, join_raw: JoinRaw) -> None:
    """Whoever listens at one gateway hears, once and in order, what happens at the other."""
    listener = await join(0)
    workspace = listener.config.workspace
    events = await Events.of(listener, "client_connected", "service_added", "client_disconnected")
    other = await join(1, client_id="other")
    assert await events.next() == ("client_connected", {"id": f"{workspace}/other", "workspace": workspace})
    await other.register_service({"id": "s", "f": lambda: 1})
    name, data = await events.next()
    assert (name, data["id"]) == ("service_added", f"{workspace}/other:s")
    await other.disconnect()
    assert await events.next() == ("client_disconnected", {"id": "other", "workspace": workspace})
    # One that never registered anything, and leaves without a word.
    silent = await join_raw(1, "silent")
    silent.websocket.transport.abort()
    assert await events.next() == ("client_disconnected", {"id": "silent", "workspace": workspace})
    assert await events.rest() == []


async def test_broadcast(join: Join, join_raw: JoinRaw) -> None:
    """A broadcast reaches who subscribed to its type at any gateway, and nobody else."""
    listeners = [await Events.of(await join(gateway), "news") for gateway in (0, 1)]
    deaf = await Events.of(await join(1), "weather")
    sender = await join_raw(1)
    for number in range(20):
        await sender.send("*", {"data": number}, type="news")
    for events in listeners:
        assert [await events.next() for _ in range(20)] == [("news", number) for number in range(20)]
    assert await deaf.rest() == []


@pytest.mark.parametrize("side", SIDES)
async def test_call_to_a_client_that_has_gone(join_raw: JoinRaw, side: int) -> None:
    """It fails at once and names the peer."""
    caller, gone = await join_raw(0), await join_raw(side)
    await caller.send(gone.address, {"args": []}, method="m", session="s")
    assert (await gone.receive())[0]["method"] == "m"
    await gone.websocket.close()
    await _fails_fast(caller, gone.address)


@pytest.mark.parametrize("side", SIDES)
async def test_call_to_a_client_that_never_was(join_raw: JoinRaw, side: int) -> None:
    caller, neighbour = await join_raw(0), await join_raw(side)
    workspace = neighbour.info["workspace"]
    for peer in (f"{workspace}/nobody", "ws-user-nobody/nobody", f"{workspace}/a.b*>|c d{'x' * 60}"):
        await _fails_fast(caller, peer)


async def _fails_fast(caller: FrameClient, peer: str) -> None:
    took: list[float] = []
    for number in range(8):
        started = time.monotonic()
        with pytest.raises(RuntimeError, match=f"^{re.escape(f'Target peer {peer} is not connected')}$"):
            await caller.call(peer, "services.s.f", session=f"s-{number}")
        took.append(time.monotonic() - started)
    assert min(took) < MAX_NOT_FOUND_S
    assert max(took) < MAX_NOT_FOUND_BUSY_S


@pytest.mark.parametrize("side", SIDES)
async def test_service_of_a_client_that_has_gone(join: Join, side: int) -> None:
    """As a hypha-rpc user sees it: the call fails and names the peer."""
    caller, provider = await join(0), await join(side)
    registered = await provider.register_service({"id": "s", "f": lambda: 1})
    service = await caller.get_service(registered.id)
    assert await service.f() == 1
    await provider.disconnect()
    async with asyncio.timeout(MAX_NOT_FOUND_BUSY_S):
        with pytest.raises(Exception, match=f"{registered.id.split(':')[0]}|Service not found"):
            await service.f()


@pytest.mark.parametrize("side", SIDES)
async def test_supersede(two_gateways: RunningCluster, join: Join, join_raw: JoinRaw, side: int) -> None:
    """With its reconnection token a client takes its own place; the late clean-up of the old socket harms nothing."""
    listener = await join(0)
    workspace = listener.config.workspace
    events = await Events.of(listener, "client_disconnected")
    old = await join_raw(0, "phoenix")
    await _register(old, "s")
    new = await join_raw(side, "phoenix", reconnection_token=old.info["reconnection_token"])
    assert await old.ended() == 1006
    await _register(new, "s")
    assert await events.rest() == []
    assert [s["id"] for s in await listener.list_services({"id": "s"})] == [f"{workspace}/phoenix:s"]
    await listener.rpc.emit({"type": "method", "to": new.address, "method": "m"})
    assert (await new.receive())[0]["method"] == "m"
    async with operate(two_gateways) as operator:
        registered = await operator.registered(workspace)
        assert await operator.sockets(workspace, {gateway for gateway, _ in registered.values()}) == registered
        assert registered[new.address][1] > 0
    await new.websocket.close()
    assert await events.next() == ("client_disconnected", {"id": "phoenix", "workspace": workspace})
    assert await events.rest() == []
    assert await listener.list_services({"id": "s"}) == []


@pytest.mark.parametrize("side", SIDES)
async def test_two_clients_with_the_same_id(join: Join, join_raw: JoinRaw, side: int) -> None:
    """The one that is there and answers stays; the second is told."""
    first = await join(0, client_id="twin")
    with pytest.raises(RefusedError, match=f"Client already exists and is active: {first.config.workspace}/twin"):
        await join_raw(side, "twin")
    assert await first.echo(1) == 1


async def test_back_and_forth(join: Join, join_raw: JoinRaw) -> None:
    """A client that changes gateways again and again is always reached at the last one."""
    caller = await join_raw(0)
    client = await join_raw(0, "wanderer")
    for number in range(12):
        client = await join_raw((number + 1) % 2, "wanderer", reconnection_token=client.info["reconnection_token"])
        await caller.send(client.address, {"number": number}, method="m")
        assert (await client.receive())[1] == {"number": number}


async def test_disconnect(join: Join) -> None:
    """Services go with their client, and one event says so."""
    listener, other = await join(0), await join(1, client_id="other")
    events = await Events.of(listener, "client_disconnected")
    for name in "abc":
        await other.register_service({"id": name, "type": "letter", "f": lambda: 1})
    assert len(await listener.list_services({"type": "letter"})) == 3
    await other.disconnect()
    assert (await events.next())[1]["id"] == "other"
    assert await listener.list_services({"type": "letter"}) == []
    with pytest.raises(Exception, match="Service not found"):
        await listener.get_service("other:a")
    assert await events.rest() == []


async def test_registry_is_what_has_sockets(
    two_gateways: RunningCluster, join: Join, join_raw: JoinRaw, stack: AsyncExitStack
) -> None:
    """After connects, disconnects and take-overs everywhere at once, the registry lists exactly the live sockets."""
    listener = await join(0)
    workspace = listener.config.workspace

    async def churn(number: int) -> str | None:
        client = await join_raw(number % 2, f"churn-{number}")
        for step in range(number % 4):
            client = await join_raw(
                (number + step) % 2,
                f"churn-{number}",
                reconnection_token=client.info["reconnection_token"],
            )
        if number % 3:
            return client.address
        client.websocket.transport.abort()
        return None

    alive = {address for address in await asyncio.gather(*(churn(number) for number in range(40))) if address}
    alive.add(f"{workspace}/{listener.config.client_id}")
    async with operate(two_gateways) as operator, asyncio.timeout(10):
        while set(registered := await operator.registered(workspace)) != alive:
            await asyncio.sleep(0.1)
        gateways = {gateway for gateway, _ in registered.values()}
        assert len(gateways) == 2
        assert await operator.sockets(workspace, gateways) == registered
    listed = await listener.list_clients()
    assert f"{workspace}/{listener.config.client_id}" in [client["id"] for client in listed]


async def _register(client: FrameClient, service_id: str) -> None:
    """Register a service as a client library does."""
    info = {
        "id": f"{client.address}:{service_id}",
        "name": service_id,
        "type": "generic",
        "config": {"workspace": client.info["workspace"], "visibility": "public"},
        "service_schema": {},
        "app_id": "*",
    }
    await client.call("*/" + client.info["manager_id"], "services.default.register_service", info, promise="*")
