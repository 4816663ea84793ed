from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.balancer import Balancer, balancer
from tests.cluster.load import GIVE_UP_S, KINDS, Call, Load, Member, Stream
from tests.cluster.operations import operate, until
from tests.cluster.running_cluster import RunningCluster

DRAIN_WINDOW_S = 5.0
MAX_BACK_S = 5.0  # the promise
METHOD_TIMEOUT_S = 10.0  # a call that is lost fails with it
ROLES = ("workspace", "auth", "artifacts", "apps", "gateway")


@asynccontextmanager
async def callers(cluster: RunningCluster, front: Balancer, count: int, *, pause_s: float) -> AsyncIterator[Load]:
    """Clients that connect through ``front`` and call each other, the services and HTTP without pause."""
    token = cluster.user_token()
    async with AsyncExitStack() as stack:
        # A connection for each request, so that each goes where the balancer sends it now.
        limits = httpx.Limits(max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=front.url, timeout=GIVE_UP_S, limits=limits))
        members: list[Member] = []
        for number in range(count):
            config = {
                "server_url": front.url, "token": token, "client_id": f"member-{number}",
                "method_timeout": METHOD_TIMEOUT_S, "logger": None,
            }  # fmt: skip
            server = await stack.enter_async_context(connect_to_server(config))
            members.append(Member(number, 0, server, f"Bearer {token}", http))
            await members[-1].join()
        load = Load(members, KINDS, pause_s=pause_s)
        calling = [asyncio.create_task(load.run(member, member.number)) for member in members]
        try:
            await load.answered(count)
            yield load
        finally:
            load.stopping = True  # every call gets its outcome
            await asyncio.wait(calling)


@asynccontextmanager
async def stream(cluster: RunningCluster, front: Balancer) -> AsyncIterator[Stream]:
    """Numbered frames from one client to another."""
    running, ready = Stream((front.url, front.url), cluster.user_token()), asyncio.Event()
    task = asyncio.create_task(running.run(ready))
    try:
        await asyncio.wait_for(ready.wait(), GIVE_UP_S)
        yield running
        sent = running.sent
        await until(lambda: len(running.received) > sent)
    finally:
        running.stopping = True
        task.cancel()
        await asyncio.wait([task])


async def replace(cluster: RunningCluster, front: Balancer, role: str, index: int) -> float:
    """Restart one process as an upgrade does; return when it was told to stop."""
    pids = cluster.pids[role]
    url = cluster.gateway_urls[index] if role == "gateway" else ""
    if url:
        front.leave(url)  # balancers are told first
    told = time.monotonic()
    os.kill(pids[index], signal.SIGTERM)
    await until(lambda: _is_replaced(cluster, role, pids[index], len(pids)), timeout=60)
    if url:
        await _ready(url)
        front.use(url)
    return told


def _is_replaced(cluster: RunningCluster, role: str, pid: int, count: int) -> bool:
    now = cluster.pids.get(role, [])
    return pid not in now and len(now) == count


async def _ready(url: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=1.0) as http:
        while True:
            with suppress(httpx.TransportError):
                if (await http.get("/health/readiness")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def _all_back(cluster: RunningCluster, load: Load) -> None:
    """Wait until the registry is what has sockets, and nobody is missing."""
    workspace = load.members[0].server.config.workspace
    wanted = {f"{workspace}/{member.client_id}" for member in load.members}
    async with operate(cluster) as operator, asyncio.timeout(GIVE_UP_S):
        while True:
            registered = await operator.registered(workspace)
            sockets = await operator.sockets(workspace, {gateway for gateway, _ in registered.values()})
            if registered == sockets and wanted <= set(registered):
                return
            await asyncio.sleep(0.2)


def _accepted(cluster: RunningCluster, load: Load, calls: list[Call]) -> list[Call]:
    """
    Return the failed calls among ``calls`` that the cluster had accepted.

    hypha-rpc itself refuses to send while its websocket is being closed. Where it is asked to send a moment after that
    it opens two connections and forgets what it sent on the first: that is closed (client_gone with code 1000) or, at
    another gateway, superseded.
    """
    offset = time.time() - time.monotonic()
    left: dict[str, list[float]] = {}
    for line in cluster.log.splitlines():
        if ('"client_gone"' in line and '"code": 1000' in line) or '"client_superseded"' in line:
            entry = json.loads(line)
            moment = datetime.fromisoformat(entry["timestamp"]).timestamp() - offset
            left.setdefault(entry["client"].rpartition("/")[2], []).append(moment)

    def explained(call: Call) -> bool:
        if "Failed to send the request" in str(call.error):
            return True
        who = (load.members[call.caller].client_id, load.members[call.target].client_id)
        return any(abs(moment - call.started) < 2.0 for name in who for moment in left.get(name, ()))

    return [call for call in calls if call.error is not None and not explained(call)]


async def test_rolling_restart(start_cluster: Callable[..., RunningCluster]) -> None:
    """Gateways and replicas are replaced, one after another, while clients call: no call fails that was accepted."""
    cluster = start_cluster("--gateways=2", "--workspace-replicas=2", f"--drain-window={DRAIN_WINDOW_S}")
    await _roll(cluster, ("workspace", "gateway"), clients=12, pause_s=0.1)


@pytest.mark.slow
async def test_rolling_restart_of_everything(start_cluster: Callable[..., RunningCluster]) -> None:
    """The same of every process of ours, under 200 clients."""
    replicas = [f"--{role}-replicas=2" for role in ROLES[:-1]]
    cluster = start_cluster(
        "--gateways=3", *replicas, "--enable-server-apps", "--browser-workers=0", f"--drain-window={DRAIN_WINDOW_S}",
        storage=True,
    )  # fmt: skip
    await _roll(cluster, ROLES, clients=200, pause_s=2.0)


async def _roll(cluster: RunningCluster, roles: Sequence[str], *, clients: int, pause_s: float) -> None:
    async with (
        balancer(cluster.gateway_urls) as front,
        stream(cluster, front) as numbered,
        callers(cluster, front, clients, pause_s=pause_s) as load,
    ):
        for role in roles:
            for index in range(len(cluster.pids[role])):
                told = await replace(cluster, front, role, index)
                took_s = time.monotonic() - told
                await load.answered(clients)
                await _all_back(cluster, load)
                print(f"{role}-{index}: replaced in {took_s:.1f} s, {_told_of(cluster, load, load.since(told))}")
    assert load.wrong == []
    assert _accepted(cluster, load, load.history) == [], load.report(load.history)
    assert max(call.took_s for call in load.history if call.error is None) < MAX_BACK_S
    assert numbered.received == list(range(len(numbered.received)))
    assert cluster.errors() == []


def _told_of(cluster: RunningCluster, load: Load, calls: list[Call]) -> str:
    """Say what became of some calls, for people."""
    failed = [call for call in calls if call.error is not None]
    slowest_s = max((call.took_s for call in calls if call.error is None), default=0.0)
    accepted = len(_accepted(cluster, load, failed))
    return f"{len(calls)} calls, {len(failed)} failed, {accepted} of them accepted; slowest {slowest_s:.2f} s"
