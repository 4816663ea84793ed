"""How sessions end that nobody stopped; with a grace period of one second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser
from .kept_cluster import until
from .refused import LEFT_OPEN, is_refused

pytestmark = LEFT_OPEN


@pytest.fixture(scope="module")
def impatient() -> Iterator[RunningCluster]:
    running = RunningCluster(
        "--enable-server-apps", "--apps-replicas=2", "--browser-workers=0",
        environ={"HYPHA_WORKER_GRACE_PERIOD": "1"}, storage=True,
    )  # fmt: skip
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest.fixture
async def connect(impatient: RunningCluster) -> AsyncIterator[ConnectUser]:
    async with AsyncExitStack() as stack:

        async def connect(name: str = "", *, gateway: int = 0, **config: Any) -> Any:
            options = {"server_url": impatient.url, "token": impatient.user_token(name)}
            return await stack.enter_async_context(connect_to_server({**options, **config}))

        yield connect


async def ended(apps: Any, id: str) -> dict[str, Any]:
    """Return the record of a session once it has ended."""

    async def look() -> dict[str, Any] | None:
        info: dict[str, Any] = await apps.get_session_info(id)
        return info if info["status"] in ("stopped", "failed") else None

    return await until(look)  # type: ignore[return-value]


async def test_client_that_leaves_ends_its_session(impatient: RunningCluster, connect: ConnectUser) -> None:
    server = await connect()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "leaving")
        session = await apps.start("leaving")
        await worker.clients[session["id"]].disconnect()
        info = await ended(apps, session["id"])
        assert info["reason"] == "its client disconnected"
        assert worker.stopped == [session["id"]]
        assert await is_refused(impatient.url, worker.configs[session["id"]])
        again = await apps.start("leaving")
        assert again["id"] != session["id"]
        worker.logs.pop(session["id"])
        with pytest.raises(RemoteException, match="has ended"):
            await apps.get_logs(session["id"])


async def test_client_that_comes_back_runs_on(connect: ConnectUser) -> None:
    server = await connect()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "blinking")
        session = await apps.start("blinking")
        client = worker.clients[session["id"]]
        await client.rpc._connection._websocket.close()  # as when a network goes away
        await asyncio.sleep(2.5)
        assert (await apps.get_session_info(session["id"]))["status"] == "running"
        assert await (await server.get_service(session["service_id"])).hello("Ada") == "hello Ada"


async def test_logs_of_a_script_outlive_it(connect: ConnectUser) -> None:
    """Those of python-eval, which are read when the script has ended (contract 03 §1.7)."""
    server = await connect()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server, "python-eval") as worker:
        await create_app(server, "script", type="python-eval")
        session = await apps.start("script")
        worker.logs[session["id"]]["stdout"] = ["one", "two"]
        await worker.clients[session["id"]].disconnect()
        info = await ended(apps, session["id"])
        assert info["status"] == "stopped"
        assert info["logs"]["stdout"] == ["one", "two"]
        worker.logs.clear()
        logs = await apps.get_logs(session["id"], type="stdout", offset=1)
        assert logs == {"items": [{"type": "stdout", "content": "two"}], "total": 2, "offset": 1, "limit": None}


async def test_one_that_its_worker_manages_needs_no_client(connect: ConnectUser) -> None:
    """Until its worker does not know it any more."""
    server = await connect()
    apps = await server.get_service("public/server-apps")
    known = True

    def get_session_info(session_id: str) -> dict[str, Any]:
        if not known:
            raise KeyError(f"Session not found: {session_id}")
        return {"status": "running"}

    async with app_worker(server, get_session_info=get_session_info) as worker:
        await create_app(server, "managed", worker_managed=True)
        session = await apps.start("managed")
        await worker.clients[session["id"]].disconnect()
        await asyncio.sleep(3)
        assert (await apps.get_session_info(session["id"]))["status"] == "running"
        assert (await apps.start("managed"))["id"] == session["id"]
        known = False
        assert (await ended(apps, session["id"]))["reason"] == "it has ended"


async def test_client_of_a_detached_start(connect: ConnectUser) -> None:
    """It may come or not; once it has been there and leaves, that is the end."""
    server = await connect()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "loose")
        session = await apps.start("loose", detached=True)
        await worker.clients[session["id"]].disconnect()
        assert (await ended(apps, session["id"]))["reason"] == "its client disconnected"

    async def start(config: dict[str, Any]) -> None:
        """Start something that never connects."""
        running.add(config["id"])

    def get_logs(session_id: str) -> dict[str, list[str]]:
        if session_id not in running:
            raise KeyError(f"Session not found: {session_id}")
        return {"log": ["at work"]}

    running: set[str] = set()
    async with app_worker(server, start=start, get_logs=get_logs, service_id="quiet"):
        session = await apps.start("loose", detached=True, worker_id=f"{server.config.client_id}:quiet")
        await asyncio.sleep(8)  # longer than between two comparisons and the grace period
        assert (await apps.get_session_info(session["id"]))["status"] == "running"
        running.clear()
        assert (await ended(apps, session["id"]))["reason"] == "it has ended"


async def test_worker_that_leaves_and_comes_back(impatient: RunningCluster, connect: ConnectUser) -> None:
    """Its sessions end; when it is back it is told to stop what it may still run."""
    server = await connect()
    apps = await server.get_service("public/server-apps")
    hosts = await connect(server.config.user["id"], client_id="host")
    async with app_worker(hosts) as worker:
        await create_app(server, "orphan")
        session = await apps.start("orphan")
        await hosts.disconnect()
        info = await ended(apps, session["id"])
        assert info["reason"] == f"its worker {session['worker_id']} is gone"
        assert await is_refused(impatient.url, worker.configs[session["id"]])
        assert worker.stopped == []
        back = await connect(server.config.user["id"], client_id="host")
        await back.register_service({
            "id": "app-worker", "type": "server-app-worker", "supported_types": ["custom"],
            "start": worker.start, "stop": worker.stop, "get_logs": worker.get_logs,
        })  # fmt: skip

        async def told() -> bool:
            return session["id"] in worker.stopped

        await until(told)


async def test_worker_that_leaves_while_it_starts_something(connect: ConnectUser) -> None:
    """Nobody waits for the time of the start to be over."""
    server = await connect()
    apps = await server.get_service("public/server-apps")
    hosts = await connect(server.config.user["id"], client_id="host")
    asked, hold = asyncio.Event(), asyncio.Event()

    async def start(config: dict[str, Any]) -> None:
        asked.set()
        await hold.wait()

    async with app_worker(hosts, start=start):
        await create_app(server, "doomed")
        starting = asyncio.ensure_future(apps.start("doomed"))
        await asked.wait()
        await asyncio.sleep(0.5)
        await hosts.disconnect()
        with pytest.raises(RemoteException, match=r"Failed to start app 'doomed', error: its worker .*host:.* is gone"):
            await asyncio.wait_for(starting, 20)
        hold.set()


async def test_who_is_only_called_alike_ends_nothing(connect: ConnectUser) -> None:
    """Trap 2 of contract 03 §1.14: `capricious` is no part of `capricious-worker`."""
    server = await connect()
    apps = await server.get_service("public/server-apps")
    user = server.config.user["id"]
    hosts = await connect(user, client_id="capricious-worker")
    async with app_worker(hosts):
        await create_app(server, "steady")
        session = await apps.start("steady")
        for name in ("capricious", "worker", "c", session["client_id"].removeprefix("_")):
            await (await connect(user, client_id=name)).disconnect()
        await (await connect(client_id="capricious-worker")).disconnect()  # in another workspace
        await asyncio.sleep(2)
        assert [one["id"] for one in await apps.list_running()] == [session["id"]]


async def test_worker_that_does_not_stop_it(connect: ConnectUser) -> None:
    """The session stays, whether that is an error or not."""
    server = await connect()
    apps = await server.get_service("public/server-apps")
    refuse = True

    async def stop(session_id: str) -> None:
        if refuse:
            raise RuntimeError("busy")
        await worker.stop(session_id)

    async with app_worker(server, stop=stop) as worker:
        await create_app(server, "stubborn")
        session = await apps.start("stubborn")
        with pytest.raises(RemoteException, match="RuntimeError: busy"):
            await apps.stop(session["id"])
        assert await apps.stop(session["id"], raise_exception=False) is None
        assert [one["id"] for one in await apps.list_running()] == [session["id"]]
        assert await (await server.get_service(session["service_id"])).hello("Ada") == "hello Ada"
        refuse = False
        await apps.stop(session["id"])
        assert await apps.stop(session["id"], raise_exception=False) is None
        assert worker.stopped == [session["id"]]


async def test_workspace_that_is_unloaded(impatient: RunningCluster, connect: ConnectUser) -> None:
    """What runs in it is stopped, and cannot come back."""
    server = await connect()
    name = f"closed-{server.config.client_id.lower()}"
    await server.create_workspace({"id": name, "name": name, "persistent": True})
    token = await server.generate_token({"workspace": name, "permission": "admin"})
    member = await connect(token=token, workspace=name)
    apps = await member.get_service("public/server-apps")
    async with connect_to_server({"server_url": impatient.url, "token": impatient.root_token}) as root:
        public = await connect(
            token=await root.generate_token({"workspace": "public", "permission": "read_write"}), workspace="public"
        )
        async with app_worker(public, "closed-type") as worker:
            await create_app(member, "closing", type="closed-type")
            session = await apps.start("closing")
            await (await root.get_service("ws-user-root/admin-utils")).unload_workspace(name)

            async def stopped() -> bool:
                return worker.stopped == [session["id"]]

            await until(stopped)
            assert await is_refused(impatient.url, worker.configs[session["id"]])


async def test_workspace_that_is_deleted_takes_its_apps_along(impatient: RunningCluster, connect: ConnectUser) -> None:
    server = await connect()
    name = f"spare-{server.config.client_id.lower()}"
    await server.create_workspace({"id": name, "name": name, "persistent": True})
    token = await server.generate_token({"workspace": name, "permission": "admin"})
    member = await connect(token=token, workspace=name)
    elsewhere = await server.get_service("public/server-apps")
    apps = await member.get_service("public/server-apps")
    async with app_worker(server, service_id="own") as kept:
        await create_app(server, "same")
        await elsewhere.start("same")
        worker_client = await connect(token=token, workspace=name)
        async with app_worker(worker_client) as worker:
            await create_app(member, "same")
            session = await apps.start("same")
            await server.delete_workspace(name)

            async def refused() -> bool:
                return await is_refused(impatient.url, worker.configs[session["id"]])

            await until(refused)
        assert [one["app_id"] for one in await elsewhere.list_running()] == ["same"]
        assert kept.stopped == []
