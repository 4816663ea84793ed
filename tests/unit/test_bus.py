from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlparse

import psutil
import pytest
import uvloop

from hypha_common import envelope
from hypha_common.bus import Bus
from hypha_common.bus.transport import WideTransport
from hypha_common.errors import DeadlineExceeded, NotFound, PayloadTooLarge, Unavailable
from hypha_common.ids import new_id
from tests.fixtures.nats import NatsServer


@pytest.fixture
def server() -> Iterator[NatsServer]:
    server = NatsServer()
    yield server
    server.stop()


@pytest.fixture
async def buses(server: NatsServer) -> AsyncIterator[list[Bus]]:
    """Two processes' connections to one server."""
    pair = [Bus(urls=[server.url], role=role, instance=new_id(8), on_fatal=pytest.fail) for role in ("one", "two")]
    for bus in pair:
        await bus.connect()
    yield pair
    for bus in pair:
        await bus.close()


class Inbox:
    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()

    def __call__(self, subject: str, reply: str, payload: bytes) -> None:
        self.messages.put_nowait(payload)

    async def take(self) -> bytes:
        return await asyncio.wait_for(self.messages.get(), 10)


async def test_requests_are_answered_or_fail_with_what_was_raised(buses: list[Bus]) -> None:
    one, two = buses

    async def double(message: dict[str, Any]) -> int:
        if message["n"] < 0:
            raise NotFound("no such number")
        return int(message["n"]) * 2

    await two.serve("two", "double", double)
    await two.flush()
    assert await one.request("hy.r.two.7.double", {"n": 4}) == 8
    with pytest.raises(NotFound, match="no such number"):
        await one.request("hy.r.two.7.double", {"n": -1})


async def test_a_request_that_nobody_serves_fails_at_once(buses: list[Bus]) -> None:
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await buses[0].request("hy.r.nobody.0.verb", {}, timeout=5)
    assert asyncio.get_running_loop().time() - started < 1


async def test_an_unanswered_request_is_asked_again(buses: list[Bus]) -> None:
    """The replica that has a question may die; the next attempt reaches another one."""
    one, two = buses
    asked = 0

    async def slow_once(message: dict[str, Any]) -> str:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.sleep(0.5)
        return "answer"

    await two.serve("two", "verb", slow_once)
    await two.flush()
    with pytest.raises(DeadlineExceeded):
        await one.request("hy.r.two.0.verb", {}, timeout=0.1)
    asked = 0
    assert await one.request("hy.r.two.0.verb", {}, timeout=0.1, attempts=2) == "answer"


async def test_one_of_a_queue_group_answers(buses: list[Bus]) -> None:
    answers = []
    for bus in buses:

        async def who(message: dict[str, Any], name: str = bus.role) -> str:
            answers.append(name)
            return name

        await bus.serve("pair", "who", who, partitions=[3, 4])
        await bus.flush()
    for _ in range(40):
        await buses[0].request("hy.r.pair.3.who", {})
    assert len(answers) == 40
    assert set(answers) == {"one", "two"}
    with pytest.raises(Unavailable):
        await buses[0].request("hy.r.pair.5.who", {})


@pytest.mark.parametrize("size", [10, 20_000, 1_040_000, 1_100_000, 20_000_000])
async def test_messages_of_any_size_arrive_whole(buses: list[Bus], size: int) -> None:
    """Small ones are copied into the command, large ones are not, larger ones are cut and joined."""
    inbox, body = Inbox(), os.urandom(size)
    await buses[1].subscribe("hy.f.0.ws.c", inbox)
    await buses[1].flush()
    parts = (envelope.frame(buses[0].instance_bytes, body[:5]), memoryview(body)[5:])
    buses[0].publish("hy.f.0.ws.c", *parts)
    assert await inbox.take() == envelope.frame(buses[0].instance_bytes, body)


async def test_order_is_kept_whatever_the_size(buses: list[Bus]) -> None:
    inbox = Inbox()
    await buses[1].subscribe("hy.f.0.ws.c", inbox)
    await buses[1].flush()
    sizes = [3, 70_000, 1, 1_500_000, 17_000, 2] * 5
    for number, size in enumerate(sizes):
        buses[0].publish("hy.f.0.ws.c", envelope.frame(buses[0].instance_bytes, bytes([number]) * size))
    for number, size in enumerate(sizes):
        assert envelope.open_envelope(await inbox.take()).body == bytes([number]) * size


async def test_what_is_too_large_for_the_bus_is_refused(buses: list[Bus]) -> None:
    with pytest.raises(PayloadTooLarge):
        buses[0].publish("hy.f.0.ws.c", bytes(65 * 2**20))


async def test_nobody_listening_is_reported_with_the_subject(buses: list[Bus]) -> None:
    one = buses[0]
    reports: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    await one.undeliverable(lambda tail, subject: reports.put_nowait((tail, subject)))
    one.publish("hy.f.0.ws.nobody", b"\0" * 20, reply=f"hy.n.{one.instance}.c.7.session")
    assert await asyncio.wait_for(reports.get(), 2) == ("c.7.session", "hy.f.0.ws.nobody")


