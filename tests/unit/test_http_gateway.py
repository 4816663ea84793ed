from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgpack
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


@pytest.fixture(scope="module")
def nats_url() -> Iterator[str]:
    """A real NATS server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    assert binary is not None
    process = subprocess.Popen([binary, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


class Provider:
    """A client with services: a real RpcPeer that stands where a gateway would deliver its frames."""

    def __init__(self, bus: Bus, address: Address) -> None:
        self.address = address
        self.closed: list[str] = []
        self._bus = bus
        self._router = Router()
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

    def __init__(self, app: Starlette, http: httpx.AsyncClient, provider: Provider, registry: Registry) -> None:
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

    async def revoked(message: dict[str, Any]) -> dict[str, Any]:
        return {"ids": [], "next": None}

    await workspace_bus.serve("workspace", "resolve", registry.resolve)
    await workspace_bus.serve("workspace", "info", registry.info)
    await workspace_bus.serve("workspace", "lease", known)
    await auth_bus.serve("auth", "revoked", revoked)
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
            methods = {"index": methods.pop("page"), "docs.index": methods["text"], **methods}
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
        yield World(app, http, provider, registry)
    await provider.peer.close()
    for host in (manager, auth):
        await host.close()
    for bus in (provider_bus, workspace_bus, auth_bus):
        await bus.close()


# --- calls of services


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("test-service/test?x=3", 4),
        ("p1:test-service/test?x=3", 4),
        ("*:test-service/test?x=3", 4),
        ("test-service@*/test?x=3", 4),
        ("test-service%40*/test?x=3&workspace=w&_mode=random", 4),
        ("test-service/nested.deep.f?x=1", 2),
        ("test-service/echo?a=1&b=x&c=%7B%22d%22%3A1%7D", [[], {"a": 1, "b": "x", "c": {"d": 1}}]),
        ("test-service/config.version", "1.0"),
    ],
)
async def test_get(world: World, path: str, value: Any) -> None:
    """GET calls a function with its query; a value is answered as it is."""
    response = await world.http.get(f"/public/services/{path}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json() == value


async def test_post(world: World) -> None:
    """POST calls with a JSON or msgpack body and answers in the same format."""
    url = "/public/services/test-service/echo"
    assert (await world.http.post(url, json={"workspace": "w", "x": [1]})).json() == [[], {"workspace": "w", "x": [1]}]
    assert (await world.http.post(url, json=[1, 2])).json() == [[1, 2], {}]
    assert (await world.http.post(url)).json() == [[], {}]
    with_charset = {"Content-Type": "application/json; charset=utf-8"}
    assert (await world.http.post(url, content=b'{"x":1}', headers=with_charset)).json() == [[], {"x": 1}]
    response = await world.http.post(
        url, content=msgpack.packb({"x": b"\x00"}), headers={"Content-Type": "application/msgpack"}
    )
    assert response.headers["content-type"] == "application/msgpack"
    assert msgpack.unpackb(response.content) == [[], {"x": b"\x00"}]


async def test_typed_values_pass_untouched(world: World) -> None:
    """An array goes to the provider and comes back in its wire form."""
    array = {"_rtype": "ndarray", "_rvalue": b"\x00\x00\x80?" * 2, "_rshape": [2], "_rdtype": "float32"}
    response = await world.http.post(
        "/public/services/test-service/echo",
        content=msgpack.packb([array]),
        headers={"Content-Type": "application/msgpack"},
    )
    assert msgpack.unpackb(response.content) == [[array], {}]


async def test_long_arguments_and_results(world: World) -> None:
    """Megabytes go both ways, in pieces that the provider can take."""
    text = "x" * 3_000_000
    response = await world.http.post("/public/services/test-service/echo", json=[text])
    assert response.json() == [[text], {}]


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("test-service/boom", 400, "RemoteException: ValueError: bad thing"),
        ("test-service/perm", 403, "RemoteException: PermissionError: not you"),
        ("test-service/lost", 404, "RemoteException: KeyError: 'row'"),
        ("test-service/nofunc", 404, "nofunc not found."),
        ("test-service/nested.deep.nofunc", 404, "nested.deep.nofunc not found."),
        ("nosvc/f", 404, "RemoteException: KeyError: 'Service not found: public/*:nosvc@*'"),
        ("nosvc/f?_mode=bad", 400, "RemoteException: ValueError: Invalid mode: bad."),
        ("a:b:c/f", 400, "RemoteException: AssertionError: Service id must contain at most one ':'"),
        ("secret/test?x=1", 403, "RemoteException: PermissionError: Permission denied for workspace: public"),
        ("gone/f", 503, "ConnectionError: Target peer public/nobody is not connected"),
        ("ws/nosuch", 404, "nosuch not found."),
        ("test-service/test?x=%7B", 400, "Invalid value of x: "),
        ("test-service/raw", 406, "The result cannot be written as JSON (it contains bytes)"),
    ],
)
async def test_errors(world: World, path: str, status: int, detail: str) -> None:
    """Each failure has its status and a short text, never a traceback."""
    response = await world.http.get(f"/public/services/{path}")
    assert response.status_code == status
    assert response.json()["success"] is False
    assert response.json()["detail"].startswith(detail)
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/msgpack"}, b"\xc1", 400),
        ({"Content-Type": "text/plain"}, b"x", 415),
        ({}, b"x=1", 415),
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, b"x", 415),
        ({"Content-Type": "application/json"}, b"[" * 2000 + b"]" * 2000, 400),
        ({"Content-Type": "application/msgpack"}, b"\x91" * 900 + b"\x01", 400),
        ({"Authorization": "Bearer abc"}, b"", 401),
        ({"Authorization": "Basic !"}, b"", 401),
    ],
)
async def test_bad_requests(world: World, headers: dict[str, str], body: bytes, status: int) -> None:
    """Bad input is the caller's fault, and the gateway goes on."""
    response = await world.http.post("/public/services/test-service/test", headers=headers, content=body)
    assert response.status_code == status, response.text
    assert (await world.http.get("/public/services/test-service/test?x=1")).json() == 2


