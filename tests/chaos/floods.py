"""Clients that send more than others read: what they fill must hold nobody else up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgpack
from websockets.exceptions import ConnectionClosed

from tests.chaos.arena import Arena
from tests.chaos.members import settle
from tests.cluster.frame_client import FrameClient

__all__ = ["full_queues", "stalled_reader"]

_FRAME = msgpack.packb({"data": bytes(2**20)})
_SENDERS = 4  # at each gateway, to one reader
_PAIRS = 16
_READ_EVERY_S = 0.2


@asynccontextmanager
async def stalled_reader(arena: Arena) -> AsyncIterator[None]:
    """Clients at both gateways send 1 MB frames as fast as TCP takes them to one that reads nothing."""
    async with AsyncExitStack() as stack:
        reader, *senders = await _joined(arena, stack, 1 + 2 * _SENDERS)
        _busy(stack, [_send(sender, reader) for sender in senders])
        yield


@asynccontextmanager
async def full_queues(arena: Arena) -> AsyncIterator[None]:
    """Pairs of clients, one at each gateway, send each other 1 MB frames, and read more slowly than they could."""
    async with AsyncExitStack() as stack:
        clients = await _joined(arena, stack, 2 * _PAIRS)
        others = [clients[number ^ 1] for number in range(len(clients))]
        sending = [_send(client, other) for client, other in zip(clients, others, strict=True)]
        _busy(stack, [*sending, *map(_read, clients)])
        yield


async def _joined(arena: Arena, stack: AsyncExitStack, count: int) -> Sequence[FrameClient]:
    """Connect clients of one user at the gateways in turn."""
    token, urls = arena.cluster.user_token(), arena.cluster.gateway_urls
    return [
        await stack.enter_async_context(await FrameClient.connect(urls[number % 2], f"flood-{number}", token=token))
        for number in range(count)
    ]


def _busy(stack: AsyncExitStack, work: Sequence[Coroutine[None, None, None]]) -> None:
    stack.push_async_callback(settle, [asyncio.create_task(one) for one in work])


async def _send(sender: FrameClient, receiver: FrameClient) -> None:
    frame = msgpack.packb({"type": "method", "method": "x", "to": receiver.address}) + _FRAME
    with suppress(ConnectionClosed):
        while True:
            await sender.websocket.send(frame)


async def _read(client: FrameClient) -> None:
    with suppress(ConnectionClosed):
        while True:
            await client.websocket.recv()
            await asyncio.sleep(_READ_EVERY_S)
