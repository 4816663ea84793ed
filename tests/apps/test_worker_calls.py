from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException
from hypha_rpc.utils.schema import schema_function

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app
from tests.fixtures.scripts import StartScript

from .conftest import ConnectUser

_SILENT_WORKER = """
import os
from hypha_rpc import connect_to_server

server = await connect_to_server({{"server_url": "{url}", "token": "{token}"}})
nothing = lambda *args: None
await server.register_service({{
    "id": "a-silent", "type": "server-app-worker", "supported_types": ["custom"],
    "start": nothing, "stop": nothing, "get_logs": nothing,
}})
print("registered", os.getpid(), flush=True)
await server.serve()
"""


async def test_a_worker_that_does_not_answer_is_passed_over(
    apps_cluster: RunningCluster, connect_user: ConnectUser, start_script: StartScript
) -> None:
    server = await connect_user("silent")
    apps = await server.get_service("public/server-apps")
    await create_app(server, "app")
    code = _SILENT_WORKER.format(url=apps_cluster.url, token=apps_cluster.user_token("silent"))
    pid = int((await (await start_script(code)).line(r"registered (\d+)"))[1])
    os.kill(pid, signal.SIGSTOP)  # it is connected, and says nothing
    try:
        async with app_worker(server, service_id="b-answers"):
            session = await apps.start("app", worker_selection_mode="first")
            assert session["worker_id"].endswith(":b-answers")
            await apps.stop(session["id"])
            began = time.monotonic()
            assert [worker["id"] for worker in await apps.list_workers("custom")] == [session["worker_id"]]
            assert time.monotonic() - began < 4  # the silent one is left alone for a while, at this replica at least
            silent = await server.get_service_info("a-silent")
            await apps.edit_worker(silent["id"].partition("@")[0], disabled=True)
            with pytest.raises(RemoteException, match="is disabled"):
                await apps.start("app", worker_id=silent["id"].partition("@")[0])
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_progress_of_a_start_reaches_whoever_asked_for_it(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    heard: list[dict[str, Any]] = []

    async def behaviour(client: Any, config: Any) -> None:
        for step in ("unpacking", "running"):
            await config["progress_callback"]({"type": "info", "message": step})
        await client.register_service({"id": "default"})

    async with app_worker(server, behaviour=behaviour):
        await create_app(server, "app")
        await apps.start("app", progress_callback=heard.append)
    assert [message["message"] for message in heard if message["message"] in ("unpacking", "running")] == [
        "unpacking", "running",
    ]  # fmt: skip


async def test_a_worker_is_given_what_workers_of_all_generations_read(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server, use_local_url="http://localhost:1") as worker:
        await create_app(server, "app", entry_point="main.py")
        with pytest.raises(RemoteException):  # nobody is at that address
            await apps.start("app", timeout=5)
        (config,) = worker.configs.values()
        assert config["server_url"] == "http://localhost:1"
        assert config["app_files_base_url"] == f"http://localhost:1/{config['workspace']}/artifacts/app/files"
        assert config["id"] == f"{config['workspace']}/{config['client_id']}"
        assert (config["app_type"], config["entry_point"]) == ("custom", "main.py")
        assert config["metadata"] == config["manifest"]
        assert "_rtype" not in config["manifest"]


@pytest.mark.parametrize("named", [True, False])
async def test_logs_are_asked_for_by_name_only_where_the_worker_names_parameters(
    connect_user: ConnectUser, named: bool
) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    asked: list[Any] = []

    async def get_logs(type: str | None = None, session_id: str = "", offset: int = 0) -> Any:  # noqa: A002
        """Answer in an old form, with the parameters in an order of its own."""
        asked.append((type, session_id, offset))
        if type is not None:
            return [f"{type} {index}" for index in range(3)]
        return {"log": ["log 0"], "error": [f"error {index}" for index in range(3)]}

    async def get_logs_by_position(*args: Any) -> Any:
        asked.append(args)
        return {"log": ["log 0"], "error": [f"error {index}" for index in range(3)]}

    async with app_worker(server, get_logs=schema_function(get_logs) if named else get_logs_by_position):
        await create_app(server, "app")
        session = await apps.start("app")
        logs = await apps.get_logs(session["id"])
        assert [entry["content"] for entry in logs["items"]] == ["log 0", "error 0", "error 1", "error 2"]
        errors = await apps.get_logs(session["id"], type="error", offset=1, limit=1)
        assert errors == {"items": [{"type": "error", "content": "error 1"}], "total": 3, "offset": 1, "limit": 1}
        await apps.stop(session["id"])
    id = session["id"]
    assert asked == ([(None, id, 0), ("error", id, 0)] if named else [(id,), (id,)])


async def test_a_worker_that_is_stuck_and_says_that_it_lives_is_not_waited_for(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")

    async def stuck(client: Any, config: Any) -> None:
        await asyncio.sleep(100)

    async with app_worker(server, behaviour=stuck):
        await create_app(server, "app")
        began = time.monotonic()
        with pytest.raises(RemoteException):
            await apps.start("app", timeout=1)
        assert time.monotonic() - began < 30