@pytest.mark.parametrize("world", [{"max_message_bytes": 1024}], indirect=True)
async def test_large_bodies(world: World) -> None:
    """A body beyond the limit is refused, whether announced or not."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 200

    url = "/public/services/test-service/test"
    for content in (b"x" * 1025, pieces()):
        response = await world.http.post(url, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 413
        assert response.json()["success"] is False


# --- whose context


async def _context(world: World, headers: dict[str, str], workspace: str = "public") -> tuple[str, str, str]:
    response = await world.http.get(f"/{workspace}/services/ws/echo?data=1", headers=headers)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["from"].startswith(answer["ws"] + "/client-")
    return answer["user"], answer["ws"], answer["from"].partition("/")[0]


async def test_context(world: World) -> None:
    """The token decides about the workspace that a call acts from, then the URL."""
    lab: dict[str, Any] = {"workspaces": {"lab-b": Permission.READ}}
    bound: dict[str, Any] = {**lab, "current_workspace": "lab-b"}
    assert await _context(world, {}) == ("anonymouz-http", "ws-anonymous", "ws-anonymous")
    assert (await _context(world, world.bearer(**bound), "lab-a"))[1] == "lab-b"
    assert (await _context(world, world.bearer(), "public"))[1] == "public"
    assert (await _context(world, world.bearer(**lab), "lab-b"))[1] == "lab-b"
    assert (await _context(world, world.bearer(), "lab-a"))[1] == "lab-a"  # owner, though the token does not say so
    assert (await _context(world, world.bearer("u2"), "lab-a"))[1] == "ws-user-u2"
    assert (await _context(world, {"Authorization": f"Bearer {ROOT_TOKEN}"}, "lab-a"))[:2] == ("root", "ws-user-root")
    response = await world.http.get("/no-such/services/ws/echo?data=1", headers=world.bearer())
    assert (response.status_code, response.json()["detail"]) == (404, "Workspace 'no-such' not found")


async def test_what_the_provider_sees(world: World) -> None:
    """A provider sees the caller as the gateway found it, whatever the request claims."""
    header = (await world.http.get("/public/services/test-service/whoami?user=root&ws=x&context=1")).status_code
    assert header == 400  # unknown arguments
    context = (await world.http.get("/public/services/test-service/whoami")).json()
    assert context["user"]["id"] == "anonymouz-http"
    assert context["user"]["scope"]["workspaces"] == {"ws-anonymous": "r"}
    assert context["ws"] == "ws-anonymous"
    assert context["from"].startswith("ws-anonymous/client-")
    assert context["to"] == "public/p1"
    assert context["method"] == "services.test-service.whoami"


async def test_tokens_that_do_not_serve(world: World) -> None:
    """Reconnection tokens and specialised tokens are no way in."""
    url = "/public/services/test-service/test?x=1"
    reconnection = world.bearer(kind=TokenKind.RECONNECTION, current_workspace="public", client_id="c")
    assert (await world.http.get(url, headers=reconnection)).status_code == 401
    special = world.bearer(extra_scopes=("file:download",))
    response = await world.http.get(url, headers=special)
    assert response.status_code == 403
    assert "Specialized token" in response.json()["detail"]


# --- generators


async def test_generator_as_events(world: World) -> None:
    """Items come as events, ended by [DONE]."""
    response = await world.http.get("/public/services/test-service/gen?n=3")
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    assert world.provider.closed == ["gen"]


async def test_generator_as_msgpack(world: World) -> None:
    """In msgpack items follow one another."""
    response = await world.http.get(
        "/public/services/test-service/gen?n=3", headers={"Content-Type": "application/msgpack"}
    )
    unpacker = msgpack.Unpacker()
    unpacker.feed(response.content)
    assert list(unpacker) == [0, 1, 2]


async def test_generator_that_fails(world: World) -> None:
    """An error in the middle is one item, then the stream ends."""
    response = await world.http.get("/public/services/test-service/broken")
    first, error, done = response.text.removesuffix("\n\n").split("\n\n")
    assert (first, done) == ("data: 1", "data: [DONE]")
    failure = json.loads(error.removeprefix("data: "))
    assert failure["error"].endswith("ValueError: bad item")
    assert failure["traceback"] == ""


async def test_reader_that_leaves(world: World) -> None:
    """When the reader goes away the provider's generator is closed."""
    left = asyncio.Event()
    events: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not events:
            return {"type": "http.request"}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        events.append(message)
        if len(events) == 4:
            left.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/public/services/test-service/gen",
        "raw_path": b"/public/services/test-service/gen",
        "query_string": b"n=100000",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "http_version": "1.1",
    }
    await asyncio.wait_for(world.app(scope, receive, send), 5)
    for _ in range(100):
        if world.provider.closed:
            break
        await asyncio.sleep(0.02)
    assert world.provider.closed == ["gen"]
    assert len(events) < 50
    assert world.provider.peer.load["sessions"] == 0


