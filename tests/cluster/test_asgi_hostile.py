"""Web services that break the rules, and those who go away: nobody else is harmed, nothing is kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psutil
import pytest

from tests.cluster.asgi_app import Application, application, serving
from tests.cluster.running_cluster import RunningCluster

START = {"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"text/plain"]]}
HELLO = {"type": "http.response.body", "body": b"hello"}
_MIB = 2**20


def sending(*events: Any) -> Application:
    """Return an application that sends these, whatever it is asked."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        for event in events:
            await send(event)

    return app


def started(**changes: Any) -> dict[str, Any]:
    return {**START, **changes}


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([HELLO], "the body comes before the beginning of the answer"),
        (["hello"], "unexpected event 'None'"),
        ([{"type": "lifespan.startup"}], "unexpected event 'lifespan.startup'"),
        ([{"no": "type"}], "unexpected event 'None'"),
        ([started(status=99)], "invalid status '99'"),
        ([started(status="200")], "invalid status '200'"),
        ([started(status=True)], "invalid status 'True'"),
        ([started(headers="text")], "headers must be a list of pairs, not str"),
        ([started(headers=[["a"]])], "each header must be a pair of name and value"),
        ([started(headers=[[b"x-a", b"b\r\nx-c: d"]])], "invalid header \"b'x-a'\""),
        ([started(headers=[[b"x-a\r\nx-c", b"d"]])], "invalid header"),
        ([started(headers=[["x a", "d"]])], "invalid header 'x a'"),
        ([started(headers=[["x-a", "\u20ac"]])], "invalid header 'x-a'"),
        ([started(headers=[["x-a", 1]])], "invalid header 'x-a'"),
        ([started(headers=[[b"x-a", b"b" * 70_000]])], "the headers are too large"),
        ([started(headers=[[b"x-a", b"b"]] * 300)], "the headers are too large"),
        ([started(headers=[[b"content-length", b"-1"]])], "invalid header 'content-length'"),
        ([started(headers=[[b"content-length", b"1"], [b"content-length", b"2"]])], "invalid header 'content-length'"),
        ([], "the service has ended without a complete answer"),
    ],
)
async def test_what_is_no_answer(cluster: RunningCluster, events: list[Any], text: str) -> None:
    """Before an answer has begun, there is one that says what is wrong with it."""
    async with application(cluster.url, sending(*events)) as path, httpx.AsyncClient(base_url=cluster.url) as http:
        answer = await http.get(path)
        assert (answer.status_code, answer.text[:23]) == (500, "Internal Server Error: ")
        assert text in answer.text


@pytest.mark.parametrize(
    "events",
    [
        [START, HELLO | {"more_body": True}],
        [START, HELLO | {"more_body": True}, START],
        [START, HELLO | {"body": 5}],
        [started(headers=[[b"content-length", b"3"]]), HELLO],
        [started(headers=[[b"content-length", b"7"]]), HELLO],
    ],
    ids=["no end", "two beginnings", "no bytes", "too long", "too short"],
)
async def test_an_answer_that_breaks_off_does_not_look_whole(cluster: RunningCluster, events: list[Any]) -> None:
    async with application(cluster.url, sending(*events)) as path, httpx.AsyncClient(base_url=cluster.url) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(path)


async def test_what_is_overlooked(cluster: RunningCluster) -> None:
    """Headers about the connection are the server's; trailers, other keys and text for bytes do no harm."""
    headers = [
        [b"X-A", b" b "], ["x-text", "gr\u00fcn"], [b"connection", b"upgrade"], [b"transfer-encoding", b"gzip"],
        [b"keep-alive", b"1"], [b"content-length", b"10"], [b"content-length", b"10"],
    ]  # fmt: skip
    events = [
        started(headers=headers, trailers=True, other=1),
        {"type": "http.response.push", "path": "/"},
        {"type": "http.response.body", "body": "hello", "more_body": True, "other": 2},
        {"type": "http.response.body"} | {"body": memoryview(b"hello")},
        {"type": "http.response.trailers", "headers": []},
    ]
    async with application(cluster.url, sending(*events)) as path, httpx.AsyncClient(base_url=cluster.url) as http:
        answer = await http.get(path)
        assert (answer.text, answer.headers["x-a"], answer.headers["x-text"]) == ("hellohello", "b", "gr\u00fcn")
        assert "keep-alive" not in answer.headers
        assert answer.headers.get("connection") is None
        head = await http.head(path)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "10")


async def test_answers_without_a_body(cluster: RunningCluster) -> None:
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        for status in (204, 304):
            async with application(cluster.url, sending(started(status=status, headers=[]), HELLO)) as path:
                answer = await http.get(path)
                assert (answer.status_code, answer.content) == (status, b"")


async def test_a_service_that_raises(cluster: RunningCluster) -> None:
    """What it raised says with which status, as long as nothing has been answered."""
    for error, status in (
        (KeyError("x"), 404),
        (PermissionError("no"), 403),
        (TypeError("t"), 400),
        (OSError("o"), 500),
    ):

        async def app(scope: dict[str, Any], receive: Any, send: Any, error: Exception = error) -> None:
            raise error

        async with application(cluster.url, app) as path, httpx.AsyncClient(base_url=cluster.url) as http:
            answer = await http.get(path)
            assert answer.status_code == status
            assert answer.text == f"RemoteException: {type(error).__name__}: {error}"


