"""In place of a whole cluster: a real gateway, bus and provider; the roles that it asks answer from memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from hypha_common import envelope
from hypha_common.bus import Bus
from hypha_common.errors import BadRequest, NotFound, PermissionDenied, Unauthorized
from hypha_common.ids import MANAGER_ADDRESS, Address, ServiceId, new_id
from hypha_common.principal import Permission, Principal, Scope, authorize, root_principal
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.host import RoleHost
from hypha_common.rpc.peer import RpcPeer
from hypha_common.rpc.router import Router
from hypha_common.rpc.service import Service, rpc_method
from hypha_common.service_tree import find_in_schema
from hypha_common.settings import Settings
from hypha_common.subjects import client_frames, decode_token, encode_token, no_responders_prefix, pinned
from hypha_common.tokens import TokenCodec, TokenKind, VerifiedToken
from hypha_gateway.app import create_app

SECRET = "s" * 40
ROOT_TOKEN = "r" * 64
URL = "http://gateway.example"


# Of the example in RFC 7517 appendix A.1.
PUBLIC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    "use": "sig",
    "alg": "ES256",
    "kid": "1",
}


class Provider:
    """A client with services: a real RpcPeer that stands where a gateway would deliver its frames."""

    def __init__(self, bus: Bus, address: Address) -> None:
        self.address = address
        self.closed: list[str] = []
        self._bus = bus
        self._router = Router("gateway")
        self.peer = RpcPeer(send=self._send, server_base_url=URL)

    async def start(self) -> None:
        subject = client_frames(self.address.workspace, self.address.client)
        await self._bus.subscribe(
            subject, lambda _s, _r, payload: self.peer.receive(envelope.open_envelope(payload).body)
        )
        await self._bus.undeliverable(lambda tail, _s: self.peer.undeliverable(None, decode_token(tail)))
        await self._bus.flush()

    def _send(
        self, frame: bytes, *, to: Address, method: str, workspace: str, session: str | None, ends: str | None
    ) -> None:
        reply = f"{no_responders_prefix(self._bus.instance)}.{encode_token(session)}" if session else ""
        subject = self._router.subject_for(to, method, workspace=workspace)
        self._bus.publish(subject, envelope.frame(self._bus.instance_bytes, frame), reply=reply)

    def methods(self) -> dict[str, Any]:
        async def gen(n: int = 3) -> AsyncIterator[int]:
            try:
                for i in range(n):
                    yield i
                    await asyncio.sleep(0.01)
            finally:
                self.closed.append("gen")

        def broken() -> Iterator[int]:
            yield 1
            raise ValueError("bad item")

        def boom() -> None:
            raise BadRequest("bad thing")

        def perm() -> None:
            raise PermissionDenied("not you")

        def lost() -> None:
            raise NotFound("row")

        def whoami(*, context: Caller) -> dict[str, Any]:
            return context.header

        def page(event: dict[str, Any]) -> dict[str, Any]:
            return {
                "status": 201,
                "headers": {"X-A": "b", "Set-Cookie": ["a=1", "b=2"]},
                "body": json.dumps(_shown(event)),
            }

        return {
            "test": lambda x: x + 1,
            "echo": lambda *args, **kwargs: [list(args), kwargs],
            "raw": lambda: b"\x00\xff",
            "nested.deep.f": lambda x: x + 1,
            "boom": boom,
            "perm": perm,
            "lost": lost,
            "whoami": whoami,
            "gen": lambda n=3: gen(n),
            "broken": broken,
            "page": page,
            "text": lambda event: {"body": "hello"},
            "empty": lambda event: {"status": 204, "body": None},
            "liar": lambda event: "no map",
            "injector": lambda event: {"headers": {"X-A": "b\r\nX-B: c"}, "body": ""},
            "crash": lambda event: 1 / 0,
        }


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "body": None if event["body"] is None else event["body"].decode()}


class Manager:
    """Stands for the workspace manager, whose service belongs to another process."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @rpc_method
    def echo(self, data: Any, *, context: Caller) -> dict[str, Any]:
        return {"data": data, "ws": context.workspace, "user": context.principal.id, "from": str(context.sender)}

    @rpc_method
    def list_services(self, query: str, *, context: Caller) -> list[dict[str, Any]]:
        return [
            {"id": info["id"], "type": info["type"]}
            for info in self._registry.infos
            if info["id"].startswith(f"{query}/")
        ]

    @rpc_method
    def list_clients(self, workspace: str, *, context: Caller) -> list[dict[str, Any]]:
        return [{"id": f"{workspace}/<c1>", "user": context.principal.dump()}]

    @rpc_method
    async def get_service_info(self, service_id: str, config: dict[str, Any], *, context: Caller) -> dict[str, Any]:
        if service_id == "~":
            return {"id": "~"}
        message = {
            "service_id": service_id,
            "user": context.header["user"],
            "workspace": context.workspace,
            "function": "",
            **config,
        }
        return {"id": (await self._registry.resolve(message))["id"], "_rtype": "pydantic-model"}


