from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.cluster.frame_client import FrameClient
from tests.cluster.load import KINDS, Call, Load, Stream, under_load
from tests.cluster.operations import registry_is_what_has_sockets, until
from tests.cluster.running_cluster import RunningCluster

MAX_CALL_S = 2.0  # the promise
MAX_CALL_FROZEN_S = 3.0
FROZEN_S = 5.0
RECOVERY_S = 20.0
RECOVERY_DATABASE_S = 40.0

_KINDS = {"workspace": KINDS, "auth": ("generate", "parse", "generate", "parse", "http", "peer")}


@pytest.fixture(scope="module")
def battered() -> Iterator[RunningCluster]:
    """Two gateways and two replicas of each service, that every test here hurts and that recover every time."""
    running = RunningCluster("--gateways=2", "--workspace-replicas=2", "--auth-replicas=2")
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest.mark.parametrize("role", ["workspace", "auth"])
async def test_replica_killed(battered: RunningCluster, role: str) -> None:
    """What it had in its hands fails or is answered by the other replica, at once; nobody else notices."""
    async with under_load(battered, kinds=_KINDS[role]) as (load, streams):
        killed = await _kill(battered, role)
        await load.answered()
        await _wait_for_restart(battered, role)
        await load.settled(RECOVERY_S)
        await load.answered()
        await _registry_is_what_has_sockets(battered, load)
    _judge(load, load.since(killed), streams, lossless=True)


async def test_gateway_killed(battered: RunningCluster) -> None:
    """Its clients are back by themselves with their services; calls to them end meanwhile."""
    async with under_load(battered) as (load, streams):
        killed = await _kill(battered, "gateway", 1)
        await load.answered()
        await _wait_for_restart(battered, "gateway")
        await load.settled(RECOVERY_S)
        back = time.monotonic()
        await load.answered()
        await _registry_is_what_has_sockets(battered, load)
    # A client whose own socket broke is not told by anybody what became of its calls: its timer ends them.
    orphans = [c for c in load.since(killed) if c.started < back and load.members[c.caller].gateway == 1]
    _judge(load, [call for call in load.since(killed) if call not in orphans], streams, lossless=False)


async def test_port_outlives_its_gateway(battered: RunningCluster) -> None:
    """Whoever connects while a gateway is started again waits for it: a refusal is final for some clients."""
    [_, pid] = battered.pids["gateway"]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: pid not in battered.pids.get("gateway", []))
    async with await FrameClient.connect(battered.gateway_urls[1], "early") as client:
        assert await client.call("*/manager-hypha", "services.default.echo", 1, promise="*") == 1
    await _wait_for_restart(battered, "gateway")


@pytest.mark.parametrize("role", ["workspace", "auth"])
async def test_replica_frozen(battered: RunningCluster, role: str) -> None:
    """A process that is there but does nothing is found out."""
    async with under_load(battered, kinds=_KINDS[role]) as (load, streams):
        process = psutil.Process(battered.pids[role][0])
        process.suspend()
        frozen = time.monotonic()
        try:
            while time.monotonic() < frozen + FROZEN_S:
                await load.answered(10)
        finally:
            process.resume()
        await load.settled(RECOVERY_S)
        await load.answered()
        await _registry_is_what_has_sockets(battered, load)
    _judge(load, load.since(frozen), streams, lossless=True, limit_s=MAX_CALL_FROZEN_S)


async def test_nats_killed(battered: RunningCluster) -> None:
    """Everything finds together again, without a restart of anything else."""
    others = {role: pids for role, pids in battered.pids.items() if role != "nats"}
    async with under_load(battered) as (load, streams):
        killed = await _kill(battered, "nats")
        await _wait_for_restart(battered, "nats")
        await load.settled(RECOVERY_S)
        await load.answered()
        await _registry_is_what_has_sockets(battered, load)
    _judge(load, load.since(killed), streams, lossless=False)
    assert {role: pids for role, pids in battered.pids.items() if role != "nats"} == others


async def test_database_restarted(battered: RunningCluster) -> None:
    """After a crash of PostgreSQL the live clients and their services are in its tables again."""
    async with under_load(battered) as (load, streams):
        [postgres] = battered.pids["postgres"]
        os.kill(postgres, signal.SIGQUIT)
        await until(lambda: battered.pids.get("postgres", [postgres]) != [postgres])
        await _listed(load, RECOVERY_DATABASE_S)
        await load.settled(RECOVERY_DATABASE_S)
        await _registry_is_what_has_sockets(battered, load)
    assert load.wrong == []
    for stream in streams:
        _check_order(stream)


async def _registry_is_what_has_sockets(cluster: RunningCluster, load: Load) -> None:
    workspace = load.members[0].server.config.workspace
    registered = await registry_is_what_has_sockets(cluster, workspace, timeout=RECOVERY_S)
    assert {f"{workspace}/{member.client_id}" for member in load.members} <= registered


async def _listed(load: Load, timeout: float) -> None:
    """Wait until each member's service is found."""
    wanted = {member.service_id for member in load.members}
    async with asyncio.timeout(timeout):
        while True:
            with suppress(Exception):  # the database is away
                found = await load.members[0].server.list_services({"type": "work"})
                if wanted <= {service["id"] for service in found}:
                    return
            await asyncio.sleep(0.2)


async def _kill(cluster: RunningCluster, role: str, index: int = 0) -> float:
    """Kill a process; return when."""
    os.kill(cluster.pids[role][index], signal.SIGKILL)
    return time.monotonic()


async def _wait_for_restart(cluster: RunningCluster, role: str) -> None:
    wanted = 1 if role in ("nats", "postgres") else 2
    await until(lambda: len(cluster.pids.get(role, [])) == wanted)


def _judge(
    load: Load, calls: list[Call], streams: list[Stream], *, lossless: bool, limit_s: float = MAX_CALL_S
) -> None:
    """Nothing was answered wrongly, nothing hung, nothing came in another order."""
    report = load.report(calls)
    print(report)
    assert load.wrong == []
    late = [str(call) for call in calls if call.took_s > limit_s + load.lag_s]
    assert late == [], report
    for stream in streams:
        _check_order(stream)
        if lossless:
            assert stream.received == list(range(len(stream.received)))
            assert stream.sent - len(stream.received) < 50


def _check_order(stream: Stream) -> None:
    assert len(stream.received) > 10
    assert all(a < b for a, b in zip(stream.received, stream.received[1:], strict=False))
