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


async def test_screenshot_is_that_of_the_worker(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    asked: list[tuple[str, str]] = []

    def take_screenshot(session_id: str, format: str) -> bytes:  # noqa: A002  # the word of the protocol
        asked.append((session_id, format))
        return b"\x89PNG"

    await create_app(server, "pictured")
    async with app_worker(server, take_screenshot=take_screenshot):
        session = await apps.start("pictured")
        assert await apps.take_screenshot(session["id"]) == b"\x89PNG"
        assert asked == [(session["id"], "png")]
        with pytest.raises(RemoteException, match="Invalid format: gif"):
            await apps.take_screenshot(session["id"], format="gif")
        await apps.stop(session["id"])
        with pytest.raises(RemoteException, match="Server app instance not found"):
            await apps.take_screenshot(session["id"])
    async with app_worker(server, service_id="blind-worker"):
        session = await apps.start("pictured", worker_id=f"{server.config.client_id}:blind-worker")
        with pytest.raises(RemoteException, match="takes no screenshots"):
            await apps.take_screenshot(session["id"])
        await apps.stop(session["id"])


async def test_logs_are_read_page_by_page(connect_user: ConnectUser) -> None:
    """The worker answers in the old form, by type; clients get the new one."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "talkative")
        session = await apps.start("talkative")
        worker.logs[session["id"]] = {"log": ["a", "b", "c"], "error": ["x"]}
        logs = await apps.get_logs(session["id"], type="log", offset=1, limit=1)
        assert logs == {"items": [{"type": "log", "content": "b"}], "total": 3, "offset": 1, "limit": 1}
        assert (await apps.get_logs(session["id"]))["total"] == 4
        assert (await apps.get_logs(session["client_id"], type="none"))["items"] == []
        for wrong in ({"offset": -1}, {"limit": -1}):
            with pytest.raises(RemoteException, match="must be a whole number"):
                await apps.get_logs(session["id"], **wrong)
        await apps.stop(session["id"])


async def test_what_was_stopped_can_be_looked_up_at_once(connect_user: ConnectUser) -> None:
    """A stop returns when the services of the instance are gone: the next look-up starts another one."""
    server = await connect_user(gateway=1)
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "again")
        for number in range(5):
            service = await server.get_service("default@again")
            assert await service.who() == worker.started[number].partition("/")[2]
            await apps.stop(worker.started[number])
        assert len(worker.started) == 5
