from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster

pytestmark = pytest.mark.browser

_DAEMON = """
<config lang="json">{"name": "Always", "type": "web-worker", "version": "0.1.0", "daemon": true}</config>
<script lang="javascript">api.export({ping() { return "pong"; }});</script>
"""
_SLOW = """
<config lang="json">{"name": "Slow", "type": "web-worker", "version": "0.1.0"}</config>
<script lang="javascript">
await new Promise(resolve => setTimeout(resolve, 3000));
api.export({ping() { return "pong"; }});
</script>
"""
_GONE_S = 10.0
_BACK_S = 40.0


@pytest.fixture
async def cluster_of_two() -> AsyncIterator[RunningCluster]:
    running = RunningCluster("--enable-server-apps", "--apps-replicas=2", storage=True)
    try:
        yield running
        assert running.errors() == []
    finally:
        running.stop()


async def test_a_daemon_returns_whatever_is_killed(cluster_of_two: RunningCluster) -> None:
    cluster = cluster_of_two
    async with connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server:
        apps = await server.get_service("public/server-apps")
        await apps.install(source=_DAEMON, app_id="always")
        first = await _running(apps)
        for victim in ("Chromium", "the browser worker", "an apps replica"):
            before = _browser_processes(cluster)
            assert before, "Chromium runs"
            if victim == "Chromium":
                os.kill(_oldest(before).pid, signal.SIGKILL)
            elif victim == "the browser worker":
                os.kill(cluster.pids["browser_worker"][0], signal.SIGKILL)
            else:
                os.kill(cluster.pids["apps"][0], signal.SIGKILL)
                continue
            await _until(lambda before=before: not _alive(before), _GONE_S, f"processes of {victim} are gone")
            now = await _until(lambda first=first: _other_than(apps, first), _BACK_S, f"back after {victim} died")
            service = await server.get_service(f"{now['id']}:default")
            assert await service.ping() == "pong"
            first = now["id"]
        service = await server.get_service("default@always")
        assert await service.ping() == "pong"


async def test_a_start_survives_the_replica_that_made_it(cluster_of_two: RunningCluster) -> None:
    cluster = cluster_of_two
    async with connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server:
        apps = await server.get_service("public/server-apps")
        await apps.install(source=_SLOW, app_id="slow")
        looking = asyncio.gather(*(server.get_service("default@slow") for _ in range(20)))
        await _until(lambda: _starting(cluster), _BACK_S, "the start has begun")
        for pid in cluster.pids["apps"]:  # one after another: whichever drives the start is among them
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(1)
        services = await looking
        assert {await service.ping() for service in services} == {"pong"}
        assert len(await apps.list_running()) == 1


def _starting(cluster: RunningCluster) -> bool:
    return len(_browser_processes(cluster)) > 0


async def _running(apps: Any) -> str:
    return str((await _until(lambda: _other_than(apps, ""), _BACK_S, "the daemon runs"))["id"])


async def _other_than(apps: Any, session: str) -> dict[str, Any] | None:
    sessions = await apps.list_running()
    return next((dict(running) for running in sessions if running["id"] != session), None)


def _browser_processes(cluster: RunningCluster) -> list[psutil.Process]:
    """Return Chromium's processes below the browser workers."""
    workers = [psutil.Process(pid) for pid in cluster.pids.get("browser_worker", [])]
    return [
        process
        for worker in workers
        for process in worker.children(recursive=True)
        if "chrom" in process.name().lower()
    ]


def _oldest(processes: list[psutil.Process]) -> psutil.Process:
    return min(processes, key=lambda process: process.create_time())


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


async def _until(look: Callable[[], Any | Awaitable[Any]], timeout_s: float, what: str) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not {what} within {timeout_s:g} s"
        await asyncio.sleep(0.1)
