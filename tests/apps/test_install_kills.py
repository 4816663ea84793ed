"""The replica that installs an app may be killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker

from .kept_cluster import until

MANIFEST = {"name": "Greeter", "type": "custom"}


@pytest.mark.slow
async def test_an_installation_that_dies_can_be_repeated(start_cluster: Callable[..., RunningCluster]) -> None:
    cluster = start_cluster("--enable-server-apps", "--apps-replicas=2", "--browser-workers=0", storage=True)
    options = {"server_url": cluster.url, "token": cluster.user_token(), "method_timeout": 60}
    tried, go_on = asyncio.Event(), asyncio.Event()

    async def serve(client: Any, config: Mapping[str, Any]) -> None:
        tried.set()
        await go_on.wait()
        await client.register_service({"id": "default", "ping": lambda: 1})

    async with connect_to_server(options) as server, app_worker(server, behaviour=serve) as worker:
        apps = await server.get_service("public/server-apps")
        installing = asyncio.ensure_future(apps.install("x", MANIFEST, "greeter"))
        await tried.wait()
        for pid in list(cluster.pids["apps"]):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(RemoteException):  # at once, not when the client gives up
            await asyncio.wait_for(installing, 30)
        go_on.set()

        async def again() -> Any:
            try:
                return await apps.install("y", MANIFEST, "greeter", overwrite=True)
            except RemoteException:  # the replicas come back, and the turn of the dead one ends
                return None

        manifest = await until(again, within_s=60, every_s=0.5)
        assert [service["id"] for service in manifest["services"]] == [f"{server.config.workspace}/*:default"]
        assert await apps.read_file("greeter", "source") == "y"
        assert await apps.list_running() == []
        assert set(worker.started) == set(worker.stopped)
    assert cluster.errors() == []
