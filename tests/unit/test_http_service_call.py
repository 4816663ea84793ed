from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest
from http_support import ROOT_TOKEN, World

from hypha_common.principal import Permission
from hypha_common.tokens import TokenKind


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


async def test_service_without_schema(world: World) -> None:
    """Of a service registered without a schema the provider itself knows what it has."""
    for info in world.registry.infos:
        info["service_schema"] = {}
    for path, value in (("test?x=3", 4), ("nested.deep.f?x=1", 2), ("config.version", "1.0")):
        assert (await world.http.get(f"/public/services/test-service/{path}")).json() == value
    missing = await world.http.get("/public/services/test-service/nope")
    assert (missing.status_code, missing.json()["detail"]) == (404, "nope not found.")
    assert (await world.http.get("/public/apps/pages/text")).text == "hello"


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
