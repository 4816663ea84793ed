from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_common.principal import root_principal
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import AppWorker, app_worker, create_app

from .conftest import ConnectUser


@asynccontextmanager
async def workers(server: Any, *ids: str, **options: Any) -> AsyncIterator[dict[str, AppWorker]]:
    async with AsyncExitStack() as stack:
        yield {id: await stack.enter_async_context(app_worker(server, service_id=id, **options)) for id in ids}


async def run_by(apps: Any, **options: Any) -> str:
    """Start the app, stop it, and return which worker ran it."""
    session = await apps.start("app", **options)
    await apps.stop(session["id"])
    return str(session["worker_id"]).rpartition(":")[2]


async def connect_public(cluster: RunningCluster, connect_user: ConnectUser) -> Any:
    """Connect as the server's own workers do."""
    return await connect_user(token=cluster.token_of(root_principal("public")), workspace="public")


async def test_modes(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app")

    async def never() -> int:
        await asyncio.sleep(60)
        return 0

    loads: dict[str, Any] = {"one": lambda: 3, "two": lambda: 1.5, "three": lambda: "no number", "four": never}
    async with AsyncExitStack() as stack:
        for id, load in loads.items():
            await stack.enter_async_context(app_worker(server, service_id=id, state={"load": load}))
        assert await run_by(apps, worker_selection_mode="first") == "one"
        assert await run_by(apps, worker_selection_mode="last") == "four"
        assert await run_by(apps, worker_selection_mode="select:min:state.load") == "two"
        assert await run_by(apps, worker_selection_mode="select:max:state.load") == "one"
        assert await run_by(apps, worker_selection_mode="select:first_success:state.load") == "one"
        assert await run_by(apps, worker_selection_mode="select:min:unknown") in loads
        with pytest.raises(RemoteException, match="WorkerNotFoundError: Several workers can run this"):
            await apps.start("app", worker_selection_mode="exact")
        with pytest.raises(RemoteException, match="Invalid mode: best"):
            await apps.start("app", worker_selection_mode="best")


async def test_the_least_loaded_is_the_one_with_the_fewest_sessions(connect_user: ConnectUser) -> None:
    server, other = await connect_user("min-load"), await connect_user("min-load")
    apps = await server.get_service("public/server-apps")
    for app in ("app", "first", "second"):
        await create_app(server, app)
    async with workers(server, "busy"), workers(other, "free"):
        busy = [await apps.start(app, worker_id=f"{server.config.client_id}:busy") for app in ("first", "second")]
        chosen = {await run_by(apps, worker_selection_mode="min_load") for _ in range(5)}
        assert chosen == {"free"}
        for session in busy:
            await apps.stop(session["id"])


async def test_a_workspace_uses_its_own_workers_before_those_of_the_server(
    apps_cluster: RunningCluster, connect_user: ConnectUser
) -> None:
    server, root = await connect_user(), await connect_public(apps_cluster, connect_user)
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app", type="everywhere")
    with pytest.raises(RemoteException, match="WorkerNotFoundError: No server app worker found for app type: every"):
        await apps.start("app")
    async with app_worker(root, "everywhere", service_id="of-server"):
        assert await run_by(apps) == "of-server"
        async with app_worker(server, "everywhere", service_id="own"):
            assert {await run_by(apps) for _ in range(4)} == {"own"}
            listed = await apps.list_workers("everywhere")
            assert [worker["id"].rpartition(":")[2] for worker in listed] == ["own", "of-server"]
            assert listed[0] == {
                "id": f"{server.config.workspace}/{server.config.client_id}:own", "name": "Worker of a test",
                "description": "", "supported_types": ["everywhere"], "disabled": False,
            }  # fmt: skip
            await server.unregister_service("own")
            assert await run_by(apps) == "of-server"


async def test_nobody_calls_functions_of_the_servers_workers_by_a_mode(
    apps_cluster: RunningCluster, connect_user: ConnectUser
) -> None:
    server, root = await connect_user(), await connect_public(apps_cluster, connect_user)
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app", type="asked")
    called: list[str] = []

    def function(name: str, answer: int) -> Any:
        return lambda: called.append(name) or answer

    async with (
        app_worker(root, "asked", service_id="a", shutdown=function("shutdown", 1), get_load=function("a", 2)),
        app_worker(root, "asked", service_id="b", get_load=function("b", 1)),
    ):
        await run_by(apps, worker_selection_mode="select:min:shutdown")
        assert called == []
        assert await run_by(apps, worker_selection_mode="select:min:get_load") == "b"
        assert sorted(called) == ["a", "b"]


async def test_a_worker_by_its_id(connect_user: ConnectUser) -> None:
    server, stranger = await connect_user(), await connect_user()
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app")
    place = server.config.workspace
    own = f"{server.config.client_id}:own"
    theirs = f"{stranger.config.workspace}/{stranger.config.client_id}"
    async with (
        workers(server, "own", "also-own"),
        app_worker(server, "another-type", service_id="other"),
        app_worker(stranger, service_id="hidden"),
        app_worker(stranger, service_id="open", config={"visibility": "public"}) as open_worker,
        app_worker(stranger, service_id="shared", config={"visibility": "protected", "authorized_workspaces": [place]}),
    ):
        assert await run_by(apps, worker_id=own) == "own"
        assert await run_by(apps, worker_id=f"{place}/{own}") == "own"
        assert await run_by(apps, worker_id=f"{theirs}:open") == "open"
        assert [config["workspace"] for config in open_worker.configs.values()] == [place]
        assert await run_by(apps, worker_id=f"{theirs}:shared") == "shared"
        refused = {
            f"{theirs}:hidden": "WorkerNotFoundError: Worker .*:hidden is not available",
            f"{theirs}:nothing": "WorkerNotFoundError: Worker .*:nothing is not available",
            "own": "Invalid worker id: own",
            f"{place}/*:own": "Invalid worker id",
            "a/b/c:d": "at most one '/'",
            f"{server.config.client_id}:other": "other does not support app type: custom",
        }
        for worker_id, error in refused.items():
            with pytest.raises(RemoteException, match=error):
                await apps.start("app", worker_id=worker_id)


async def test_disabled_workers(apps_cluster: RunningCluster, connect_user: ConnectUser) -> None:
    server, stranger = await connect_user(), await connect_user()
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app")
    worker_id = f"{server.config.client_id}:one"
    full = f"{server.config.workspace}/{worker_id}"
    async with workers(server, "one", "two") as running:
        session = await apps.start("app", worker_id=worker_id)
        await apps.edit_worker(worker_id)  # changes nothing
        assert await apps.list_running()
        await apps.edit_worker(worker_id, disabled=True)
        assert running["one"].stopped == [session["id"]]
        assert await apps.list_running() == []
        assert {await run_by(apps) for _ in range(5)} == {"two"}
        with pytest.raises(RemoteException, match=f"Worker {full} is disabled"):
            await apps.start("app", worker_id=worker_id)
        assert [(worker["id"], worker["disabled"]) for worker in await apps.list_workers("custom")] == [
            (full, True), (full.replace(":one", ":two"), False),
        ]  # fmt: skip
        await apps.edit_worker(full, disabled=False)
        assert await run_by(apps, worker_id=worker_id) == "one"
        with pytest.raises(RemoteException, match=r"nothing is not available"):
            await apps.edit_worker(f"{server.config.client_id}:nothing", True)
        with pytest.raises(RemoteException, match="Permission denied"):
            await (await stranger.get_service("public/server-apps")).edit_worker(full, True)


async def test_only_the_server_disables_its_workers_and_then_for_all(
    apps_cluster: RunningCluster, connect_user: ConnectUser
) -> None:
    server, root = await connect_user(), await connect_public(apps_cluster, connect_user)
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app", type="of-everybody")
    worker_id = f"public/{root.config.client_id}:builtin"
    async with app_worker(root, "of-everybody", service_id="builtin") as worker:
        session = await apps.start("app")
        with pytest.raises(RemoteException, match="Permission denied for workspace: public"):
            await apps.edit_worker(worker_id, True)
        operator = await root.get_service("public/server-apps")
        await operator.edit_worker(worker_id, True)
        assert worker.stopped == [session["id"]]
        with pytest.raises(RemoteException, match="WorkerNotFoundError"):
            await apps.start("app")
        await operator.edit_worker(worker_id, False)
        assert await run_by(apps) == "builtin"


async def test_what_a_worker_says_of_itself_is_believed_until_it_registers_again(connect_user: ConnectUser) -> None:
    server = await connect_user("changing")
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app", type="new")
    config = {"client_id": "changing-worker"}
    first = await connect_user("changing", **config)
    async with app_worker(first, "old", service_id="worker"):
        with pytest.raises(RemoteException, match="WorkerNotFoundError"):
            await apps.start("app")
        # The same connection, the same service, other types.
        async with app_worker(first, "new", service_id="worker", overwrite=True):
            assert await run_by(apps) == "worker"
    await first.disconnect()
    with pytest.raises(RemoteException, match="WorkerNotFoundError"):
        await apps.start("app")
    second = await connect_user("changing", **config)
    async with app_worker(second, "newer", service_id="worker"):
        with pytest.raises(RemoteException, match="WorkerNotFoundError"):
            await apps.start("app")


async def test_a_worker_that_is_an_app_itself_is_started_where_nobody_else_can_run_it(
    connect_user: ConnectUser,
) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    inner: list[AppWorker] = []

    async def behaviour(client: Any, config: Any) -> None:
        if config["app_id"] != "inner":
            types = {"says": ["inner"], "says-nothing": ["secret"]}[config["app_id"]]
            inner.append(AppWorker())
            await client.register_service(
                {
                    "id": "worker", "type": "server-app-worker", "supported_types": types,
                    "config": {"visibility": "protected"}, "start": inner[-1].start, "stop": inner[-1].stop,
                    "get_logs": inner[-1].get_logs,
                }
            )  # fmt: skip

    worker = {"id": "worker", "type": "server-app-worker"}
    startup = {"wait_for_service": "worker"}
    async with app_worker(server, behaviour=behaviour) as outer:
        await create_app(server, "says-nothing", services=[worker], startup_config=startup)
        await create_app(
            server, "says", services=[{**worker, "config": {"supported_types": ["inner"]}}], startup_config=startup
        )
        await create_app(server, "inner", type="inner")
        await create_app(server, "secret", type="secret")
        session = await apps.start("inner")
        assert [config["app_id"] for config in outer.configs.values()] == ["says"]  # the other one was left alone
        assert session["worker_id"] == f"{outer.started[0]}:worker"
        assert await (await server.get_service("default@inner")).hello("Ada") == "hello Ada"
        session = await apps.start("secret")
        assert [config["app_id"] for config in outer.configs.values()] == ["says", "says-nothing"]
        for running in await apps.list_running():
            await apps.stop(running["id"])
        for one in inner:
            await one.close()
        # Two worker apps of which each would need the other: nobody waits for anybody.
        await create_app(server, "a", type="b-type", services=[{**worker, "config": {"supported_types": ["a-type"]}}])
        await create_app(server, "b", type="a-type", services=[{**worker, "config": {"supported_types": ["b-type"]}}])
        with pytest.raises(RemoteException, match="WorkerNotFoundError"):
            await asyncio.wait_for(apps.start("a"), 30)
