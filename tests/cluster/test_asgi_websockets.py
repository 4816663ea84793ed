"""Websockets to FastAPI applications behind the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hypha_common.ids import new_id
from tests.cluster.asgi_app import Shop, serving
from tests.cluster.running_cluster import RunningCluster

Served = tuple[Shop, str]


@pytest.fixture(params=[0, 1], ids=["same gateway", "other gateway"])
async def shop(request: pytest.FixtureRequest, two_gateways: RunningCluster) -> AsyncIterator[Served]:
    """The application at the first gateway, and its address at the first or at the second."""
    gateway = two_gateways.gateway_urls[request.param].replace("http", "ws", 1)
    async with serving(two_gateways.url, token=two_gateways.user_token()) as (app, path):
        yield app, f"{gateway}{path}"


async def refusal(url: str, **options: Any) -> httpx.Response:
    """Connect in vain; returns how it was refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, **options):
            pass
    answer = refused.value.response
    return httpx.Response(
        answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body or b"")
    )


async def closed(socket: ClientConnection) -> tuple[int, str]:
    """Wait until the other side closes; returns how."""
    with pytest.raises(ConnectionClosed) as end:
        await socket.recv()
    received = end.value.rcvd
    assert received is not None
    return received.code, received.reason


async def test_messages(shop: Served) -> None:
    """Text and bytes, small and large, come back as they went; subprotocol and headers are the application's."""
    app, url = shop
    async with connect(f"{url}/echo", subprotocols=["a", "b"], max_size=2**24) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "b"
        assert socket.response is not None
        assert socket.response.headers["x-seen"] == "yes"
        assert "sec-websocket-extensions" not in socket.response.headers
        for message in ("hello", "gr\u00fc\u00df \U0001f600", b"\x00\xff", "", b"", "x" * 300_000, b"y" * 3_000_000):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["fra", "gmen", "ted"])
        assert await socket.recv() == "fragmented"
        await asyncio.wait_for(await socket.ping(), 5)
        await socket.close(4001, "bye")
    assert await app.left.get() == "4001 bye"


async def test_many_messages_keep_their_order(shop: Served) -> None:
    _, url = shop
    async with connect(f"{url}/echo") as socket:
        for number in range(200):
            await socket.send(str(number))
        assert [await socket.recv() for _ in range(200)] == [str(number) for number in range(200)]


async def test_the_application_closes(shop: Served) -> None:
    _, url = shop
    for code in (1000, 3000, 4999):
        async with connect(f"{url}/close?code={code}") as socket:
            assert await closed(socket) == (code, "enough")


async def test_the_application_denies(shop: Served) -> None:
    """With 403, or with an answer of its own."""
    _, url = shop
    assert (await refusal(f"{url}/deny")).status_code == 403
    explained = await refusal(f"{url}/explain")
    assert (explained.status_code, explained.text, explained.headers["x-why"]) == (409, "not today", "tuesday")
    assert (await refusal(f"{url}/no-such-route")).status_code == 403  # so says FastAPI


async def test_the_application_fails(shop: Served) -> None:
    _, url = shop
    failed = await refusal(f"{url}/crash")
    assert (failed.status_code, failed.text) == (400, "RemoteException: ValueError: bad thing")
    async with connect(f"{url}/crash?late=1") as socket:
        assert await closed(socket) == (1011, "Internal Server Error")


async def test_the_service_goes_away(two_gateways: RunningCluster) -> None:
    """Whoever is connected is told to connect again; whoever comes then finds nothing."""
    gateway = two_gateways.gateway_urls[1].replace("http", "ws", 1)
    async with serving(two_gateways.url, token=two_gateways.user_token()) as (_, path):
        socket = await connect(f"{gateway}{path}/echo")
        await socket.send("there?")
        assert await socket.recv() == "there?"
    code, _ = await closed(socket)
    assert code == 1012
    assert (await refusal(f"{gateway}{path}/echo")).status_code == 404


async def test_a_client_that_does_not_read(shop: Served) -> None:
    """The application waits for it: no more than a little is on the way."""
    _, url = shop
    async with connect(f"{url}/flood?size=1000000&count=30", max_size=2**24, max_queue=1) as socket:
        sizes = []
        for _ in range(30):
            message = await socket.recv()
            sizes.append(len(message))
        assert sizes == [1_000_000] * 30
        assert (await closed(socket))[0] == 1000


async def test_messages_beyond_the_limit(shop: Served) -> None:
    _, url = shop
    async with connect(f"{url}/echo") as socket:
        with suppress(ConnectionClosed):  # it may hear of its end while it sends
            await socket.send(b"x" * (16 * 2**20 + 1))
        assert (await closed(socket))[0] == 1009


async def test_who_may_connect(two_gateways: RunningCluster) -> None:
    """As for HTTP: by header, by cookie of a page of the hub, and by the query, which the application does not see."""
    user = f"user-{new_id(8).lower()}"
    token = two_gateways.user_token(user)
    app = Shop()
    async with serving(
        two_gateways.url,
        token=token,
        shop=app,
        check_context=app.check,
        config={"visibility": "protected", "require_context": True},
    ) as (_, path):
        url = f"{two_gateways.gateway_urls[1]}{path}/echo".replace("http", "ws", 1)
        cookie = {"Cookie": f"access_token={token}; mine=1"}
        origin = two_gateways.gateway_urls[1]
        for options in (
            {"additional_headers": {"Authorization": f"Bearer {token}"}},
            {"additional_headers": cookie},
            {"additional_headers": cookie, "origin": origin},
        ):
            async with connect(f"{url}?a=1", **options) as socket:  # type: ignore[arg-type]
                await socket.send("hello")
                assert await socket.recv() == "hello"
        async with connect(f"{url}?a=1&token={token}&b=2", origin="https://elsewhere.example"):  # type: ignore[arg-type]
            pass
        strangers = two_gateways.user_token()
        for address, options in (
            (url, {}),
            (url, {"additional_headers": cookie, "origin": "https://elsewhere.example"}),
            (url, {"additional_headers": {"Authorization": f"Bearer {strangers}"}}),
            (f"{url}?token={strangers}", {}),
            (f"{url}?token=nonsense", {}),
        ):
            refused = await refusal(address, **options)
            assert refused.status_code == 403, options
            assert "PermissionError" in refused.text
        assert (await refusal(url, additional_headers={"Authorization": "Bearer x.y.z"})).status_code == 401
    assert [scope["query_string"] for scope in app.scopes] == [b"a=1", b"a=1", b"a=1", b"a=1&b=2"]
    assert [dict(scope["headers"]).get(b"cookie") for scope in app.scopes] == [None, b"mine=1", b"mine=1", None]
    assert {context["user"]["id"] for context in app.contexts} == {user}
    scope = app.scopes[0]
    assert set(scope) == {
        "type", "asgi", "http_version", "server", "client", "scheme", "root_path", "path", "raw_path", "query_string",
        "headers", "state", "workspace", "service_id", "subprotocols", "extensions",
    }  # fmt: skip
    assert (scope["type"], scope["scheme"], scope["path"]) == ("websocket", "ws", "/echo")


async def test_what_is_no_web_service(two_gateways: RunningCluster) -> None:
    url = two_gateways.gateway_urls[0].replace("http", "ws", 1)
    assert (await refusal(f"{url}/public/apps/no-such/")).status_code == 404
    functions = await refusal(f"{url}/public/apps/hypha-login/")
    assert (functions.status_code, "websockets" in functions.text) == (500, True)
    assert (await refusal(f"{url}/nothing/here")).status_code == 404
