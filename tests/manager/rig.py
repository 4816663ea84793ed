"""
A gateway just large enough for `hypha-rpc` clients in this process to talk to the services on the bus.

The services, the database, the bus and the client are the real ones; only the websocket is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from hypha_rpc.rpc import RPC

from hypha_common import envelope
from hypha_common.bus import Bus
from hypha_common.errors import HyphaError
from hypha_common.ids import MANAGER_ID, Address, new_id, role_of
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.rpc.router import instance_of
from hypha_common.settings import Settings
from hypha_common.subjects import client_frames, gateway_verb, partition_of, pinned, role_verb, workspace_events
from hypha_common.wire import Stamp, split_frame


class Gateway:
    """Holds connections of `hypha-rpc` clients: stamps and routes what they send, filters events."""

    def __init__(self, settings: Settings) -> None:
        self.bus = make_bus(settings, "gateway")
        self._heads = settings.partition_heads()
        self._renewing: asyncio.Task[None] | None = None
        self._links: dict[tuple[str, str], Link] = {}

    async def start(self) -> None:
        await self.bus.connect()
        for verb in (self.subscribe, self.unsubscribe, self.kick):
            await self.bus.serve_subject(gateway_verb(self.bus.instance, verb.__name__), verb)
        self._renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """On a busy machine a test may take longer than a lease."""
        while True:
            for head in self._heads:
                message = {"partition": head, "gateway": self.bus.instance, "connections": len(self._links)}
                with suppress(HyphaError):
                    await self.bus.request(role_verb("workspace", head, "lease"), message)
            await asyncio.sleep(4)

    async def stop(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        for link in list(self._links.values()):
            await link.disconnect()
        await self.bus.close()

    async def connect(self, client_id: str, principal: Principal, workspace: str) -> Client:
        """Admit a client and return it, registered."""
        message = {
            "workspace": workspace,
            "client_id": client_id,
            "user": principal.dump(),
            "gateway": self.bus.instance,
            "reconnect": True,
        }
        admitted = await self.bus.request(role_verb("workspace", partition_of(workspace), "connect"), message)
        link = Link(self, workspace, client_id, Principal.load(admitted["user"]), admitted["generation"])
        self._links[workspace, client_id] = link
        await link.listen()
        return await Client.over(link)

    async def subscribe(self, message: dict[str, Any]) -> None:
        self._link(message).types.update(message["types"])

    async def unsubscribe(self, message: dict[str, Any]) -> None:
        self._link(message).types.difference_update(message["types"])

    async def kick(self, message: dict[str, Any]) -> dict[str, Any]:
        link = self._links.pop((message["workspace"], message["client_id"]), None)
        if link is not None:
            link.kicked.set_result((message["code"], message["reason"]))
        return {}

    def _link(self, message: dict[str, Any]) -> Link:
        link = self._links[message["workspace"], message["client_id"]]
        assert link.generation == message["generation"]
        return link


class Link:
    """The connection object that `hypha_rpc.rpc.RPC` wants (contract 01 §2.12)."""

    manager_id = MANAGER_ID
    _enable_reconnect = False
    _closed = False

    def __init__(self, gateway: Gateway, workspace: str, client_id: str, principal: Principal, generation: int) -> None:
        self.workspace = workspace
        self.client_id = client_id
        self.generation = generation
        self.types: set[str] = set()
        self.kicked: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.silent = False  # True: the client no longer answers anything
        self._gateway = gateway
        self._bus = gateway.bus
        self.principal = principal
        self._stamp = Stamp(sender=f"{workspace}/{client_id}", workspace=workspace, user=principal.dump())
        self._pins: dict[str, str] = {}  # role -> the replica that this client talks to
        self._handler: Callable[[bytes], None] = lambda frame: None
        self._subscriptions: list[Any] = []

    async def listen(self) -> None:
        frames, events = client_frames(self.workspace, self.client_id), workspace_events(self.workspace)
        self._subscriptions.append(await self._bus.subscribe(frames, self._deliver))
        self._subscriptions.append(await self._bus.subscribe(events, self._deliver))
        await self._bus.flush()

    async def emit_message(self, frame: bytes) -> None:
        if self.silent:
            return
        header, offset = split_frame(frame)
        to = Address.parse(header["to"], default_workspace=self.workspace)
        body = self._stamp.frame(header, str(to), frame[offset:])
        role = role_of(to.workspace, to.client)
        if role is None:
            self._bus.publish(client_frames(to.workspace, to.client), envelope.frame(self._bus.instance_bytes, body))
            return
        instance = instance_of(header["method"]) or await self._pin(role)
        payload = envelope.call(self._bus.instance_bytes, self.generation, body)
        self._bus.publish(pinned(role, instance), payload)

    async def _pin(self, role: str) -> str:
        if role not in self._pins:
            answer = await self._bus.request(role_verb(role, partition_of(self.workspace), "pin"), {})
            self._pins[role] = answer["instance"]
        return self._pins[role]

    def on_message(self, handler: Callable[[bytes], None]) -> None:
        self._handler = handler

    def on_connected(self, handler: Callable[[Any], Awaitable[None]]) -> None:
        pass

    def on_disconnected(self, handler: Callable[[str], None]) -> None:
        pass

    async def disconnect(self, reason: str | None = None) -> None:
        for subscription in self._subscriptions:
            self._bus.unsubscribe(subscription)
        self._subscriptions.clear()

    def _deliver(self, subject: str, reply: str, payload: bytes) -> None:
        if not payload:
            return  # a probe: that somebody listens here is the answer
        opened = envelope.open_envelope(payload)
        if not self.silent and (opened.kind is not envelope.Kind.EVENT or opened.label in self.types):
            self._handler(bytes(opened.body))


class Client:
    """A connected `hypha-rpc` client and its workspace manager."""

    def __init__(self, link: Link, rpc: RPC, manager: Any) -> None:
        self.link = link
        self.rpc = rpc
        self.manager = manager
        self.id = f"{link.workspace}/{link.client_id}"

    @classmethod
    async def over(cls, link: Link) -> Client:
        rpc = RPC(link, client_id=link.client_id, workspace=link.workspace, server_base_url="http://hub.example")
        await rpc.wait_for("services_registered", timeout=10)
        manager = await rpc.get_manager_service({"timeout": 10, "case_conversion": "snake"})
        return cls(link, rpc, manager)

    async def leave(self) -> None:
        """Go without a word, as a lost socket does; what it registered stays until somebody notices."""
        await self.rpc.disconnect()
        await self.link.disconnect()

    async def events(self, *types: str) -> asyncio.Queue[dict[str, Any]]:
        """Subscribe, and return where the events arrive."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for event_type in types:
            self.rpc.on(event_type, queue.put_nowait)
        assert await self.manager.subscribe(list(types))
        return queue


def make_bus(settings: Settings, role: str) -> Bus:
    def fail(reason: str) -> None:
        raise AssertionError(reason)

    return Bus(
        urls=settings.nats_urls,
        role=role,
        instance=new_id(8),
        user=settings.nats_user or None,
        password=settings.nats_password or None,
        on_fatal=fail,
    )


def user(name: str, **grants: Permission) -> Principal:
    """Return a registered user as a login token describes one; ``ws_a=…`` grants ``ws-a``."""
    scope = {key.replace("_", "-"): value for key, value in grants.items()}
    scope[f"ws-user-{name}"] = Permission.ADMIN
    return Principal(id=name, email=f"{name}@example.org", scope=Scope(scope))


def child(parent: str, workspace: str, permission: Permission) -> Principal:
    """Return the holder of a token that ``parent`` generated."""
    name = f"child-{new_id(6)}"
    return Principal(id=name, parent=parent, scope=Scope({workspace: permission, f"ws-user-{name}": Permission.ADMIN}))
