from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_apps.keeping.daemon_rows import DaemonRows
from hypha_apps.standing import Standing
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser
from .kept_cluster import database_of, until


async def test_a_daemon_starts_when_there_is_a_worker_for_it(
    apps_cluster: RunningCluster, connect_user: ConnectUser
) -> None:
    """Once, whichever replica sees that it has to; stopped by hand it stays so until it is started by hand."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    workspace = server.config.workspace

    async def running() -> list[Any]:
        return list(await apps.list_running())

    async with database_of(apps_cluster) as database:
        await create_app(server, "always", type="ticker", daemon=True)
        await Standing(database).set_daemon(workspace, "always")

        async def waits() -> bool:
            return [row["no_worker"] for row in await DaemonRows(database).all(workspace)] == [True]

        await until(waits)
        async with app_worker(server, "ticker") as worker:
            (session,) = await until(running, within_s=10)
            assert session["daemon"]
            assert worker.started == [session["id"]]

            await apps.stop(session["id"])
            await asyncio.sleep(2.5)  # two rounds
            assert worker.started == [session["id"]]

            # Whoever starts it, by hand or by a look-up, has it kept running again.
            assert [row["held"] for row in await DaemonRows(database).all(workspace)] == [True]
            again = await server.get_service("default@always")
            assert await again.hello("Ada") == "hello Ada"
            assert [row["held"] for row in await DaemonRows(database).all(workspace)] == [False]
            await Standing(database).clear(workspace, "always")
            await apps.stop(worker.started[-1])


async def test_one_that_is_disabled_is_forgotten(apps_cluster: RunningCluster, connect_user: ConnectUser) -> None:
    server = await connect_user()
    workspace = server.config.workspace
    async with database_of(apps_cluster) as database:
        await create_app(server, "off", daemon=True, disabled=True)
        await create_app(server, "ordinary")
        for app in ("off", "ordinary", "uninstalled"):
            await Standing(database).set_daemon(workspace, app)

        async def forgotten() -> bool:
            return not await DaemonRows(database).all(workspace)

        await until(forgotten)


async def test_one_that_its_worker_does_not_stop_is_kept_running(
    apps_cluster: RunningCluster, connect_user: ConnectUser
) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    workspace = server.config.workspace

    async def refuse(session_id: str) -> None:
        raise RuntimeError("not now")

    async with database_of(apps_cluster) as database, app_worker(server, stop=refuse):
        await create_app(server, "stubborn", daemon=True)
        await Standing(database).set_daemon(workspace, "stubborn")
        (session,) = await until(apps.list_running)
        with pytest.raises(RemoteException, match="not now"):
            await apps.stop(session["id"])
        assert [running["id"] for running in await apps.list_running()] == [session["id"]]
        assert [row["held"] for row in await DaemonRows(database).all(workspace)] == [False]
        await Standing(database).clear(workspace, "stubborn")
