from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypha_rpc.rpc import RPC, RemoteException
from rpc_support import SERVER, principal

from hypha_common import envelope
from hypha_common.bus import Bus
from hypha_common.errors import DeadlineExceeded, PeerNotFound
from hypha_common.ids import MANAGER_ID, Address, new_id, role_of
from hypha_common.rpc import Caller, RoleHost, Service, rpc_method
from hypha_common.rpc.router import instance_of
from hypha_common.subjects import client_frames, partition_of, pinned, role_verb
from hypha_common.wire import Stamp, pack, split_frame

AUTH = "public/hypha-auth"
MANAGER = "*/manager-hypha"

BusOf = Callable[[str], Awaitable[Bus]]


@pytest.fixture
async def bus_of(nats_url: str) -> AsyncIterator[BusOf]:
    buses: list[Bus] = []

    async def connect(role: str) -> Bus:
        bus = Bus(urls=[nats_url], role=role, instance=new_id(8), on_fatal=lambda reason: None)
        await bus.connect()
        buses.append(bus)
        return bus

    yield connect
    for bus in reversed(buses):
        await bus.close()


class Gateway:
    """A gateway of one connection: what the real one does to frames, without sockets."""

    manager_id = MANAGER_ID

    def __init__(self, bus: Bus, workspace: str, client_id: str) -> None:
        self._bus = bus
        self._workspace = workspace
        self._address = Address(workspace, client_id)
        self._stamp = Stamp(sender=str(self._address), workspace=workspace, user=principal(workspace).dump())
        self._handler: Callable[[bytes], None] = lambda frame: None
        self._subscription: Any = None
        self.answered: list[str] = []
        self.replicas: set[str] = set()

    async def connect(self) -> RPC:
        self._subscription = await self._bus.subscribe(
            client_frames(self._workspace, self._address.client), self._receive
        )
        await self._bus.flush()
        return RPC(self, client_id=self._address.client, workspace=self._workspace, silent=True, server_base_url=SERVER)

    async def emit_message(self, frame: bytes) -> None:
        head, offset = split_frame(frame)
        to = Address.parse(head["to"], default_workspace=self._workspace)
        payload = envelope.call(self._bus.instance_bytes, 7, self._stamp.frame(head, str(to), frame[offset:]))
        role = role_of(to.workspace, to.client)
        if role is None:
            self._bus.publish(client_frames(to.workspace, to.client), payload)
            return
        instance = instance_of(head["method"])
        if instance is None:
            subject = role_verb(role, partition_of(self._workspace), "pin")
            instance = (await self._bus.request(subject, {}))["instance"]
        self._bus.publish(pinned(role, instance), payload)

    def on_message(self, handler: Callable[[bytes], None]) -> None:
        self._handler = handler

    def on_connected(self, handler: Any) -> None:
        pass

    async def disconnect(self, reason: str | None = None) -> None:
        self._bus.unsubscribe(self._subscription)

    def _receive(self, subject: str, reply: str, payload: bytes) -> None:
        opened = envelope.open_envelope(payload)
        self.replicas.add(opened.source)
        if opened.kind is envelope.Kind.ANSWER:
            self.answered.append(opened.label)
        self._handler(bytes(opened.body))


class Sample:
    def __init__(self, name: str = "") -> None:
        self.name = name

    @rpc_method
    async def echo(self, data: Any) -> Any:
        """Return what came."""
        return data

    @rpc_method
    def which(self, *, context: Caller) -> list[Any]:
        """Tell which replica answers, and what it knows of the connection."""
        return [self.name, context.gateway, context.generation]

    @rpc_method
    async def count(self, n: int) -> AsyncIterator[int]:
        """Count."""
        for number in range(n):
            yield number

    @rpc_method
    async def sleep(self, seconds: float) -> str:
        """Sleep."""
        await asyncio.sleep(seconds)
        return self.name


async def host_of(bus: Bus, role: str, *objects: object, addresses: tuple[str, ...] = (), **options: Any) -> RoleHost:
    host = RoleHost(bus, role, server_base_url=SERVER, **options)
    if objects:
        host.add_service(Service.of("default", *objects, visibility="public"), addresses=addresses)
    await host.start()
    return host


async def default_of(client: RPC, address: str) -> Any:
    return await client.get_remote_service(f"{address}:default")


