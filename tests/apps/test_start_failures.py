from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser
from .refused import LEFT_OPEN, is_refused

pytestmark = LEFT_OPEN


async def test_failure_tells_what_the_app_logged(apps_cluster: RunningCluster, connect_user: ConnectUser) -> None:
    """To everybody who waits for it; the worker is told to stop, and the instance cannot come back."""
    servers = [await connect_user("unlucky-user", gateway=gateway) for gateway in (0, 1)]
    controllers = [await server.get_service("public/server-apps") for server in servers]
    fail = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        worker.logs[config["id"]]["error"] += ["first fault", "second fault"]
        await fail.wait()
        raise ValueError("out of order")

    async with app_worker(servers[0], behaviour=behave) as worker:
        await create_app(servers[0], "unlucky")
        starts = [asyncio.ensure_future(apps.start("unlucky")) for apps in controllers * 2]
        while not worker.started:
            await asyncio.sleep(0.05)
        # Those that look it up share its fate, too, also when they come a moment later.
        starts += [asyncio.ensure_future(server.get_service("default@unlucky")) for server in servers]
        await asyncio.sleep(0.3)
        fail.set()
        failures = await asyncio.gather(*starts, return_exceptions=True)
        failures.append((await asyncio.gather(servers[1].get_service("default@unlucky"), return_exceptions=True))[0])
        id = worker.started[0]
        assert worker.started == [id]
        for failure in failures:
            assert isinstance(failure, RemoteException)
            text = str(failure)
            assert "Failed to start app 'unlucky', error: ValueError: out of order; first fault; second fault" in text
            assert f", logs:\n[log] started {id}\n[error] first fault\n[error] second fault" in text
        assert worker.stopped == [id]
        info = await controllers[1].get_session_info(id)
        assert info["status"] == "failed"
        assert "out of order" in info["reason"]
        assert await controllers[0].list_running() == []
        assert await is_refused(apps_cluster.gateway_urls[1], worker.configs[id])


async def test_no_worker(connect_user: ConnectUser) -> None:
    apps = await (server := await connect_user()).get_service("public/server-apps")
    await create_app(server, "workless", type="no-such-type")
    with pytest.raises(RemoteException, match=r"WorkerNotFoundError: .*No server app worker found for app type"):
        await apps.start("workless")
    assert await apps.list_running() == []


async def test_time_is_over(connect_user: ConnectUser) -> None:
    apps = await (server := await connect_user()).get_service("public/server-apps")

    async def behave(client: Any, config: Any) -> None:
        await client.register_service({"id": "other"})

    async with app_worker(server, behaviour=behave) as worker:
        await create_app(server, "late")
        began = time.monotonic()
        with pytest.raises(RemoteException, match="startup timed out waiting for service 'default'"):
            await apps.start("late", timeout=1.5)
        assert time.monotonic() - began > 1.4
        assert worker.stopped == worker.started


async def test_worker_says_that_nothing_will_come_of_it(connect_user: ConnectUser) -> None:
    """Nobody waits a minute for what is known to have ended."""
    apps = await (server := await connect_user()).get_service("public/server-apps")

    async def behave(client: Any, config: Any) -> None:
        """Start, and end without having served anything."""

    def get_session_info(session_id: str) -> dict[str, Any]:
        return {"session_id": session_id, "status": "failed", "error": "the script ended with 1"}

    async with app_worker(server, behaviour=behave, get_session_info=get_session_info) as worker:
        await create_app(server, "brief")
        began = time.monotonic()
        with pytest.raises(RemoteException, match="the script ended with 1, before there was service 'default'"):
            await apps.start("brief")
        assert time.monotonic() - began < 30
        assert worker.stopped == worker.started


async def test_instance_leaves_before_it_serves(connect_user: ConnectUser) -> None:
    apps = await (server := await connect_user()).get_service("public/server-apps")

    async def behave(client: Any, config: Any) -> None:
        await client.register_service({"id": "other"})
        await asyncio.sleep(1)
        await client.disconnect()

    async with app_worker(server, behaviour=behave) as worker:
        await create_app(server, "crashing")
        began = time.monotonic()
        with pytest.raises(RemoteException, match="its client disconnected before there was service 'default'"):
            await apps.start("crashing")
        assert time.monotonic() - began < 40
        assert worker.stopped == worker.started


async def test_stopped_while_it_starts(connect_user: ConnectUser) -> None:
    apps = await (server := await connect_user()).get_service("public/server-apps")
    hold = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        await hold.wait()

    async with app_worker(server, behaviour=behave) as worker:
        await create_app(server, "unwanted")
        started = asyncio.ensure_future(apps.start("unwanted"))
        while not worker.started:
            await asyncio.sleep(0.05)
        await apps.stop(worker.started[0])
        with pytest.raises(RemoteException, match="Failed to start app 'unwanted', error: stopped by"):
            await started
        assert worker.stopped == worker.started
        hold.set()


async def test_instance_whose_worker_fails_later_is_ended(connect_user: ConnectUser) -> None:
    """It served before its worker said that it could not start it."""
    apps = await (server := await connect_user()).get_service("public/server-apps")
    fail = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        await client.register_service({"id": "default"})
        await fail.wait()
        raise ValueError("too late")

    async with app_worker(server, behaviour=behave) as worker:
        await create_app(server, "hasty")
        session = await apps.start("hasty")
        fail.set()
        while (info := await apps.get_session_info(session["id"]))["status"] != "stopped":
            await asyncio.sleep(0.1)
        assert "its worker could not start it: ValueError: too late" in info["reason"]
        assert worker.stopped == worker.started
