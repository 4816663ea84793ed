from __future__ import annotations

import asyncio

import pytest
from hypha_rpc.rpc import RemoteException

from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser


async def test_an_app_is_started_called_and_stopped(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "greeter")
        session = await apps.start("greeter")
        assert session["id"] == f"{server.config.workspace}/{session['client_id']}"
        assert session["service_id"] == f"{session['id']}:default@greeter"
        greeter = await server.get_service(session["service_id"])
        assert await greeter.hello("Ada") == "hello Ada"
        assert [running["id"] for running in await apps.list_running()] == [session["id"]]
        logs = await apps.get_logs(session["id"])
        assert logs["items"] == [{"type": "log", "content": f"started {session['id']}"}]
        await apps.stop(session["id"])
        assert worker.stopped == [session["id"]]
        assert await apps.list_running() == []
        with pytest.raises(RemoteException, match="Server app instance not found"):
            await apps.stop(session["id"])


async def test_however_many_ask_one_instance_starts(connect_user: ConnectUser) -> None:
    servers = [await connect_user("popular-user", gateway=gateway) for gateway in (0, 1)]
    controllers = [await server.get_service("public/server-apps") for server in servers]
    async with app_worker(servers[0]) as worker:
        await create_app(servers[0], "popular")
        sessions = await asyncio.gather(*(apps.start("popular") for apps in controllers * 5))
        assert {session["id"] for session in sessions} == set(worker.started)
        assert len(worker.started) == 1
        await controllers[0].stop(worker.started[0])
