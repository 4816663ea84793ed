from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psutil
import pytest

from hypha_common.version import __version__
from tests.cluster.running_cluster import RunningCluster

_ROLES = ("auth", "workspace", "artifacts")


class Probes:
    """The health of every process of a cluster."""

    def __init__(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        self.cluster = cluster
        self._http = http
        self._urls = {"gateway": cluster.url}
        for role in _ROLES:
            environ = psutil.Process(cluster.pids[role][0]).environ()
            self._urls[role] = f"http://127.0.0.1:{environ['HYPHA_METRICS_PORT']}"

    async def get(self, role: str, path: str) -> tuple[int, dict[str, Any]]:
        answer = await self._http.get(f"{self._urls[role]}/health{path}")
        return answer.status_code, answer.json()

    async def ready(self) -> dict[str, bool]:
        return {role: (await self.get(role, "/readiness"))[0] == 200 for role in self._urls}

    async def until_ready(self, **expected: bool) -> None:
        """Wait until exactly those that are named as False are not ready."""
        wanted = {role: expected.get(role, True) for role in self._urls}
        async with asyncio.timeout(45):
            while (ready := await self.ready()) != wanted:
                await asyncio.sleep(0.1)
        assert ready == wanted

    async def all_alive(self) -> None:
        for role in self._urls:
            assert (await self.get(role, "/liveness"))[0] == 200


@pytest.fixture
async def probes(start_cluster: Callable[..., RunningCluster]) -> AsyncIterator[Probes]:
    async with httpx.AsyncClient(timeout=15) as http:
        yield Probes(start_cluster(storage=True), http)


@contextmanager
def _frozen(*pids: int) -> Iterator[None]:
    processes = [process for pid in pids for process in (psutil.Process(pid), *psutil.Process(pid).children())]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


@pytest.mark.slow
async def test_they_tell_the_truth(probes: Probes) -> None:
    """Each dependency in turn is really gone, and comes back; alive is who runs."""
    pids = probes.cluster.pids
    await probes.until_ready()
    for role in ("gateway", *_ROLES):
        status, body = await probes.get(role, "")
        assert (status, body["status"], body["issues"], body["role"]) == (200, "HEALTHY", [], role)
        assert body["version"] == __version__
    assert set((await probes.get("gateway", ""))[1]["connections"]) == {"active", "total_created", "total_closed"}

    with _frozen(*pids["postgres"]):
        await probes.until_ready(gateway=False, auth=False, workspace=False, artifacts=False)
        await probes.all_alive()
        status, body = await probes.get("auth", "")
        assert (status, body["status"], body["event_bus"]) == (200, "WARNING", {"connected": True})
        assert "answer" in body["issues"][0]
        assert (await probes.get("gateway", ""))[1]["status"] == "WARNING"
    await probes.until_ready()

    with _frozen(*pids["s3"]):
        await probes.until_ready(artifacts=False)  # calls do without files
        async with asyncio.timeout(20):  # what a gateway knows may be a second old
            while (await probes.get("gateway", "/readiness"))[1]["detail"]["artifacts"] == "ready":
                await asyncio.sleep(0.1)
        await probes.all_alive()
    await probes.until_ready()

    with _frozen(*pids["auth"]):
        async with asyncio.timeout(30):
            while (told := await probes.get("gateway", "/readiness"))[0] == 200:
                await asyncio.sleep(0.1)
        assert told[1]["detail"].startswith("auth: ")
        with pytest.raises(httpx.TimeoutException):
            async with httpx.AsyncClient(timeout=1) as hasty:
                await hasty.get(f"{probes._urls['auth']}/health/liveness")
    await probes.until_ready()

    supervisor = psutil.Process(probes.cluster.process.pid)
    supervisor.suspend()  # or it would start the bus again
    try:
        os.kill(pids["nats"][0], signal.SIGKILL)
        await probes.until_ready(gateway=False, auth=False, workspace=False, artifacts=False)
        await probes.all_alive()
        for role in ("gateway", *_ROLES):
            status, body = await probes.get(role, "")
            assert (status, body["status"], body["event_bus"]) == (503, "CRITICAL", {"connected": False})
    finally:
        supervisor.resume()
    await probes.until_ready()