class Registry:
    """Stands for the workspace service: what ``resolve`` and ``info`` answer."""

    def __init__(self) -> None:
        self.answer = self.resolve  # a test may answer in its stead
        self.infos: list[dict[str, Any]] = []
        self.workspaces: dict[str, dict[str, Any]] = {
            "public": {"id": "public", "owners": ["root"]},
            "ws-user-u1": {"id": "ws-user-u1", "owners": ["u1"]},
            "lab-a": {"id": "lab-a", "owners": ["u1"]},
        }

    async def resolve(self, message: dict[str, Any]) -> dict[str, Any]:
        wanted = ServiceId.parse(message["service_id"], default_workspace=message["workspace"])
        caller = Principal.load(message["user"])
        for info in self.infos:
            has = ServiceId.parse(info["id"], default_workspace="")
            if (has.workspace, has.service) != (wanted.workspace, wanted.service) or wanted.client not in (
                "*",
                has.client,
            ):
                continue
            if info["config"]["visibility"] == "protected":
                authorize(caller, Permission.READ, has.workspace)
            found = {"client": f"{has.workspace}/{has.client}", "service": has.service}
            if message["function"]:
                return {**found, "leaf": find_in_schema(info["service_schema"], message["function"])}
            return {**info, **found}
        if message.get("mode") == "bad":
            raise BadRequest("Invalid mode: bad.")
        raise NotFound(f"Service not found: {wanted}")

    async def info(self, message: dict[str, Any]) -> dict[str, Any]:
        caller, name = Principal.load(message["user"]), message["workspace"]
        info = self.workspaces.get(name)
        if info is None:
            if caller.is_anonymous:
                raise PermissionDenied("no")
            raise NotFound("no such workspace")
        if not caller.owns(name, info["owners"]):
            authorize(caller, Permission.READ, name)
        return info


class World:
    """A gateway's HTTP side with everything it talks to."""

    def __init__(
        self,
        app: Starlette,
        http: httpx.AsyncClient,
        provider: Provider,
        registry: Registry,
        events: list[dict[str, Any]],
    ) -> None:
        self.events = events  # what was sent to be written down
        self.app = app
        self.http = http
        self.provider = provider
        self.registry = registry
        self.codec = TokenCodec(SECRET)

    def bearer(self, user: str = "u1", kind: TokenKind = TokenKind.ACCESS, **scope: Any) -> dict[str, str]:
        principal = Principal(id=user, roles=("user",), scope=Scope(**scope))
        return {"Authorization": f"Bearer {self.codec.sign(principal, life_s=60, kind=kind)}"}


async def _authenticate(message: dict[str, Any]) -> dict[str, Any]:
    if message["token"] != ROOT_TOKEN:
        raise Unauthorized("Error decoding token headers.")
    return VerifiedToken(root_principal(), "ws-user-root", None, (), None, "root", TokenKind.ACCESS).dump()


async def _bus(url: str, role: str) -> Bus:
    bus = Bus(urls=[url], role=role, instance=new_id(8), on_fatal=lambda reason: None)
    await bus.connect()
    return bus


async def _role(url: str, role: str) -> tuple[Bus, RoleHost]:
    bus = await _bus(url, role)

    async def pin(message: dict[str, Any]) -> dict[str, str]:
        return {"instance": bus.instance}

    async def ping(message: dict[str, Any]) -> str:
        return "pong"

    await bus.serve(role, "pin", pin)
    await bus.serve_subject(f"{pinned(role, bus.instance)}.ping", ping)
    return bus, RoleHost(bus, role, server_base_url=URL, drain_window_s=0.1)


@pytest_asyncio.fixture
async def world(nats_url: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    registry = Registry()
    workspace_bus, manager = await _role(nats_url, "workspace")
    auth_bus, auth = await _role(nats_url, "auth")

    async def known(message: dict[str, Any]) -> dict[str, bool]:
        return {"known": True}

    async def places(message: dict[str, Any]) -> dict[str, Any]:
        return {"databases": {"one": list(range(64))}}

    async def revoked(message: dict[str, Any]) -> dict[str, Any]:
        return {"ids": [], "next": None}

    events: list[dict[str, Any]] = []

    async def audit(message: dict[str, Any]) -> None:
        events.extend(message["events"])

    async def policy(message: dict[str, Any]) -> dict[str, Any]:
        return {"blocks": [], "keys": [PUBLIC_KEY], "custom_auth": None}

    await workspace_bus.serve("workspace", "resolve", lambda message: registry.answer(message))
    await workspace_bus.serve("workspace", "info", registry.info)
    await workspace_bus.serve("workspace", "lease", known)
    await workspace_bus.serve("workspace", "places", places)
    await auth_bus.serve("auth", "revoked", revoked)
    await auth_bus.serve("auth", "policy", policy)
    await auth_bus.serve("auth", "audit", audit)
    await auth_bus.serve("auth", "authenticate", _authenticate)
    manager.add_service(Service.of("default", Manager(registry), visibility="public"), addresses=[MANAGER_ADDRESS])
    for host in (manager, auth):
        await host.start()

    provider_bus = await _bus(nats_url, "gateway")
    provider = Provider(provider_bus, Address("public", "p1"))
    await provider.start()
    for service_id, kind, visibility in (
        ("test-service", "generic", "public"),
        ("secret", "generic", "protected"),
        ("pages", "functions", "public"),
        ("web", "asgi", "public"),
    ):
        methods = provider.methods()
        if service_id == "pages":
            methods = {"index": methods.pop("page"), "manual.index": methods["text"], **methods}
        service = Service(service_id, methods, type=kind, visibility=visibility, config={"version": "1.0"})
        provider.peer.add_service(service, addresses=[provider.address])
        registry.infos.append(service.info(str(provider.address)))
    gone = Service("gone", {"f": lambda: None}, visibility="public").info("public/nobody")
    registry.infos.append(gone)
    changed = getattr(request, "param", {})
    settings = Settings.load({"nats_url": nats_url, "jwt_secret": SECRET, **changed}, environ={})
    app = create_app(settings, on_fatal=lambda reason: None)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=URL) as http:
        await asyncio.wait_for(app.state.gateway.revocations_known.wait(), 5)
        yield World(app, http, provider, registry, events)
    await provider.peer.close()
    for host in (manager, auth):
        await host.close()
    for bus in (provider_bus, workspace_bus, auth_bus):
        await bus.close()
