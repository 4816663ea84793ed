"""``hypha-workspace partitions`` on a cluster that runs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server

from hypha_common.subjects import partition_of
from tests.fixtures.app_worker import app_worker, create_app
from tests.fixtures.commands import run_command
from tests.fixtures.postgres import PostgresServer, postgres
from tests.fixtures.two_databases import Halves, user_in

__all__ = ["postgres"]


@pytest.mark.slow
async def test_a_partition_moves_while_clients_stay(postgres: PostgresServer) -> None:
    halves = Halves(postgres, postgres)
    flags = ("--workspace-replicas=2", "--enable-server-apps", "--browser-workers=0")
    with halves.cluster(*flags, storage=True) as hub:
        there = ("--data-dir", str(hub.data_dir))
        config = {"server_url": hub.url, "token": hub.token_of(user_in(range(32)))}
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(connect_to_server(config))
            await server.register_service({"id": "echo", "echo": lambda x: x})
            await server.set_env("A", "1")
            await _start_work(server, stack)
            partition = str(partition_of(server.config.workspace))
            checked = await run_command("hypha_workspace", "partitions", "check", *there)
            assert (checked.status, checked.out) == (0, ""), checked
            moved = await run_command("hypha_workspace", "partitions", "move", partition, "--to", "high", *there)
            assert moved.status == 0, moved.err
            assert "open in high" in moved.out
            assert await (await server.get_service("echo")).echo(1) == 1
            assert await server.get_env("A") == "1"
            await server.set_env("B", "2")
            await _find_work(server, there)
            shown = await run_command("hypha_workspace", "partitions", "show", *there)
            assert shown.rows[int(partition)][1] == "high"
            assert halves.urls[0] not in shown.out
            checked = await run_command("hypha_workspace", "partitions", "check", *there)
            assert (checked.status, checked.out) == (0, ""), checked
            again = await run_command("hypha_workspace", "partitions", "move", partition, "--to", "2", *there)
            assert "there already" in again.out


async def _start_work(server: Any, stack: AsyncExitStack) -> None:
    """Leave an artifact with a file, a task, and an app that runs."""
    artifacts = await server.get_service("public/artifact-manager")
    await artifacts.create(alias="a", manifest={"name": "moved"}, stage=True, config={"permissions": {"*": "r"}})
    async with httpx.AsyncClient(timeout=20) as http:
        (await http.put(await artifacts.put_file("a", "x.txt"), content=b"moved")).raise_for_status()
    await artifacts.commit("a")
    await (await server.get_service("public/queue")).push("q", {"n": 1})
    await stack.enter_async_context(app_worker(server, "ticker"))
    await create_app(server, "app", type="ticker")
    await (await server.get_service("public/server-apps")).start("app")


async def _find_work(server: Any, there: tuple[str, ...]) -> None:
    """Find all of it where it is now, as its user and as an operator."""
    workspace = server.config.workspace
    artifacts = await server.get_service("public/artifact-manager")
    assert (await artifacts.read("a"))["manifest"] == {"name": "moved"}
    async with httpx.AsyncClient(timeout=20, follow_redirects=True) as http:
        assert (await http.get(await artifacts.get_file("a", "x.txt"))).content == b"moved"
    assert await (await server.get_service("public/queue")).pop("q", timeout=5) == {"n": 1}
    assert await (await server.get_service("default@app")).hello("Ada") == "hello Ada"
    listed = await run_command("hypha_artifacts", "list", *there)
    assert [row[0] for row in listed.rows if row[0].startswith(workspace)] == [f"{workspace}/a", f"{workspace}/app"]
    verified = await run_command("hypha_artifacts", "verify", "--workspace", workspace, *there)
    assert (verified.status, verified.out) == (0, ""), verified
    assert "2 objects" in verified.err or "1 objects" in verified.err, verified.err
    swept = await run_command("hypha_artifacts", "gc", "--now", *there)
    assert swept.status == 0, swept.err
    sessions = await run_command("hypha_apps", "sessions", "--workspace", workspace, *there)
    assert [row[1] for row in sessions.rows] == ["app"], sessions