async def test_call_over_the_bus(bus_of: BusOf) -> None:
    """A client calls a role; the envelope of each answer names the call it ends."""
    host = await host_of(await bus_of("workspace"), "workspace", Sample("a"), addresses=(MANAGER,))
    bus = await bus_of("gateway")
    gateway = Gateway(bus, "ws-a", "one")
    client = await gateway.connect()
    server = await default_of(client, MANAGER)
    assert await server.echo({"a": [1, b"x"]}) == {"a": [1, b"x"]}
    assert await server.which() == ["a", bus.instance, 7]
    assert [item async for item in await server.count(3)] == [0, 1, 2]
    assert len(gateway.answered) == len(set(gateway.answered)) == 1 + 1 + 1 + 1 + 4
    data = bytes(3_000_000)
    assert await server.echo(data) == data
    await client.disconnect()
    await host.close()


async def test_session_stays_with_its_replica(bus_of: BusOf) -> None:
    """Any replica takes a call, but a generator is continued where it began."""
    hosts = [await host_of(await bus_of("auth"), "auth", Sample(name), announce_interval_s=3600) for name in ("a", "b")]
    gateway = Gateway(await bus_of("gateway"), "ws-a", "one")
    client = await gateway.connect()
    server = await default_of(client, AUTH)
    names = {(await server.which())[0] for _ in range(40)}
    assert names == {"a", "b"}
    for _ in range(10):
        assert [item async for item in await server.count(5)] == [0, 1, 2, 3, 4]
    await client.disconnect()
    for host in hosts:
        await host.close()
        assert not any(host.peer.load.values())


async def test_role_calls_client(bus_of: BusOf) -> None:
    """A role calls a client; the answer, also a long one, finds the replica that waits."""
    hosts = [await host_of(await bus_of("workspace"), "workspace", Sample(), addresses=(MANAGER,)) for _ in range(3)]
    client = await Gateway(await bus_of("gateway"), "ws-a", "one").connect()
    client.add_service({"id": "svc", "config": {"visibility": "protected"}, "make": lambda size: bytes(size)})
    for host in hosts:
        for size in (10, 1_000_000):
            answer = await host.peer.call(
                "ws-a/one", "services.svc.make", size, sender=MANAGER, workspace="ws-a", timeout=5
            )
            assert answer == bytes(size)
    await client.disconnect()
    for host in hosts:
        assert not any(host.peer.load.values())
        await host.close()


async def test_nobody_there(bus_of: BusOf) -> None:
    """A call to a client that is connected nowhere fails within milliseconds."""
    host = await host_of(await bus_of("workspace"), "workspace", Sample(), addresses=(MANAGER,))
    started = time.monotonic()
    with pytest.raises(PeerNotFound, match=r"Target peer ws a/no\.body is not connected"):
        await host.peer.call("ws a/no.body", "services.x.y", sender=MANAGER, workspace="ws a")
    assert time.monotonic() - started < 0.1
    await host.close()


async def test_role_calls_role(bus_of: BusOf) -> None:
    """Roles call each other in whole frames, which the bus cuts where they are too large."""
    auth = await host_of(await bus_of("auth"), "auth", Sample("auth"), announce_interval_s=3600)
    workspace = await host_of(await bus_of("workspace"), "workspace", Sample("ws"), addresses=(MANAGER,))
    data = bytes(3_000_000)
    answer = await workspace.peer.call(AUTH, "services.default.echo", data, sender=MANAGER, workspace="public")
    assert answer == data
    items = await auth.peer.call(MANAGER, "services.default.count", 3, sender=AUTH, workspace="public")
    assert [item async for item in items] == [0, 1, 2]
    await auth.close()
    await workspace.close()


async def test_announce(bus_of: BusOf) -> None:
    """The services at the role's address are announced again and again."""
    announced: list[dict[str, Any]] = []

    async def announce(message: dict[str, Any]) -> None:
        announced.append(message)

    registry = await bus_of("workspace")
    await registry.serve("workspace", "announce", announce)
    await registry.flush()
    bus = await bus_of("auth")
    host = await host_of(bus, "auth", Sample(), announce_interval_s=0.05)
    await asyncio.sleep(0.3)
    await host.close()
    count = len(announced)
    assert count >= 3
    assert announced[0]["client_id"] == "hypha-auth"
    assert announced[0]["instance"] == bus.instance
    assert [info["id"] for info in announced[0]["services"]] == [f"{AUTH}:built-in", f"{AUTH}:default"]
    await asyncio.sleep(0.1)
    assert len(announced) == count