# --- workspaces


async def test_workspace_info(world: World) -> None:
    """Members see their workspace; strangers learn nothing, not even whether it exists."""
    assert (await world.http.get("/lab-a/info", headers=world.bearer())).json()["id"] == "lab-a"
    for name in ("public", "no-such"):
        response = await world.http.get(f"/{name}/info")
        assert response.status_code == 403
        assert response.json() == {"success": False, "detail": f"anonymouz-http has no permission to access {name}"}
    everywhere = world.bearer(workspaces={"*": Permission.ADMIN}, current_workspace="lab-a")
    response = await world.http.get("/no-such/info", headers=everywhere)
    assert response.status_code == 404
    assert response.json()["detail"] == "Workspace 'no-such' not found"


async def test_service_list_and_info(world: World) -> None:
    """Services are listed with short ids; one is shown with its full id."""
    redirect = await world.http.get("/public/services?a=1")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "/public/services/?a=1")
    listed = (await world.http.get("/public/services/")).json()
    assert {"p1:test-service", "p1:pages"} <= {info["id"] for info in listed}
    assert (await world.http.get("/lab-z/services/")).json() == []
    assert (await world.http.get("/public/services/test-service")).json()["id"] == "public/p1:test-service"
    assert (await world.http.get("/public/services/ws")).json()["id"] == "~"
    assert (await world.http.get("/public/services/nosvc")).status_code == 404
    assert (await world.http.get("/public/services/secret")).status_code == 403


