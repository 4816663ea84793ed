from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from hypha_rpc import connect_to_server

from hypha_common.ids import new_id
from tests.cluster.raw_client import RawClient, encoded, enter
from tests.cluster.running_cluster import RunningCluster
from tests.cluster.stream_client import raw_stream

from .census import Census, take_census
from .command import emit, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["GRACE_S", "Cycles", "grown", "settled"]

GRACE_S = 5.0  # a temporary workspace stays that long, and its rows with it
_EVERY_RPC = 50
_EVERY_STREAM = 20
_EVERY_ANONYMOUS = 5
_USERS = 40
_SETTLE_S = 30.0

# What may be more afterwards than before: pools of connections breathe, and the system gives memory back late.
_SLACK = {"files": 8, "series": 40, "tasks": 6, "interest": 2, "subscriptions": 6, "connections": 2, "send_windows": 2}
# What is remembered of callers is bounded, and full after some thousands: 4096 principals of 2.7 KiB in each replica.
_MEMORY_KIB = 16 * 1024
_FLAT_KIB = 2048  # within the last fifth
_TABLE_KIB = 4096


class Cycles:
    """
    Clients that connect, register a service, call somebody at the other gateway, and leave.

    One in five is anonymous, in a temporary workspace of its own; one in 20 comes by the HTTP stream, one in 50 is
    ``hypha-rpc``; one in three leaves without a word.

    """

    def __init__(self, cluster: RunningCluster) -> None:
        self._urls = cluster.gateway_urls
        self._tokens = [cluster.user_token(f"cycles-{number}") for number in range(_USERS)]
        self._numbers = itertools.count()
        self._partners: list[str] = []

    @asynccontextmanager
    async def partners(self) -> AsyncIterator[None]:
        """Keep somebody at each gateway who answers."""
        clients = [await enter(url, token=self._tokens[0]) for url in self._urls]
        answering = [asyncio.create_task(_answer(client)) for client in clients]
        self._partners = [client.address for client in clients]
        try:
            yield
        finally:
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)
            await asyncio.gather(*(client.close() for client in clients))

    async def run(self, count: int, *, at_once: int) -> None:
        """Do ``count`` cycles. Raises where one does not go as it should."""
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                async with asyncio.timeout(120):
                    await self._cycle(next(self._numbers))

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    async def _cycle(self, number: int) -> None:
        here = number % len(self._urls)
        url, partner = self._urls[here], self._partners[here - 1]
        token = None if number % _EVERY_ANONYMOUS == 0 else self._tokens[number % _USERS]
        if number % _EVERY_RPC == 1:
            await _by_hypha_rpc(url, token)
        elif number % _EVERY_STREAM == 2:
            async with raw_stream(url, token=token or "") as stream:
                await _use(stream, partner)
        else:
            client = await enter(url, **({} if token is None else {"token": token}))
            await _use(client, partner)
            if number % 3 == 0:
                client.socket.transport.abort()
            await client.close()


async def _use(client: Any, partner: str) -> None:
    await client.register()
    service = {"id": f"{client.address}:cycle", "name": "cycle", "type": "generic", "config": {"visibility": "public"}}
    await client.manager("register_service", service)
    word = secrets.token_hex(8)
    assert await client.call("services.cycle.echo", word, to=partner) == word


async def _by_hypha_rpc(url: str, token: str | None) -> None:
    config = {"server_url": url, "client_id": new_id(8), **({} if token is None else {"token": token})}
    async with connect_to_server(config) as server:
        service = await server.register_service({"id": "cycle", "name": "cycle", "echo": lambda value: value})
        found = await server.get_service(service["id"])
        assert await found.echo("word") == "word"


async def _answer(client: RawClient) -> None:
    while True:
        header, extra = await client.frames.get()
        session = header.get("session")
        if session is not None and extra is not None:
            answer = {"type": "method", "to": header["from"], "method": f"{session}.resolve"}
            await client.socket.send(encoded(answer, {"args": extra["args"][:1]}))


def grown(before: Census, after: Census, *, memory: bool = True) -> dict[str, tuple[float, float]]:
    """Return what did not return to where it was: (before, after) by name."""
    return {
        name: (before.get(name, 0), value)
        for name, value in after.items()
        if value - before.get(name, 0) > _allowed(name, memory=memory)
    }


def _allowed(name: str, *, memory: bool) -> float:
    what = name.rpartition(" ")[2]
    if name.startswith("dead "):
        return float("inf")  # until autovacuum comes by; that it does shows in the size
    if name.startswith("rows "):
        return 0
    if what == "rss":
        return _MEMORY_KIB if memory else float("inf")
    if name.startswith("kib "):
        return _TABLE_KIB if memory else float("inf")
    return _SLACK.get(what, 0)


def _still_growing(late: Census, after: Census) -> dict[str, tuple[float, float]]:
    """Return whose memory is not flat in the end."""
    return {
        name: (late[name], value)
        for name, value in after.items()
        if name.endswith(" rss") and value - late[name] > _FLAT_KIB
    }


async def settled(cluster: RunningCluster, before: Census, *, memory: bool, limit_s: float) -> Census:
    """Take a census once everything is as it was, or the last one before ``limit_s``."""
    deadline = time.monotonic() + limit_s
    while grown(before, after := await take_census(cluster), memory=memory) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    return after


async def main(arguments: argparse.Namespace) -> None:
    replicas = [f"--{role}-replicas=2" for role in ("auth", "workspace")]
    environ = {"HYPHA_WORKSPACE_UNLOAD_GRACE_PERIOD": f"{GRACE_S:g}", "HYPHA_LOG_LEVEL": "WARNING"}
    cluster = RunningCluster("--gateways=2", *replicas, environ=environ)
    try:
        cycles = Cycles(cluster)
        async with cycles.partners():
            await cycles.run(arguments.warmup, at_once=arguments.at_once)
            await asyncio.sleep(2 * GRACE_S)
            during = [await take_census(cluster)]
            began = time.perf_counter()
            for start in range(0, arguments.cycles, arguments.every):
                await cycles.run(min(arguments.every, arguments.cycles - start), at_once=arguments.at_once)
                during.append(await take_census(cluster))
                print(f"{start + arguments.every} cycles, {time.perf_counter() - began:.0f} s", file=sys.stderr)
            elapsed_s = time.perf_counter() - began
            await asyncio.sleep(2 * GRACE_S)
            after = await settled(cluster, during[0], memory=True, limit_s=_SETTLE_S)
        errors = cluster.errors()
    finally:
        cluster.stop()
    left = grown(during[0], after) | _still_growing(during[-1 - len(during) // 5], after)
    report = {name: [*(census.get(name, 0) for census in during), value] for name, value in sorted(after.items())}
    emit("cycles", report, cycles=arguments.cycles, seconds=round(elapsed_s), grown=left, errors=errors[:10])
    if left or errors:
        raise SystemExit(f"did not return to the start: {left or errors[:3]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Whether everything is as before after many clients came and went.")
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument(
        "--warmup", type=int, default=500, help="cycles before the first reading: pools fill, code loads"
    )
    parser.add_argument("--every", type=int, default=1000, help="cycles between two readings")
    parser.add_argument("--at-once", type=int, default=16)
    run(main(parser.parse_args()))