async def test_a_handler_that_fails_does_not_make_the_process_deaf(buses: list[Bus]) -> None:
    inbox = Inbox()

    def fail_first(subject: str, reply: str, payload: bytes) -> None:
        if payload == b"bad":
            raise RuntimeError("a mistake of ours")
        inbox(subject, reply, payload)

    await buses[1].subscribe("hy.f.0.ws.c", fail_first)
    await buses[1].flush()
    buses[0].publish("hy.f.0.ws.c", b"bad")
    buses[0].publish("hy.f.0.ws.c", b"good")
    assert await inbox.take() == b"good"


async def test_unsubscribed_is_unheard(buses: list[Bus]) -> None:
    inbox = Inbox()
    subscription = await buses[1].subscribe("hy.f.0.ws.c", inbox)
    buses[1].unsubscribe(subscription)
    await buses[1].flush()
    buses[0].publish("hy.f.0.ws.c", b"x")
    await buses[0].flush()
    await buses[1].flush()
    assert inbox.messages.empty()


async def test_nothing_is_kept_for_later_while_the_server_is_away(server: NatsServer, buses: list[Bus]) -> None:
    """Refused at once while disconnected; afterwards subscriptions are there again and old messages are not."""
    one, two = buses
    inbox, lost, back = Inbox(), asyncio.Event(), asyncio.Event()
    await two.subscribe("hy.f.0.ws.c", inbox)
    two.on_reconnected.append(back.set)
    one.on_disconnected.append(lost.set)
    await two.flush()
    waiting = asyncio.create_task(one.request("hy.f.0.ws.c", {}, timeout=20))
    await inbox.take()
    server.kill()
    await asyncio.wait_for(lost.wait(), 5)
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        one.publish("hy.f.0.ws.c", b"too early")
    server.start()
    await asyncio.wait_for(back.wait(), 15)
    while not one.is_connected:
        await asyncio.sleep(0.02)
    await two.flush()
    one.publish("hy.f.0.ws.c", b"after")
    assert await inbox.take() == b"after"


async def test_a_server_that_is_not_there_is_an_error_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hypha_common.bus.bus._CONNECT_DEADLINE_S", 0.5)
    bus = Bus(urls=["nats://user:hidden@127.0.0.1:9"], role="one", instance="aaaaaaaa", on_fatal=pytest.fail)
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            await bus.connect(timeout=1.0)
        assert "hidden" not in str(caught.value)


async def test_a_server_that_answers_too_late_is_heard_again_at_once(server: NatsServer, buses: list[Bus]) -> None:
    """A flush that nobody waits for any more is answered when the server runs again; what follows is read, too."""
    one, two = buses
    inbox = Inbox()
    await two.subscribe("late", inbox)
    await two.flush()
    frozen = psutil.Process(server.pid)
    frozen.suspend()
    try:
        while frozen.status() != psutil.STATUS_STOPPED:  # a signal takes a moment to all threads
            await asyncio.sleep(0.01)
        with pytest.raises(DeadlineExceeded):
            await two.flush(timeout=0.2)
    finally:
        frozen.resume()
    await two.flush()
    one.publish("late", b"hello")
    assert await inbox.take() == b"hello"


async def test_a_connection_that_stopped_answering_is_made_anew(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is queued for it; the process goes on."""
    monkeypatch.setattr("hypha_common.bus.bus._WATCHDOG_INTERVAL_S", 0.1)
    bus = Bus(urls=[server.url], role="one", instance=new_id(8), on_fatal=pytest.fail)
    await bus.connect()
    try:
        gone, back = asyncio.Event(), asyncio.Event()
        bus.on_disconnected.append(gone.set)
        bus.on_reconnected.append(back.set)
        frozen = psutil.Process(server.pid)
        frozen.suspend()
        try:
            for _ in range(20):  # more than the kernel takes
                bus.publish("hy.f.0.ws.c", bytes(1_000_000))
            async with asyncio.timeout(10):
                await gone.wait()
        finally:
            frozen.resume()
        async with asyncio.timeout(10):
            await back.wait()
        await bus.flush()
    finally:
        await bus.close()


def test_what_is_sent_when_the_connection_has_ended() -> None:
    """It is lost with it, and nothing else happens."""

    async def errors() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
        ended = asyncio.Event()

        async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(hear, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = WideTransport()
        await transport.connect(urlparse(f"nats://127.0.0.1:{port}"), 4096, 5)
        transport.send([b"PING\r\n"])
        transport.close()
        await ended.wait()
        transport.send([b"PING\r\n"])
        await asyncio.sleep(0.01)  # a few turns of the loop
        assert transport.queued_bytes == 0
        await transport.written()
        transport.close()
        server.close()
        await server.wait_closed()
        return found

    assert uvloop.run(errors()) == []