# --- web services of clients


async def test_functions_service(world: World) -> None:
    """A function gets the request as one map and answers with status, headers and body."""
    redirect = await world.http.get("/public/apps/pages")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "/public/apps/pages/")
    response = await world.http.post(
        "/public/apps/pages/?a=b=c&flag", content=b"hello", headers={"Origin": "https://x.example", "X-Y": "z"}
    )
    assert response.status_code == 201
    assert response.headers["x-a"] == "b"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers.get_list("access-control-allow-origin") == ["https://x.example"]
    assert response.headers["access-control-expose-headers"] == "Content-Disposition"
    event = response.json()
    assert event["path"] == event["raw_path"] == "/"
    assert (event["method"], event["query_string"], event["body"]) == ("POST", "a=b=c&flag", "hello")
    assert event["headers"]["x-y"] == "z"
    assert (event["workspace"], event["service_id"], event["user"]["id"]) == ("public", "pages", "anonymouz-http")


async def test_function_paths(world: World) -> None:
    """The path names the function, or an index below it; nothing else is found."""
    assert (await world.http.get("/public/apps/pages/text")).text == "hello"
    assert (await world.http.get("/public/apps/pages/text/")).text == "hello"
    assert (await world.http.get("/public/apps/pages/docs/")).status_code == 404  # one part: no index below it
    assert (await world.http.get("/public/apps/pages/nested/deep/f")).status_code == 500  # takes no event
    missing = await world.http.get("/public/apps/pages/a/b")
    assert (missing.status_code, missing.text) == (404, "Function not found: a/b")
    head = await world.http.head("/public/apps/pages/text")
    assert (head.status_code, head.content) == (200, b"")
    assert (await world.http.options("/public/apps/pages/text", headers={"Origin": "https://x"})).text == "hello"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("pages/empty", 204, ""),
        ("pages/liar", 500, "Internal Server Error: a function must return a map"),
        ("pages/injector", 500, "Internal Server Error: invalid header"),
        ("pages/crash", 500, "Internal Server Error: ZeroDivisionError: division by zero"),
        ("web/", 501, "Services of type asgi are not served"),
        ("test-service/", 500, "Invalid service type: generic"),
        ("nosvc/", 404, "RemoteException: KeyError: 'Service not found: public/*:nosvc@*'"),
        ("secret/", 403, "RemoteException: PermissionError: Permission denied"),
    ],
)
async def test_app_failures(world: World, path: str, status: int, text: str) -> None:
    """Failures of web services are plain text."""
    response = await world.http.get(f"/public/apps/{path}")
    assert response.status_code == status
    assert response.text.startswith(text)


# --- the server itself


async def test_pages(world: World) -> None:
    """The front page, the way to log in, and what pages need to know."""
    page = await world.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert '"server_url": "http://127.0.0.1:9527"' in page.text
    assert "$" not in page.text
    assert (await world.http.get("/index.html")).text == page.text
    login = await world.http.get("/login?key=k")
    assert (login.status_code, login.headers["location"]) == (307, "/public/apps/hypha-login/?key=k")
    config = (await world.http.get("/assets/config.json", headers=world.bearer())).json()
    assert config["user"]["id"] == "u1"
    assert config["login_service_url"] == "http://127.0.0.1:9527/public/services/hypha-login"


