from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser
from .kept_cluster import until


async def test_session_record(connect_user: ConnectUser) -> None:
    """What `start` returns is what is read back (contract 03 §1.6)."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server):
        await create_app(server, "recorded", description="says hello", entry_point="main.js")
        session = await apps.start("recorded")
        id = session["id"]
        assert session == {
            **session,
            "session_id": f"{server.config.workspace}/{session['client_id']}",
            "app_id": "recorded",
            "workspace": server.config.workspace,
            "app_type": "custom",
            "entry_point": "main.js",
            "name": "recorded",
            "description": "says hello",
            "version": "v0",
            "worker_id": f"{server.config.workspace}/{server.config.client_id}:app-worker",
            "daemon": False,
            "worker_managed": False,
            "service_id": f"{id}:default@recorded",
            "status": "running",
        }
        assert [info["id"] for info in session["services"]] == [f"{id}:default"]
        assert session["config"]["visibility"] == "public"
        assert await apps.get_session_info(id) == session
        assert await apps.list_running() == [session]
        await apps.stop(id)
        ended = await apps.get_session_info(id)
        assert ended["status"] == "stopped"
        assert ended["reason"].startswith("stopped by ")


async def test_what_makes_it_running(connect_user: ConnectUser) -> None:
    """A service by any form of its name, its client, or nothing but its worker."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    go = asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        if config["app_id"] == "lone":
            await go.wait()
        await client.register_service({"id": "other", "ping": lambda: "pong"})

    async with app_worker(server, behaviour=behave):
        await create_app(server, "named")
        session = await apps.start("named", wait_for_service="some-client:other")
        assert session["service_id"].endswith(":other@named")
        await apps.stop(session["id"])

        await create_app(server, "configured", startup_config={"wait_for_service": "other"})
        session = await apps.start("configured")
        assert session["service_id"].endswith(":other@configured")
        await apps.stop(session["id"])

        await create_app(server, "lone")
        session = await apps.start("lone", wait_for_service="")  # while the worker's `start` still goes on
        assert "service_id" not in session
        assert session["services"] == []
        await apps.stop(session["id"])
        go.set()

        await create_app(server, "detached")
        session = await apps.start("detached", detached=True)
        assert "service_id" not in session
        assert session["status"] == "running"
        await apps.stop(session["id"])


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"stop_after_inactive": 5}, "stop_after_inactive must be 0 or at least 10 seconds"),
        ({"timeout": 0}, "timeout must be a number of seconds greater than 0"),
        ({"additional_kwargs": {"id": "ws/other"}}, "additional_kwargs must not have: id"),
        ({"additional_kwargs": {"server_url": "http://10.0.0.1", "user": "root"}}, "must not have: server_url, user"),
        ({"version": "v7"}, "v7"),
        ({"worker_id": "nobody:app-worker"}, "is not available"),
        ({"worker_id": "ws-user-somebody-else/worker:app-worker"}, "is not available"),
    ],
)
async def test_nothing_runs_for_what_cannot_be(
    connect_user: ConnectUser, arguments: dict[str, Any], fault: str
) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "strict")
        with pytest.raises(RemoteException, match=fault):
            await apps.start("strict", **arguments)
        assert worker.started == []
        assert await apps.list_running() == []


async def test_worker_of_choice(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with (
        app_worker(server, service_id="one") as one,
        app_worker(server, service_id="two") as two,
        app_worker(server, "something-else", service_id="three") as three,
    ):
        await create_app(server, "choosy")
        session = await apps.start("choosy", worker_id=f"{server.config.client_id}:two", additional_kwargs={"extra": 1})
        assert two.configs[session["id"]]["extra"] == 1
        await apps.stop(session["id"])
        with pytest.raises(RemoteException, match="does not support app type: custom"):
            await apps.start("choosy", worker_id=f"{server.config.client_id}:three")
        assert one.started == three.started == []


async def test_which_instances_are_used_again(connect_user: ConnectUser) -> None:
    """A plain app and a singleton are; a daemon, one that scales, another version and a draft are not."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    artifacts = await server.get_service("public/artifact-manager")

    async def start_twice(alias: str, **again: Any) -> bool:
        first, second = await apps.start(alias), await apps.start(alias, **again)
        for id in {first["id"], second["id"]}:
            await apps.stop(id)
        return bool(first["id"] == second["id"])

    async with app_worker(server):
        await create_app(server, "plain")
        assert await start_twice("plain", worker_selection_mode="random")
        await create_app(server, "single", singleton=True, daemon=True)
        assert await start_twice("single")
        await create_app(server, "always", daemon=True)
        assert not await start_twice("always")
        await create_app(server, "scaled", autoscaling={"enabled": True})
        assert not await start_twice("scaled")
        await artifacts.edit("plain", manifest={"name": "plain", "type": "custom"}, version="new")
        assert not await start_twice("plain", version="v0")
        assert await start_twice("plain", version="v1")
        await artifacts.edit("plain", manifest={"name": "draft", "type": "custom"}, stage=True)
        assert not await start_twice("plain", stage=True)


async def test_disabled_app_is_refused(connect_user: ConnectUser) -> None:
    """Trap 3 of contract 03 §1.14."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await create_app(server, "disabled", disabled=True)
        with pytest.raises(RemoteException, match="App 'disabled' is disabled"):
            await apps.start("disabled")
        with pytest.raises(RemoteException, match="disabled"):
            await server.get_service("default@disabled")
        assert worker.started == []


async def test_progress_is_told_and_may_fail(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    told: list[Any] = []

    async def behave(client: Any, config: Any) -> None:
        await config["progress_callback"]({"type": "info", "message": "opening the page"})
        await client.register_service({"id": "default"})

    async with app_worker(server, behaviour=behave):
        await create_app(server, "telling")
        session = await apps.start("telling", progress_callback=told.append)
        messages = [message["message"] for message in told]
        assert "opening the page" in messages
        assert {message["type"] for message in told} <= {"info", "success"}
        await apps.stop(session["id"])

        def fail(message: Any) -> None:
            told.append("failed")
            raise ValueError("no interest")

        session = await apps.start("telling", progress_callback=fail)

        async def was_told() -> bool:
            return "failed" in told

        await until(was_told)
        await apps.stop(session["id"])


async def test_who_may_not_write_starts_nothing(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    workspace = server.config.workspace
    token = await server.generate_token({"workspace": workspace, "permission": "read"})
    async with app_worker(server) as worker:
        await create_app(server, "readable")
        reader = await connect_user(token=token, workspace=workspace)
        readers = await reader.get_service("public/server-apps")
        with pytest.raises(RemoteException, match="Permission denied"):
            await readers.start("readable")
        assert worker.started == []
        session = await apps.start("readable")
        assert [one["id"] for one in await readers.list_running()] == [session["id"]]
        assert (await readers.get_logs(session["id"]))["total"] == 1
        await apps.stop(session["id"])
