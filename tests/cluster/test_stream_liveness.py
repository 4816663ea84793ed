"""
Streams that are silent, alive or not: pings, frozen clients, clients that do not read (contract 01 §1.13 "liveness").
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
from hypha_rpc import connect_to_server

from tests.cluster.frame_client import FrameClient
from tests.cluster.raw_client import CallFailed, encoded, raw_client
from tests.cluster.raw_socket import raw_socket
from tests.cluster.running_cluster import RunningCluster
from tests.cluster.stream_client import raw_stream

_ENVIRON = {
    "HYPHA_STREAM_KEEPALIVE_INTERVAL": "0.3",
    "HYPHA_STREAM_IDLE_THRESHOLD": "1",
    "HYPHA_STREAM_PING_INTERVAL": "2",
    "HYPHA_STREAM_MAX_MISSED_PINGS": "2",
    "HYPHA_WS_IDLE_TIMEOUT": "2",
    "HYPHA_MAX_QUEUE_BYTES": str(8 * 2**20),
}
_WATCHED_S = 13.0


@pytest.fixture(scope="module")
def impatient() -> Iterator[RunningCluster]:
    """A cluster that asks after silent streams within seconds."""
    cluster = RunningCluster(environ=_ENVIRON)
    yield cluster
    errors = cluster.errors()
    cluster.stop()
    assert errors == []


async def test_who_stays_and_who_goes(impatient: RunningCluster) -> None:
    """All at once, for it takes its time."""
    await asyncio.gather(
        _idle(impatient), _frozen(impatient), _listener(impatient), _not_reading(impatient), _waiting(impatient)
    )


async def _idle(cluster: RunningCluster) -> None:
    """A client that has nothing to say answers when asked, and stays; nothing of that is seen by its user."""
    async with (
        connect_to_server({"server_url": cluster.url, "transport": "http"}) as idle,
        connect_to_server({"server_url": cluster.url, "transport": "http", "token": cluster.user_token()}) as named,
    ):
        services = [await server.register_service({"id": "s", "f": lambda: 1}) for server in (idle, named)]
        await asyncio.sleep(_WATCHED_S)
        for server, service in zip((idle, named), services, strict=True):
            assert await (await server.get_service(service.id)).f() == 1


async def _frozen(cluster: RunningCluster) -> None:
    """A client that has registered and answers no more is asked, then taken for gone; callers learn it."""
    async with raw_stream(cluster.url) as frozen:
        await frozen.register()
        started = time.monotonic()
        header, extra = await frozen.frame()
        assert (header["type"], header["method"], extra["args"]) == ("method", "services.built-in.ping", ["ping"])
        assert header["user"]["id"] == "anonymouz-http"
        assert header["from"].startswith(f"{frozen.workspace}/client-http-")
        await frozen.ended()
        assert 4 < time.monotonic() - started < 14
    async with raw_client(cluster.url) as other:
        with pytest.raises(CallFailed, match="is not connected"):
            await other.call("f", to=frozen.address)


async def _listener(cluster: RunningCluster) -> None:
    """Who only listens is not asked, for it could not answer; its stream is kept up by pings of the transport."""
    async with raw_stream(cluster.url) as listener:
        for _ in range(20):
            assert await listener.control() == {"type": "ping"}
        await asyncio.sleep(_WATCHED_S - 6)
        assert listener.frames.empty()
        async with raw_client(cluster.url) as other:
            await other.send({"type": "x", "to": listener.address})
        assert (await listener.frame())[0]["type"] == "x"


async def _not_reading(cluster: RunningCluster) -> None:
    """A client that does not read is cut off, and its sender is not held up for long."""
    async with raw_socket(cluster.url) as stuck, raw_client(cluster.url) as sender:
        await stuck.send(b"GET /rpc?client_id=stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        await stuck.head()
        info = await stuck.chunk()
        workspace = info[info.index(b"ws-user-") :].partition(b"\xa9client_id")[0].decode("ascii")
        stuck.pause()
        address, frame = f"{workspace}/stuck", bytes(2**20)
        keeping = asyncio.create_task(_keep(sender))
        for _ in range(24):
            await sender.socket.send(encoded({"type": "x", "to": address}, {"args": [frame]}))
        async with asyncio.timeout(20):
            with pytest.raises(CallFailed, match="is not connected"):
                await sender.call("f", to=address)
        keeping.cancel()
    assert '"event": "slow_client_closed"' in cluster.log
    assert (
        json.loads(next(line for line in cluster.log.splitlines() if "slow_client_closed" in line))["client"] == address
    )


async def _waiting(cluster: RunningCluster) -> None:
    """Of POSTs that wait for a receiver, those beyond what a stream may have waiting are refused, to be tried later."""
    async with await FrameClient.connect(cluster.url, "slow") as slow, raw_stream(cluster.url) as stream:
        body = encoded({"type": "x", "to": slow.address}, {"data": bytes(4 * 2**20)})
        answers = await asyncio.gather(*(stream.post(body) for _ in range(9)))
        assert {answer.status_code for answer in answers} == {200, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["detail"] == "Too much is waiting to be passed on, please retry"
        assert await stream.manager("echo", 1) == 1


async def _keep(client: object) -> None:
    while True:
        await client.socket.send("anything")  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