async def test_a_service_that_goes_away_in_the_middle(two_gateways: RunningCluster) -> None:
    """Its visitors notice, wherever they are."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send(START)
        await send(HELLO | {"more_body": True})
        await asyncio.Event().wait()

    async with (
        httpx.AsyncClient(base_url=two_gateways.gateway_urls[0]) as here,
        httpx.AsyncClient(base_url=two_gateways.gateway_urls[1]) as there,
    ):
        async with application(two_gateways.url, app) as path:
            answers = [await http.send(http.build_request("GET", path), stream=True) for http in (here, there)]
            pieces = [answer.aiter_bytes() for answer in answers]
            assert [await anext(piece) for piece in pieces] == [b"hello", b"hello"]
        for answer, piece in zip(answers, pieces, strict=True):
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(piece)
            await answer.aclose()
        gone = await there.get(path)
        assert gone.status_code in (404, 503), gone.text


async def test_a_service_that_does_not_wait(cluster: RunningCluster) -> None:
    """It sends faster than its reader reads, without asking whether it may: the answer is broken off."""
    failed: list[BaseException | None] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send(START)
        piece = {"type": "http.response.body", "body": b"x" * 200_000, "more_body": True}
        failed.extend(await asyncio.gather(*(send(piece) for _ in range(300)), return_exceptions=True))

    async with application(cluster.url, app) as path, httpx.AsyncClient(base_url=cluster.url) as http:
        async with http.stream("GET", path) as answer:
            await asyncio.sleep(0)  # begins, and reads nothing
            while not failed:
                await asyncio.sleep(0.05)
            with pytest.raises(httpx.RemoteProtocolError):
                await answer.aread()
        assert any("Wait until an event has been sent" in str(error) for error in failed)


async def test_a_large_upload_is_not_kept(two_gateways: RunningCluster) -> None:
    """50 MB to an application at another gateway: no process of the hub grows by what passes through it."""
    gateways = [psutil.Process(pid) for pid in two_gateways.pids["gateway"]]
    piece, count = b"0123456789abcdef" * (_MIB // 16), 50

    async def body() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield piece

    async with (
        serving(two_gateways.url, token=two_gateways.user_token()) as (_, path),
        httpx.AsyncClient(base_url=two_gateways.gateway_urls[1], timeout=100) as http,
    ):
        small = await http.post(f"{path}/upload", content=piece)
        before = [process.memory_info().rss for process in gateways]
        got = (await http.post(f"{path}/upload", content=body())).json()
        growth = [process.memory_info().rss - rss for process, rss in zip(gateways, before, strict=True)]
    assert small.status_code == 200
    assert (got["size"], got["sha256"]) == (count * _MIB, hashlib.sha256(piece * count).hexdigest())
    assert max(growth) < 20 * _MIB


async def test_a_slow_service_slows_its_visitor_down(cluster: RunningCluster) -> None:
    """While it does not ask for the body, no more of it is read than a little."""
    go, sent = asyncio.Event(), []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await go.wait()
        more = True
        while more:
            more = (await receive()).get("more_body", False)
        await send(START)
        await send(HELLO)

    async def body() -> AsyncIterator[bytes]:
        for number in range(64):
            sent.append(number)
            yield b"x" * _MIB

    async with application(cluster.url, app) as path, httpx.AsyncClient(base_url=cluster.url, timeout=60) as http:
        posting = asyncio.create_task(http.post(path, content=body()))
        known = -1
        while known != len(sent) or not sent:  # until nothing more is taken
            known = len(sent)
            await asyncio.sleep(0.5)
        assert known < 32
        go.set()
        assert (await posting).text == "hello"


async def test_an_answer_before_the_end_of_the_request(cluster: RunningCluster) -> None:
    """A service that needs no body answers at once; whoever sends one sees the answer all the same."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * _MIB

    async with (
        application(cluster.url, sending(started(status=413), HELLO)) as path,
        httpx.AsyncClient(base_url=cluster.url, timeout=60) as http,
    ):
        answer = await http.post(path, content=body())
        assert (answer.status_code, answer.text) == (413, "hello")
        assert (await http.get(path)).status_code == 413


async def test_many_at_the_same_time(two_gateways: RunningCluster) -> None:
    """More than a peer may usually have running of one client: each visitor waits for something of its own."""
    arrived, go = asyncio.Semaphore(0), asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())  # for the visitor to leave
        arrived.release()
        await go.wait()
        await send(START)
        await send(HELLO | {"body": scope["query_string"]})
        assert (await waiting)["type"] == "http.disconnect"

    limits = httpx.Limits(max_connections=400)
    async with (
        application(two_gateways.url, app) as path,
        httpx.AsyncClient(base_url=two_gateways.gateway_urls[1], timeout=100, limits=limits) as http,
    ):
        asked = [asyncio.create_task(http.get(f"{path}?{number}")) for number in range(300)]
        for _ in asked:
            await arrived.acquire()
        go.set()
        assert [answer.text for answer in await asyncio.gather(*asked)] == [str(number) for number in range(300)]


async def test_abandoned_requests_leave_nothing_behind(cluster: RunningCluster, unharmed: None) -> None:
    """Visitors that leave at any moment; the service hears of each."""
    left = asyncio.Semaphore(0)

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send(START)
        await send(HELLO | {"more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.release()

    async with application(cluster.url, app) as path, httpx.AsyncClient(base_url=cluster.url) as http:
        for method in ("GET", "POST"):
            async with http.stream(method, path, content=b"body" if method == "POST" else None) as answer:
                async for piece in answer.aiter_bytes():
                    assert piece == b"hello"
                    break
            await left.acquire()
        while "web_service_calls 0.0" not in (await http.get("/metrics")).text:
            await asyncio.sleep(0.05)
