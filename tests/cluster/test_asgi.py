"""FastAPI applications behind the hub, served by the unmodified helper of ``hypha-rpc``."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest

from hypha_common.ids import new_id
from tests.cluster.asgi_app import Shop, serving
from tests.cluster.running_cluster import RunningCluster


@pytest.fixture(params=[0, 1], ids=["same gateway", "other gateway"])
async def shop(
    request: pytest.FixtureRequest, two_gateways: RunningCluster
) -> AsyncIterator[tuple[Shop, httpx.AsyncClient]]:
    """The application at the first gateway, and a client of the first or of the second."""
    gateway = two_gateways.gateway_urls[request.param]
    async with (
        serving(two_gateways.url, token=two_gateways.user_token()) as (app, path),
        httpx.AsyncClient(base_url=f"{gateway}{path}/", timeout=30) as http,
    ):
        yield app, http


Served = tuple[Shop, httpx.AsyncClient]


async def test_requests(shop: Served) -> None:
    """Paths, queries, JSON, forms and methods arrive as they would without the hub."""
    _, http = shop
    assert (await http.get("")).json() == {"hello": "world"}
    got = (await http.get("items/a%20b%2Fc?q=x%3Dy&flag")).json()
    assert got == {"detail": "Not Found"}  # a slash is one, however it is written
    got = (await http.get("items/a%20b?q=x=y&flag")).json()
    assert got == {"name": "a b", "q": "x=y", "path": "/items/a b", "root": ""}
    assert (await http.post("items", json={"n": 1})).json() == {"added": {"n": 1}}
    assert (await http.post("items", content=b"no json")).status_code == 422
    form = {"type": "application/x-www-form-urlencoded", "name": ["ada l"], "age": ["36"]}
    assert (await http.post("form", data={"name": "ada l", "age": "36"})).json() == form
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = await http.request(method, "method")
        assert (answer.json(), answer.headers["x-method"]) == (method, method)
    head = await http.head("method")
    assert (head.status_code, head.content) == (405, b"")
    assert (await http.get("missing")).status_code == 418
    assert (await http.get("openapi.json")).json()["info"]["title"] == "FastAPI"


async def test_the_service_is_a_folder(shop: Served) -> None:
    _, http = shop
    redirect = await http.get(str(http.base_url).rstrip("/") + "?a=1")
    assert redirect.status_code == 307
    assert redirect.headers["location"] == f"{http.base_url.path}?a=1"


async def test_headers_and_cookies(shop: Served) -> None:
    """Headers and cookies go both ways, but the hub's own cookie stays with the hub."""
    _, http = shop
    answer = await http.get("cookies", headers={"X-Custom": "gr\u00fcn".encode("latin-1"), "Cookie": "seen=yes; b=2"})
    assert answer.json() == {"seen": "yes", "all": "seen=yes; b=2", "x": "gr\u00fcn"}
    assert answer.headers.get_list("set-cookie") == ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
    assert "access-control-allow-origin" not in answer.headers
    assert "content-encoding" not in answer.headers


async def test_what_the_service_is_told(two_gateways: RunningCluster) -> None:
    """The scope of the contract, and who calls where the service wants to know."""
    user = f"user-{new_id(8).lower()}"
    token = two_gateways.user_token(user)
    app = Shop()
    async with (
        serving(
            two_gateways.url,
            token=token,
            shop=app,
            check_context=app.check,
            config={"visibility": "protected", "require_context": True},
        ) as (_, path),
        httpx.AsyncClient(base_url=two_gateways.gateway_urls[1]) as http,
    ):
        refused = await http.get(f"{path}/")
        assert (refused.status_code, refused.text[:33]) == (403, "RemoteException: PermissionError:")
        cookie = {"Cookie": f"access_token={token}; mine=1"}
        assert (await http.get(f"{path}/items/%41?q=%20", headers=cookie)).status_code == 200
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await http.get(f"{path}/", headers=bearer)).status_code == 200
    scope = app.scopes[0]
    assert set(scope) == {
        "type", "asgi", "http_version", "server", "client", "scheme", "method", "root_path", "path", "raw_path",
        "query_string", "headers", "state", "workspace", "service_id",
    }  # fmt: skip
    assert (scope["type"], scope["http_version"], scope["method"], scope["scheme"]) == ("http", "1.1", "GET", "http")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("", "/items/A", b"/items/%41")
    assert (scope["query_string"], scope["state"]) == (b"q=%20", {})
    assert (scope["workspace"], scope["service_id"]) == (f"ws-user-{user}", "shop")
    headers = dict(scope["headers"])
    assert headers[b"cookie"] == b"mine=1"
    assert all(isinstance(name, bytes) and isinstance(value, bytes) for name, value in scope["headers"])
    context = app.contexts[0]
    assert (context["ws"], context["user"]["id"]) == (f"ws-user-{user}", user)
    assert context["from"].startswith(f"ws-user-{user}/client-")
    assert context["to"].startswith(f"ws-user-{user}/")
    assert context["method"] == "services.shop.serve"
    assert {"session", "type"} <= set(context)


async def test_a_stream_arrives_chunk_by_chunk(shop: Served) -> None:
    """Each chunk is here before the service makes the next one."""
    app, http = shop
    async with http.stream("GET", "stream") as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.aiter_lines()
        for number in range(4):
            assert await anext(lines) == f"chunk {number}"
            app.next_chunk.set()
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


async def test_the_service_hears_that_its_client_left(shop: Served) -> None:
    """A stream of events without end ends with its reader."""
    app, http = shop
    async with http.stream("GET", "events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line == "data: 3":
                break
    assert await app.left.get() == "events"


async def test_large_bodies(shop: Served) -> None:
    """What is larger than a frame of the hub passes, both ways."""
    _, http = shop
    body = b"0123456789abcdef" * 2**16
    assert (await http.post("echo", content=body)).content == body
    got = (await http.post("upload", content=body)).json()
    assert (got["size"], got["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert got["largest"] <= 192 * 1024
    assert len((await http.get("large?size=12000000")).content) == 12_000_000


async def test_failures_of_the_service(shop: Served) -> None:
    """What the application does not catch itself is told as its status says."""
    _, http = shop
    crashed = await http.get("crash")
    assert (crashed.status_code, crashed.text) == (
        500,
        "Internal Server Error",
    )  # FastAPI has answered before it raised
    unknown = await http.get(str(http.base_url).replace("/shop/", "/nothing/"))
    assert unknown.status_code == 404
    assert "Service not found" in unknown.text
    unknown = await http.get(str(http.base_url).replace("/ws-user-", "/ws-other-"))
    assert unknown.status_code == 404
