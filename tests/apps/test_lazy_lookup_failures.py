from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser

PUBLIC = [{"id": "default", "config": {"visibility": "public"}}]


async def test_reason_of_a_failed_start_reaches_who_looked_it_up(connect_user: ConnectUser) -> None:
    """With the logs of the app for those who may read them."""
    owner, stranger = await connect_user(), await connect_user()

    async def behave(client: Any, config: Any) -> None:
        raise ValueError("out of order")

    async with app_worker(owner, behaviour=behave) as worker:
        await create_app(owner, "broken", services=PUBLIC)
        with pytest.raises(RemoteException, match=r"Failed to start app 'broken', error: .*out of order") as told:
            await owner.get_service("default@broken")
        assert f"[log] started {worker.started[0]}" in str(told.value)
        with pytest.raises(RemoteException, match=r"Failed to start app 'broken', error: .*out of order") as told:
            await stranger.get_service(f"{owner.config.workspace}/default@broken")
        assert "[log]" not in str(told.value)


async def test_no_worker(connect_user: ConnectUser) -> None:
    server = await connect_user()
    await create_app(server, "workless", type="no-such-type")
    with pytest.raises(RemoteException, match="No server app worker found for app type: no-such-type"):
        await server.get_service("default@workless")


async def test_app_that_is_gone_meanwhile(connect_user: ConnectUser) -> None:
    """It was there a moment ago, as far as this replica knows."""
    server = await connect_user()
    artifacts = await server.get_service("public/artifact-manager")
    async with app_worker(server) as worker:
        await create_app(server, "fleeting")
        with pytest.raises(RemoteException, match="KeyError: 'Service not found"):
            await server.get_service_info("default@fleeting")
        await artifacts.delete("fleeting")
        with pytest.raises(RemoteException, match=r"KeyError: .Service not found: .*fleeting.* does not exist"):
            await server.get_service("default@fleeting")
        assert worker.started == []


async def test_timeout_bounds_the_waiting(connect_user: ConnectUser) -> None:
    """The start goes on; whoever asks later finds the app running."""
    server = await connect_user()
    go = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        await go.wait()
        await client.register_service({"id": "default", "ping": lambda: "pong"})

    async with app_worker(server, behaviour=behave) as worker:
        await create_app(server, "slow")
        began = time.monotonic()
        with pytest.raises(RemoteException, match="TimeoutError: App 'slow' did not start in 1 s"):
            await server.get_service("default@slow", {"timeout": 1})
        assert time.monotonic() - began < 10
        go.set()
        assert await (await server.get_service("default@slow")).ping() == "pong"
        assert len(worker.started) == 1


async def test_service_that_comes_after_the_others(connect_user: ConnectUser) -> None:
    """An app counts as started once it serves what the one who started it waits for; another service may be late."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    later: asyncio.Queue[Any] = asyncio.Queue()

    async def behave(client: Any, config: Any) -> None:
        await client.register_service({"id": "default"})
        later.put_nowait(client)

    async with app_worker(server, behaviour=behave) as worker:
        await create_app(server, "gradual", services=[{"id": "default"}, {"id": "second"}])
        await apps.start("gradual")
        looked_up = asyncio.ensure_future(server.get_service("second@gradual"))
        client = await later.get()
        await client.register_service({"id": "second", "ping": lambda: "pong"})
        assert await (await looked_up).ping() == "pong"
        assert len(worker.started) == 1


async def test_patience_of_an_unmodified_client(connect_user: ConnectUser) -> None:
    """The server's heartbeats keep a call alive that takes longer than the client waits for one."""
    server = await connect_user(method_timeout=2)
    worker_connection = await connect_user(server.config.user["id"])

    async def behave(client: Any, config: Any) -> None:
        await asyncio.sleep(5)  # an app that takes its time
        await client.register_service({"id": "default", "ping": lambda: "pong"})

    async with app_worker(worker_connection, behaviour=behave):
        await create_app(server, "leisurely")
        began = time.monotonic()
        assert await (await server.get_service("default@leisurely")).ping() == "pong"
        assert time.monotonic() - began > 4
