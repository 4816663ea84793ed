"""What happens to starts and sessions when processes are killed, or stand still."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from hypha_common.db import Database
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

from .kept_cluster import database_of, until
from .refused import LEFT_OPEN, is_refused

pytestmark = [pytest.mark.slow, *LEFT_OPEN]

StartCluster = Callable[..., RunningCluster]

FLAGS = ("--enable-server-apps", "--apps-replicas=2", "--browser-workers=0")


@asynccontextmanager
async def connected(cluster: RunningCluster, name: str, *, gateway: int = 0, **config: Any) -> AsyncIterator[Any]:
    options = {"server_url": cluster.gateway_urls[gateway], "token": cluster.user_token(name), **config}
    async with connect_to_server(options) as server:
        yield server


async def owner_of(database: Database, id: str) -> str:
    workspace, _, client = id.partition("/")
    owner: str = await database.for_workspace(workspace).fetchval(
        "SELECT owner FROM app_sessions WHERE workspace = $1 AND client_id = $2", workspace, client
    )
    return owner


async def process_of(cluster: RunningCluster, instance: str) -> psutil.Process:
    """Return the process of a replica, which root is told."""
    async with connect_to_server({"server_url": cluster.url, "token": cluster.root_token}) as root:
        servers = await (await root.get_service("ws-user-root/admin-utils")).list_servers()
    return psutil.Process(next(one["pid"] for one in servers if one["id"] == instance))


async def owner_process(cluster: RunningCluster, database: Database, id: str) -> psutil.Process:
    return await process_of(cluster, await owner_of(database, id))


async def first_start(worker: Any) -> str:
    async def look() -> str:
        return worker.started[0] if worker.started else ""

    return await until(look)


async def test_killed_replica_costs_a_start_nothing(start_cluster: StartCluster) -> None:
    """Whoever called it is told at once; who looks the app up waits, and gets the instance that the other adopts."""
    cluster = start_cluster(*FLAGS, storage=True)
    go = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        await go.wait()
        await client.register_service({"id": "default", "who": lambda: config["client_id"]})

    async with database_of(cluster) as database, connected(cluster, "killer") as server:
        apps = await server.get_service("public/server-apps")
        async with app_worker(server, behaviour=behave) as worker:
            await create_app(server, "survivor")
            start = asyncio.ensure_future(apps.start("survivor"))
            id = await first_start(worker)
            looked_up = [asyncio.ensure_future(server.get_service("default@survivor")) for _ in range(5)]
            (await owner_process(cluster, database, id)).kill()
            began = time.monotonic()
            with pytest.raises(RemoteException):
                await start
            assert time.monotonic() - began < 5
            go.set()
            for found in await asyncio.gather(*looked_up):
                assert time.monotonic() - began < 30
                assert await found.who() == id.partition("/")[2]
            assert worker.started == [id]
            assert (await server.get_service("default@survivor")).id.startswith(id)
            other = await server.get_service("public/server-apps")
            assert [one["id"] for one in await other.list_running()] == [id]
            await other.stop(id)


async def test_start_that_nobody_can_finish_is_begun_anew(start_cluster: StartCluster) -> None:
    """Its worker does not know it: who waits for the app gets another instance, long before its time is over."""
    cluster = start_cluster(*FLAGS, storage=True)
    hold = asyncio.Event()
    starts: list[str] = []

    async def start(config: dict[str, Any]) -> None:
        starts.append(config["id"])
        if len(starts) == 1:
            await hold.wait()  # as one that is lost on the way
            return
        await worker.start(config)

    async with (
        database_of(cluster) as database,
        connected(cluster, "loser") as server,
        app_worker(server, start=start) as worker,
    ):
        await create_app(server, "lost")
        looked_up = asyncio.ensure_future(server.get_service("default@lost"))

        async def began() -> bool:
            return bool(starts)

        await until(began)
        (await owner_process(cluster, database, starts[0])).kill()
        began_at = time.monotonic()
        found = await looked_up
        assert time.monotonic() - began_at < 40
        assert await found.who() == starts[1].partition("/")[2]
        assert worker.stopped == [starts[0]]
        hold.set()


async def test_frozen_replica_changes_nothing_when_it_wakes(start_cluster: StartCluster) -> None:
    """What was taken over meanwhile runs on, and who called the replica is told what has become of it."""
    cluster = start_cluster(*FLAGS, storage=True)
    go = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        await go.wait()
        await client.register_service({"id": "default", "who": lambda: config["client_id"]})

    async with database_of(cluster) as database, connected(cluster, "freezer") as server:
        apps = await server.get_service("public/server-apps")
        async with app_worker(server, behaviour=behave) as worker:
            await create_app(server, "icy")
            start = asyncio.ensure_future(asyncio.gather(apps.start("icy", timeout=8), return_exceptions=True))
            id = await first_start(worker)
            owner = await owner_of(database, id)
            frozen = await process_of(cluster, owner)
            frozen.suspend()
            try:

                async def adopted() -> bool:
                    return await owner_of(database, id) != owner

                await until(adopted, within_s=30)
                go.set()
                found = await server.get_service("default@icy")
                await asyncio.sleep(4)  # until the deadline of the start is over
            finally:
                frozen.resume()
            await asyncio.wait([start], timeout=20)
            await asyncio.sleep(2)
            assert await found.who() == id.partition("/")[2]
            assert worker.stopped == []
            assert worker.started == [id]
            running = await database.for_workspace(server.config.workspace).fetchval(
                "SELECT status FROM app_sessions WHERE workspace = $1", server.config.workspace
            )
            assert running == "running"


async def test_replica_that_ends_in_order_hands_over(start_cluster: StartCluster) -> None:
    """What takes longer than the drain window goes on elsewhere, at once."""
    cluster = start_cluster(*FLAGS, storage=True, environ={"HYPHA_DRAIN_WINDOW": "1"})
    go = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        await go.wait()
        await client.register_service({"id": "default", "who": lambda: config["client_id"]})

    async with (
        database_of(cluster) as database,
        connected(cluster, "leaver") as server,
        app_worker(server, behaviour=behave) as worker,
    ):
        await create_app(server, "handed-over")
        looked_up = asyncio.ensure_future(server.get_service("default@handed-over"))
        id = await first_start(worker)
        owner = await owner_of(database, id)
        (await process_of(cluster, owner)).terminate()

        async def adopted() -> bool:
            return await owner_of(database, id) != owner

        await until(adopted)
        go.set()
        assert await (await looked_up).who() == id.partition("/")[2]
        assert worker.started == [id]


async def test_gateway_of_a_worker_is_killed(start_cluster: StartCluster) -> None:
    """A worker that does not come back is gone: what it ran ends, wherever that is connected."""
    cluster = start_cluster(*FLAGS, "--gateways=2", storage=True, environ={"HYPHA_WORKER_GRACE_PERIOD": "2"})
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(connected(cluster, "gateways"))
        hosts = await stack.enter_async_context(connected(cluster, "gateways", gateway=1, client_id="host"))
        apps = await server.get_service("public/server-apps")
        worker = await stack.enter_async_context(app_worker(hosts))
        await create_app(server, "carried")
        session = await apps.start("carried")
        hosts.rpc._connection._enable_reconnect = False  # as if its machine had died with the gateway
        psutil.Process(cluster.pids["gateway"][1]).kill()

        async def ended() -> bool:
            return bool((await apps.get_session_info(session["id"]))["status"] == "stopped")

        await until(ended, within_s=40)
        assert (await apps.get_session_info(session["id"]))["reason"] == f"its worker {session['worker_id']} is gone"
        assert await is_refused(cluster.url, worker.configs[session["id"]])


async def test_database_that_is_killed_ends_nothing(start_cluster: StartCluster) -> None:
    """Who is connected is forgotten for some seconds, but not by the bus."""
    cluster = start_cluster(*FLAGS, storage=True, environ={"HYPHA_WORKER_GRACE_PERIOD": "1"})
    async with connected(cluster, "keeper") as server, app_worker(server) as worker:
        apps = await server.get_service("public/server-apps")
        await create_app(server, "kept")
        session = await apps.start("kept")
        psutil.Process(cluster.pids["postgres"][0]).kill()

        async def answers() -> bool:
            try:
                return bool((await apps.get_session_info(session["id"]))["status"])
            except RemoteException:
                return False

        await until(answers, within_s=40)
        await asyncio.sleep(8)  # longer than between two comparisons and the grace period
        assert [one["id"] for one in await apps.list_running()] == [session["id"]]
        assert worker.stopped == []
        assert await (await server.get_service(session["service_id"])).hello("Ada") == "hello Ada"


async def test_cluster_that_starts_again_ends_what_ran(start_cluster: StartCluster, tmp_path: Path) -> None:
    """Its worker and its instance are gone with it."""
    options: dict[str, Any] = {"storage": True, "data_dir": tmp_path / "data"}
    cluster = start_cluster(*FLAGS, **options)
    async with connected(cluster, "restarter") as server, app_worker(server) as worker:
        apps = await server.get_service("public/server-apps")
        await create_app(server, "gone")
        session = await apps.start("gone")
        worker.clients[session["id"]].rpc._connection._enable_reconnect = False
        server.rpc._connection._enable_reconnect = False
        cluster.stop()
        worker.clients.clear()
    cluster = start_cluster(*FLAGS, **options, environ={"HYPHA_WORKER_GRACE_PERIOD": "1"})
    async with connected(cluster, "restarter") as server:
        apps = await server.get_service("public/server-apps")

        async def ended() -> bool:
            return bool((await apps.get_session_info(session["id"]))["status"] == "stopped")

        await until(ended)
        assert await is_refused(cluster.url, worker.configs[session["id"]])
