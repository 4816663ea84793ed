from __future__ import annotations

import os
import signal

import httpx
from hypha_rpc import connect_to_server

from tests.cluster.operations import until
from tests.cluster.running_cluster import RunningCluster

SECOND = "/public/services/second/run"


async def _run(http: httpx.AsyncClient) -> str | None:
    """Return which run of the startup functions serves now."""
    try:
        answer = await http.get(SECOND)
    except httpx.HTTPError:
        return None
    return str(answer.json()) if answer.status_code == 200 else None


async def _served(http: httpx.AsyncClient, url: str, *, other_than: str = "") -> str:
    run: str | None = None
    while run in (None, other_than):
        run = await _run(http)
    async with connect_to_server({"server_url": url}) as client:
        assert await (await client.get_service("public/second")).run() == run
        assert await (await client.get_service("public/test-service")).test("again") is None
    return str(run)


async def test_a_gateway_that_dies(startup_cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """The same run serves again, over HTTP and RPC, as soon as the client is back."""
    before = await _served(http, startup_cluster.url)
    [gateway], [runner] = startup_cluster.pids["gateway"], startup_cluster.pids["startup"]
    os.kill(gateway, signal.SIGKILL)
    await until(lambda: startup_cluster.pids.get("gateway", [gateway]) != [gateway])
    assert await _served(http, startup_cluster.url) == before
    assert startup_cluster.pids["startup"] == [runner]


async def test_a_runner_that_dies(startup_cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """It is started again, and its functions are run anew."""
    before = await _served(http, startup_cluster.url)
    [runner] = startup_cluster.pids["startup"]
    os.kill(runner, signal.SIGKILL)
    after = await _served(http, startup_cluster.url, other_than=before)
    assert after != before
    assert startup_cluster.pids["startup"] != [runner]
