"""Browser workers of a cluster that end, and that come back."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster

from .pages import eventually, page_app

pytestmark = pytest.mark.browser

_LEFT_S = 10.0


def _browser_processes(cluster: RunningCluster) -> list[psutil.Process]:
    """Return Chromium and what drives it, wherever they hang in the tree of processes."""
    (worker,) = cluster.pids["browser_worker"]
    return psutil.Process(worker).children(recursive=True)


def _gone(processes: list[psutil.Process]) -> bool:
    return not any(_runs(process) for process in processes)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds, timeout_s)


async def test_a_worker_that_is_killed(start_cluster: Callable[..., RunningCluster]) -> None:
    """Nothing of it is left after 10 s, another one comes, and the next start works; SIGTERM is an orderly end."""
    cluster = start_cluster("--enable-server-apps", storage=True)
    async with connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server:
        apps = await server.get_service("public/server-apps")
        await page_app(server, "one")
        for number, ends in ((signal.SIGKILL, "killed"), (signal.SIGTERM, "stopped")):
            session = await apps.start("one")
            (worker,), processes = cluster.pids["browser_worker"], _browser_processes(cluster)
            assert len(processes) > 3, ends
            os.kill(worker, number)
            await _until(lambda processes=processes: _gone(processes), _LEFT_S)  # type: ignore[misc]

            async def ended(session: Any = session) -> bool:
                return session["id"] not in [running["id"] for running in await apps.list_running()]

            await eventually(ended, 30.0)
            await _until(lambda worker=worker: cluster.pids.get("browser_worker", [worker]) != [worker])  # type: ignore[misc]

            async def started() -> Any:
                try:
                    return await apps.start("one")
                except RemoteException as error:
                    if "No server app worker found" in str(error):
                        return None
                    raise

            session = await eventually(started, 30.0)
            page = await server.get_service(session["service_id"])
            assert await page.echo(number.name) == number.name
            await apps.stop(session["id"])


async def test_what_processes_are_told(start_cluster: Callable[..., RunningCluster]) -> None:
    """No command line has a token, no worker a secret of the cluster, and Chromium nothing of either."""
    cluster = start_cluster("--enable-server-apps", "--browser-workers=2", storage=True)
    assert len(cluster.pids["browser_worker"]) == 2
    async with connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server:
        apps = await server.get_service("public/server-apps")
        await page_app(server, "one")
        await apps.start("one")
        workers = [psutil.Process(pid) for pid in cluster.pids["browser_worker"]]
        browsers = [process for worker in workers for process in worker.children(recursive=True)]
        assert browsers
        for process in [*workers, *browsers]:
            assert "eyJ" not in " ".join(process.cmdline())
        secret = json.loads((cluster.data_dir / "secrets.json").read_text())["jwt_secret"]
        for worker in workers:
            environment = worker.environ()
            assert environment["HYPHA_TOKEN"].startswith("eyJ")
            assert secret not in str(environment)
            assert not {"HYPHA_JWT_SECRET", "HYPHA_NATS_PASSWORD", "HYPHA_DATABASE_URL"} & set(environment)
        for process in browsers:
            if process.name().startswith("chrom"):
                assert not [name for name in process.environ() if name.startswith("HYPHA_")]
    started = time.monotonic()
    assert cluster.stop() == 0
    assert time.monotonic() - started < 30
