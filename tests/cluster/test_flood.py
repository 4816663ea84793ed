from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import msgpack
import psutil
import pytest

from tests.cluster.frame_client import FrameClient, split
from tests.cluster.running_cluster import RunningCluster

MIB = 2**20
CLIENTS = 64
MAX_RESIDENT_BYTES = 400 * MIB  # of each gateway, and of NATS
DRAIN_S = 60.0
MAX_STALLED_S = 15.0
MAX_GAP_S = 3.0  # between frames of those who have nothing to do with a stalled reader

_PAYLOAD = bytes(MIB)


@pytest.fixture
async def join(two_gateways: RunningCluster) -> AsyncIterator[Callable[..., Awaitable[FrameClient]]]:
    """Connect a client of one and the same user at gateway 0 or 1."""
    token = two_gateways.user_token()
    async with AsyncExitStack() as stack:

        async def join(gateway: int, client_id: str) -> FrameClient:
            client = await FrameClient.connect(two_gateways.gateway_urls[gateway], client_id, token=token)
            return await stack.enter_async_context(client)

        yield join


class Flow:
    """Numbered frames of 1 MB from one client to another, as fast as TCP takes them."""

    def __init__(self, sender: FrameClient, receiver: FrameClient) -> None:
        self._sender = sender
        self._receiver = receiver
        self._head = msgpack.packb({"type": "method", "method": "x", "to": receiver.address})
        self.sent = 0
        self.received = 0
        self.max_gap_s = 0.0

    async def send(self, seconds: float, *, limit: int = 2**62) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.sent < limit:
            extra = msgpack.packb({"number": self.sent, "data": _PAYLOAD})
            await self._sender.websocket.send(self._head + extra)
            self.sent += 1

    async def receive(self, *, pause_s: float = 0.0) -> None:
        """Receive until cancelled; fails where a frame is missing, out of order or not the one that was sent."""
        last = time.monotonic()
        while True:
            data = await self._receiver.websocket.recv()
            assert isinstance(data, bytes)
            header, extra = split(data)
            assert header["from"] == self._sender.address
            assert extra["number"] == self.received
            assert extra["data"] == _PAYLOAD
            self.received += 1
            now = time.monotonic()
            self.max_gap_s, last = max(self.max_gap_s, now - last), now
            await asyncio.sleep(pause_s)

    async def arrived(self) -> None:
        """Wait until all that was sent is there."""
        async with asyncio.timeout(DRAIN_S):
            while self.received < self.sent:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def resident(cluster: RunningCluster) -> AsyncIterator[dict[str, int]]:
    """Watch the resident memory of gateways and NATS: the most that each had."""
    pids = cluster.pids
    watched = {f"{role}-{n}": psutil.Process(pid) for role in ("gateway", "nats") for n, pid in enumerate(pids[role])}
    peaks: dict[str, int] = {}

    async def watch() -> None:
        while True:
            for name, process in watched.items():
                peaks[name] = max(peaks.get(name, 0), process.memory_info().rss)
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    try:
        yield peaks
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


@pytest.mark.parametrize("seconds", [4.0, pytest.param(30.0, marks=pytest.mark.slow)])
async def test_flood(two_gateways: RunningCluster, join: Callable[..., Awaitable[FrameClient]], seconds: float) -> None:
    """Everybody sends and receives at the same time: nothing is lost or reordered, and memory is bounded."""
    clients = [await join(number % 2, f"flood-{number}") for number in range(CLIENTS)]
    pairs = list(zip(clients[::2], clients[1::2], strict=True))
    await _flood(two_gateways, [Flow(a, b) for a, b in pairs] + [Flow(b, a) for a, b in pairs], seconds)


async def test_flood_in_one_direction(
    two_gateways: RunningCluster, join: Callable[..., Awaitable[FrameClient]]
) -> None:
    """All that one gateway sends goes to the other, more than NATS would keep for it."""
    clients = [await join(number % 2, f"flood-{number}") for number in range(4 * CLIENTS)]
    pairs = zip(clients[::2], clients[1::2], strict=True)
    await _flood(two_gateways, [Flow(a, b) for a, b in pairs], 2)


async def _flood(cluster: RunningCluster, flows: list[Flow], seconds: float) -> None:
    receiving = [asyncio.create_task(flow.receive()) for flow in flows]
    started = time.monotonic()
    async with resident(cluster) as peaks:
        await _unless_failed(receiving, asyncio.gather(*(flow.send(seconds) for flow in flows)))
        await _unless_failed(receiving, asyncio.gather(*(flow.arrived() for flow in flows)))
    took_s = time.monotonic() - started
    for task in receiving:
        task.cancel()
    await asyncio.wait(receiving)
    total = sum(flow.received for flow in flows)
    peaks_mib = {name: peak // MIB for name, peak in peaks.items()}
    print(f"{total} frames of 1 MB in {took_s:.1f} s, at most {peaks_mib} MiB")
    assert all(flow.received == flow.sent > 0 for flow in flows)
    assert max(peaks.values()) < MAX_RESIDENT_BYTES, peaks_mib


@pytest.mark.slow
async def test_readers(two_gateways: RunningCluster, join: Callable[..., Awaitable[FrameClient]]) -> None:
    """
    A reader that stops is cut off, one that is slow gets everything, and neither is in the way of others.

    """
    witness = await join(0, "witness")
    await witness.call("*/manager-hypha", "services.default.subscribe", ["client_disconnected"], promise="*")
    stalled = [await join(1, "stalled"), await join(0, "stalled-nearby")]
    floods = [Flow(await join(0, f"flooder-{n}"), reader) for n, reader in enumerate(stalled)]
    slow = Flow(await join(0, "sender"), await join(1, "slow"))
    others = Flow(await join(0, "a"), await join(1, "b"))
    started = time.monotonic()
    receiving = [asyncio.create_task(slow.receive(pause_s=0.4)), asyncio.create_task(others.receive())]
    sending = [asyncio.create_task(flood.send(60)) for flood in floods]
    sending.append(asyncio.create_task(slow.send(60, limit=30)))
    sending.append(asyncio.create_task(_ping_pong(others, 14)))
    async with resident(two_gateways) as peaks:
        gone: dict[str, float] = {}
        while len(gone) < len(stalled):
            header, _ = await _unless_failed(receiving, witness.receive(timeout=30))
            if header["type"] == "client_disconnected":
                gone[header["data"]["id"]] = time.monotonic() - started
        assert set(gone) == {"stalled", "stalled-nearby"}
        assert max(gone.values()) < MAX_STALLED_S, gone
        for task in sending[:2]:
            task.cancel()
        await asyncio.wait(sending)
        await _unless_failed(receiving, slow.arrived())
    assert slow.received == slow.sent == 30
    await others.arrived()
    assert others.max_gap_s < MAX_GAP_S
    assert max(peaks.values()) < MAX_RESIDENT_BYTES
    for task in receiving:
        task.cancel()
    await asyncio.wait(receiving)
    for reader in stalled:
        reader.websocket.transport.abort()  # a closing handshake would wait for what is never read


async def _ping_pong(flow: Flow, seconds: float) -> None:
    """Send a frame whenever the last one has arrived."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await flow.send(60, limit=flow.sent + 1)
        await flow.arrived()


async def _unless_failed(background: list[asyncio.Task[None]], work: Awaitable[Any]) -> Any:
    """Await ``work``, or raise what ended one of the background tasks before."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task, *background], return_when=asyncio.FIRST_COMPLETED)
    for other in background:
        if other.done():
            task.cancel()
            other.result()
    return await task
