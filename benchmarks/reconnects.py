from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import httpx
from picows import WSError, WSMsgType
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.running_cluster import RunningCluster

from .command import emit, run
from .processes import ProcessTree
from .stats import latency_ms, percentile
from .wire_client import CallRejectedError, WireClient

__all__ = ["measure_reconnects"]

_USERS = 50
_BYSTANDERS = 100  # at the gateways that live, calling each other all the time
_PAUSE_S = 0.2
_AT_ONCE = 200  # while everybody comes for the first time
_LIMIT_S = 120.0
_MEMORY_INTERVAL_S = 0.1
_FIRST_BACKOFF_S = 1.0  # as hypha-rpc waits between attempts: 1 s, then half as much again, within a tenth

_hello: ContextVar[Mapping[str, Any]] = ContextVar("hello")


class ReturningClient(WireClient):
    """A client that says who it is."""

    def __init__(self) -> None:
        super().__init__()
        self._hello = _hello.get()
        self.client_id = str(self._hello["client_id"])

    @classmethod
    async def enter(cls, url: str, hello: Mapping[str, Any]) -> ReturningClient:
        """Connect, and do what hypha-rpc does before its first call."""
        _hello.set(hello)
        client = await cls.connect(url, read_buffer=1024)
        await client.sign_in()
        await client.register("work")
        return client

    def _greet(self) -> None:
        self._transport.send(WSMsgType.TEXT, json.dumps(self._hello).encode())


class Crowd:
    """Clients of the gateway that is going to die, and how long each of them was away."""

    def __init__(self, gone: str, left: list[str], tokens: list[str]) -> None:
        self._gone, self._left, self._tokens = gone, left, tokens
        self._clients: list[ReturningClient] = []
        self.away_s: list[float] = []
        self.refused = 0

    async def come(self, count: int) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            hello = {
                "client_id": f"c-{secrets.token_hex(6)}", "workspace": None,
                "token": self._tokens[number % len(self._tokens)], "reconnection_token": None,
            }  # fmt: skip
            async with slots:
                self._clients.append(await ReturningClient.enter(self._gone, hello))

        await asyncio.gather(*(one(number) for number in range(count)))

    async def come_back(self) -> None:
        """Wait until everybody who was cut off is registered elsewhere."""
        cut_off, self._clients = self._clients, []
        await asyncio.gather(*(self._return(client, number) for number, client in enumerate(cut_off)))

    async def leave(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients))

    async def _return(self, client: ReturningClient, number: int) -> None:
        await client.lost
        lost = time.monotonic()
        hello = {
            "client_id": client.client_id, "workspace": client.workspace, "token": None,
            "reconnection_token": client.connection_info["reconnection_token"],
        }  # fmt: skip
        delay_s = _FIRST_BACKOFF_S
        while True:
            try:
                self._clients.append(await ReturningClient.enter(self._left[number % len(self._left)], hello))
                break
            except (OSError, TimeoutError, WSError, CallRejectedError):
                self.refused += 1
            await asyncio.sleep(delay_s * random.uniform(0.9, 1.1))
            delay_s *= 1.5
        self.away_s.append(time.monotonic() - lost)


class Bystanders:
    """Clients whose gateways live, and how long their calls take meanwhile."""

    def __init__(self) -> None:
        self._clients: list[ReturningClient] = []
        self._calling: list[asyncio.Task[None]] = []
        self.took_s: list[float] = []
        self.failed: list[str] = []

    async def come(self, urls: list[str], token: str) -> None:
        for number in range(_BYSTANDERS):
            hello = {"client_id": f"b-{number}", "workspace": None, "token": token, "reconnection_token": None}
            client = await ReturningClient.enter(urls[number % len(urls)], hello)
            client.serve("work", "echo", lambda args, kwargs: args[0])
            self._clients.append(client)
        for number, client in enumerate(self._clients):
            partner = self._clients[number - 1].address
            self._calling.append(asyncio.create_task(self._call(client, partner)))

    async def leave(self) -> None:
        for task in self._calling:
            task.cancel()
        await asyncio.gather(*self._calling, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in self._clients))

    async def _call(self, client: ReturningClient, partner: str) -> None:
        while True:
            started = time.monotonic()
            try:
                await client.call("services.work.echo", "word", to=partner)
                self.took_s.append(time.monotonic() - started)
            except (CallRejectedError, TimeoutError) as error:
                self.failed.append(str(error))
            await asyncio.sleep(_PAUSE_S * random.random())