@pytest.mark.parametrize("world", [{"base_path": "/hub"}], indirect=True)
async def test_base_path(world: World) -> None:
    """Every path may have a prefix."""
    assert (await world.http.get("/hub/public/services/test-service/test?x=1")).json() == 2
    assert (await world.http.get("/hub/login")).headers["location"] == "/hub/public/apps/hypha-login/"
    assert (await world.http.get("/hub/public/services")).headers["location"] == "/hub/public/services/"
    assert (await world.http.get("/hub/health/liveness")).status_code == 200
    assert (await world.http.get("/public/services/test-service/test?x=1")).status_code == 404
    event = (await world.http.get("/hub/public/apps/pages/")).json()
    assert (event["path"], event["raw_path"]) == ("/", "/")


async def test_health(world: World) -> None:
    """Readiness names what it checked; metrics carry no names of users."""
    ready = await world.http.get("/health/readiness")
    assert ready.status_code == 200, ready.text
    assert ready.json()["detail"] == {"store": "ready", "auth": "ready", "event_bus": "ready", "pubsub": "healthy"}
    assert (await world.http.get("/health/liveness")).json()["status"] == "OK"
    assert (await world.http.get("/health")).json()["status"] == "HEALTHY"
    await world.http.get("/public/services/test-service/test?x=1")
    metrics = (await world.http.get("/metrics")).text
    assert 'http_requests_total{method="GET",status="200"}' in metrics
    assert "test-service" not in metrics


async def test_readiness_while_draining(world: World) -> None:
    """A gateway that drains is not ready, yet alive."""
    world.app.state.gateway.draining = True
    response = await world.http.get("/health/readiness")
    assert (response.status_code, response.json()) == (503, {"status": "DOWN", "detail": "draining"})
    assert (await world.http.get("/health/liveness")).status_code == 200


async def test_cors(world: World) -> None:
    """Pages of other origins may call, errors included."""
    origin = {"Origin": "https://page.example"}
    for path in ("/public/services/test-service/test?x=1", "/public/services/nosvc/f", "/no/such/path/at/all"):
        response = await world.http.get(path, headers=origin)
        assert response.headers.get_list("access-control-allow-origin") == ["https://page.example"]
    preflight = await world.http.options(
        "/public/services/test-service/test", headers={**origin, "Access-Control-Request-Method": "POST"}
    )
    assert (preflight.status_code, preflight.text) == (200, "OK")
    assert "access-control-allow-origin" not in (await world.http.get("/")).headers


async def test_framework_errors(world: World) -> None:
    """Unknown paths and methods are answered in JSON."""
    missing = await world.http.get("/no/such/path/at/all")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    wrong = await world.http.put("/public/services/test-service/test")
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert "GET" in wrong.headers["allow"]


@pytest.mark.parametrize(
    "world",
    [{"http_rate_limit": 1, "http_burst_limit": 2, "http_authenticated_burst_limit": 5}],
    indirect=True,
)
async def test_rate_limit(world: World) -> None:
    """One address has one bucket, a verified token its own, and probes none."""
    url = "/assets/config.json"
    assert [(await world.http.get(url)).status_code for _ in range(3)] == [200, 200, 429]
    refused = await world.http.get(url, headers={"Authorization": "Bearer forged"})
    assert (refused.status_code, refused.json()) == (429, {"detail": "Rate limit exceeded. Please slow down."})
    assert int(refused.headers["retry-after"]) >= 1
    assert (await world.http.get(url, headers={"X-Forwarded-For": "198.51.100.1"})).status_code == 200
    token = world.bearer()
    assert [(await world.http.get(url, headers=token)).status_code for _ in range(3)] == [200, 200, 200]
    assert (await world.http.get("/health/liveness")).status_code == 200