async def test_announce_while_nobody_listens(bus_of: BusOf) -> None:
    """A role starts before the workspace role does."""
    host = await host_of(await bus_of("auth"), "auth", Sample(), announce_interval_s=0.05)
    await asyncio.sleep(0.15)
    announced: list[dict[str, Any]] = []

    async def announce(message: dict[str, Any]) -> None:
        announced.append(message)

    await (await bus_of("workspace")).serve("workspace", "announce", announce)
    await asyncio.sleep(0.2)
    assert announced
    await host.close()


async def test_close_finishes_what_runs(bus_of: BusOf) -> None:
    """A replica that closes takes no new call, finishes the running ones, and answers what the window cuts off."""
    staying = await host_of(await bus_of("workspace"), "workspace", Sample("stays"), addresses=(MANAGER,))
    client = await Gateway(await bus_of("gateway"), "ws-a", "one").connect()
    leaving_bus = await bus_of("workspace")
    leaving = await host_of(leaving_bus, "workspace", Sample("leaves"), addresses=(MANAGER,), drain_window_s=0.5)
    server = await default_of(client, MANAGER)
    short = [asyncio.ensure_future(server.sleep(0.2)) for _ in range(20)]
    long = [asyncio.ensure_future(server.sleep(1.2)) for _ in range(20)]
    await asyncio.sleep(0.1)
    await leaving_bus.stop_serving()
    closing = asyncio.ensure_future(leaving.close())
    await asyncio.sleep(0.05)
    assert {await server.sleep(0) for _ in range(20)} == {"stays"}
    assert set(await asyncio.gather(*short)) == {"stays", "leaves"}
    await closing
    assert not any(leaving.peer.load.values())
    outcomes = await asyncio.gather(*long, return_exceptions=True)
    cut_off = [outcome for outcome in outcomes if isinstance(outcome, RemoteException)]
    assert cut_off
    assert all("ConnectionError: The call was cancelled" in str(outcome) for outcome in cut_off)
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} == {"stays"}
    await client.disconnect()
    await staying.close()


async def test_bad_envelopes(bus_of: BusOf) -> None:
    """Garbage on a subject of the role harms nothing."""
    bus = await bus_of("workspace")
    host = await host_of(bus, "workspace", Sample(), addresses=(MANAGER,))
    sender = await bus_of("gateway")
    for payload in (b"\x09", b"\x01short", envelope.call(sender.instance_bytes, 1, b"\xc1\xc1")):
        sender.publish(f"hy.i.workspace.{bus.instance}", payload)
        sender.publish(f"hy.i.workspace.{bus.instance}.from.apps", payload)
        sender.publish("hy.r.workspace.3.call.from.apps", payload)
    await sender.flush()
    client = await Gateway(sender, "ws-a", "one").connect()
    assert await (await default_of(client, MANAGER)).echo(1) == 1
    await client.disconnect()
    await host.close()


async def test_a_role_speaks_for_itself_alone(bus_of: BusOf) -> None:
    """Another role is heard under its own addresses, in anybody's name; not as a client, nor as a gateway."""
    bus = await bus_of("workspace")
    host = await host_of(bus, "workspace", Sample("manager"), addresses=(MANAGER,))
    apps_bus = await bus_of("apps")
    apps = await host_of(apps_bus, "apps")
    sender = await apps.sender_in("ws-a")
    assert str(sender) == f"ws-a/client-role-apps-{apps_bus.instance}"
    user = principal("ws-a").dump()

    async def which(**who: Any) -> Any:
        call = apps.peer.call(MANAGER, "services.default.which", workspace="ws-a", user=user, timeout=0.5, **who)
        return await call

    assert await which(sender=sender) == ["manager", "", 0]
    assert await which(sender="public/hypha-apps") == ["manager", "", 0]
    for somebody in ("ws-a/one", f"ws-a/client-role-artifacts-{apps_bus.instance}", "public/hypha-auth", MANAGER):
        with pytest.raises(DeadlineExceeded):
            await which(sender=somebody)
    stamp = Stamp(sender=str(sender), workspace="ws-a", user=user)
    head = {"type": "method", "method": "services.default.which", "session": "s"}
    forged = envelope.call(apps_bus.instance_bytes, 7, stamp.frame(head, MANAGER, pack([])))
    apps_bus.publish("hy.r.workspace.3.call.from.apps", forged)
    await apps_bus.flush()
    assert await which(sender=sender) == ["manager", "", 0]
    await apps.close()
    await host.close()
