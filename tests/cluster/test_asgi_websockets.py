"""Websockets to FastAPI applications behind the hub."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

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
        async with connect(f"{url}?a=1&%74oken={token}&b=2", origin="https://elsewhere.example"):  # type: ignore[arg-type]
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


async def test_how_often_one_may_connect(limited_cluster: RunningCluster) -> None:
    """Each attempt counts as a request of its address."""
    url = f"{limited_cluster.url.replace('http', 'ws', 1)}/public/apps/no-such/"
    proxied = {"additional_headers": {"X-Forwarded-For": "203.0.113.77"}}
    statuses = [(await refusal(url, **proxied)).status_code for _ in range(14)]
    assert statuses[:10] == [404] * 10
    assert statuses[-1] == 429


async def test_what_is_no_web_service(two_gateways: RunningCluster) -> None:
    url = two_gateways.gateway_urls[0].replace("http", "ws", 1)
    assert (await refusal(f"{url}/public/apps/no-such/")).status_code == 404
    functions = await refusal(f"{url}/public/apps/hypha-login/")
    assert (functions.status_code, "websockets" in functions.text) == (500, True)
    assert (await refusal(f"{url}/nothing/here")).status_code == 404


_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n\r\n"
)


async def raw(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def test_a_connection_that_has_served_http(shop: Served) -> None:
    """Proxies keep connections and use them for anything."""
    _, url = shop
    path = urlsplit(url).path
    reader, writer = await raw(url)
    writer.write(f"GET {path}/ HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    await reader.readuntil(b'{"hello":"world"}')
    writer.write(_UPGRADE.format(path=f"{path}/echo", version=13).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    while not head.startswith(b"HTTP/"):  # what is left of the body
        head = head[head.index(b"HTTP/") :] if b"HTTP/" in head else await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    writer.write(b"\x81\x82\x00\x00\x00\x00hi")
    assert await reader.readexactly(4) == b"\x81\x02hi"
    writer.close()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x02hi", 1002),  # not masked
        (b"\xc1\x82\x00\x00\x00\x00hi", 1002),  # compressed, which nobody has offered
        (b"\x81\x82\x00\x00\x00\x00\xff\xfe", 1007),  # no UTF-8
        (b"\x82\xff\x00\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00", 1009),  # 1 GiB is announced
    ],
)
async def test_frames_that_break_the_rules(two_gateways: RunningCluster, frame: bytes, code: int) -> None:
    """They are answered with a reason, and the application is told of the end."""
    async with serving(two_gateways.url, token=two_gateways.user_token()) as (app, path):
        reader, writer = await raw(two_gateways.url)
        writer.write(_UPGRADE.format(path=f"{path}/echo", version=13).encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        writer.write(frame)
        answer = await reader.readexactly(4)
        assert (answer[0], int.from_bytes(answer[2:4], "big")) == (0x88, code)
        assert (await app.left.get()).startswith(f"{code} ")
        writer.close()


async def test_an_upgrade_that_is_none(two_gateways: RunningCluster) -> None:
    reader, writer = await raw(two_gateways.url)
    writer.write(_UPGRADE.format(path="/public/apps/no-such/", version=8).encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")  # and the connection ends
    writer.close()


async def test_a_gateway_that_stops(start_cluster: Callable[..., RunningCluster]) -> None:
    """Its websockets are told to connect again, where another gateway takes them; the application runs on."""
    cluster = start_cluster("--gateways=2")
    async with serving(cluster.url, token=cluster.user_token()) as (app, path):
        urls = [f"{url.replace('http', 'ws', 1)}{path}/echo" for url in cluster.gateway_urls]
        socket = await connect(urls[1])
        await socket.send("hello")
        assert await socket.recv() == "hello"
        os.kill(cluster.pids["gateway"][1], signal.SIGTERM)
        assert await closed(socket) == (1012, "Server is shutting down")
        assert await app.left.get() == "1012 Server is shutting down"
        async with connect(urls[0]) as again:
            await again.send("hello")
            assert await again.recv() == "hello"