class MemoryPeaks:
    """The most resident memory of each process, by name, while it watches."""

    def __init__(self, cluster: RunningCluster) -> None:
        self._tree = ProcessTree([cluster.process.pid])
        self._peaks: dict[str, int] = {}

    async def watch(self) -> None:
        while True:
            for process in await asyncio.to_thread(self._tree.processes):
                name = f"{process.role} {process.pid}"
                self._peaks[name] = max(self._peaks.get(name, 0), process.rss_kib)
            await asyncio.sleep(_MEMORY_INTERVAL_S)

    def report(self, roles: tuple[str, ...]) -> dict[str, list[float]]:
        """Return the peaks in MiB of every process of some roles."""
        found: dict[str, list[float]] = {role: [] for role in roles}
        for name, kib in self._peaks.items():
            role = name.rpartition(" ")[0]
            if role in found:
                found[role].append(round(kib / 1024, 1))
        return {role: sorted(peaks, reverse=True) for role, peaks in found.items()}


async def measure_reconnects(cluster: RunningCluster, count: int) -> dict[str, object]:
    """Kill the last gateway, with ``count`` clients, and wait until they are all registered at the others."""
    *left, gone = cluster.gateway_urls
    tokens = [cluster.user_token(f"crowd-{number}") for number in range(_USERS)]
    crowd, bystanders, peaks = Crowd(gone, left, tokens), Bystanders(), MemoryPeaks(cluster)
    watching = asyncio.create_task(peaks.watch())
    try:
        await bystanders.come(left, tokens[0])
        started = time.monotonic()
        await crowd.come(count)
        came_s = time.monotonic() - started
        calm, bystanders.took_s = bystanders.took_s, []
        before = peaks.report(("gateway",))
        os.kill(cluster.pids["gateway"][-1], signal.SIGKILL)
        started = time.monotonic()
        async with asyncio.timeout(_LIMIT_S):
            await crowd.come_back()
        back_s = time.monotonic() - started
        limits = [await _refusals(url) for url in left]
    finally:
        await bystanders.leave()
        await crowd.leave()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return {
        "clients": count,
        "first_connect_s": round(came_s, 2),
        "last_back_s": round(back_s, 2),
        "away_s": {name: round(percentile(crowd.away_s, part), 2) for name, part in (("p50", 0.5), ("p99", 0.99))},
        "attempts_that_failed": crowd.refused,
        "calls_of_others": {"before": latency_ms(calm), "meanwhile": latency_ms(bystanders.took_s)},
        "calls_of_others_failed": len(bystanders.failed),
        "gateway_rss_MiB_before": before["gateway"],
        "peak_rss_MiB": peaks.report(("gateway", "workspace", "auth", "nats")),
        "refusals_by_gateway": limits,
    }


async def _refusals(url: str) -> dict[str, float]:
    """Return how often a gateway turned somebody away, cut somebody off, or lost a message for want of room."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics")).text
    wanted = ("websocket_refused", "slow_client_closed", "websocket_rate_limited_disconnects", "nats_slow_consumer")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name in wanted:
            for sample in family.samples:
                found[" ".join([family.name, *sample.labels.values()])] = sample.value
    return found


async def main(arguments: argparse.Namespace) -> None:
    cluster = RunningCluster("--gateways=3", "--workspace-replicas=2", "--auth-replicas=2")
    try:
        emit("reconnects", await measure_reconnects(cluster, arguments.clients))
        if errors := cluster.errors():
            raise SystemExit("\n".join(errors[:10]))
    finally:
        cluster.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One of three gateways dies: how soon are its clients back?")
    parser.add_argument("--clients", type=int, default=5000)
    run(main(parser.parse_args()))
