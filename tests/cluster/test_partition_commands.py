"""``hypha-workspace partitions`` on a cluster that runs."""

from __future__ import annotations

import pytest
from hypha_rpc import connect_to_server

from hypha_common.subjects import partition_of
from tests.fixtures.commands import run_command
from tests.fixtures.postgres import PostgresServer, postgres
from tests.fixtures.two_databases import Halves, user_in

__all__ = ["postgres"]


@pytest.mark.slow
async def test_a_partition_moves_while_clients_stay(postgres: PostgresServer) -> None:
    halves = Halves(postgres, postgres)
    with halves.cluster("--workspace-replicas=2") as hub:
        there = ("--data-dir", str(hub.data_dir))
        config = {"server_url": hub.url, "token": hub.token_of(user_in(range(32)))}
        async with connect_to_server(config) as server:
            await server.register_service({"id": "echo", "echo": lambda x: x})
            await server.set_env("A", "1")
            partition = str(partition_of(server.config.workspace))
            checked = await run_command("hypha_workspace", "partitions", "check", *there)
            assert (checked.status, checked.out) == (0, ""), checked
            moved = await run_command("hypha_workspace", "partitions", "move", partition, "--to", "high", *there)
            assert moved.status == 0, moved.err
            assert "open in high" in moved.out
            assert await (await server.get_service("echo")).echo(1) == 1
            assert await server.get_env("A") == "1"
            await server.set_env("B", "2")
            shown = await run_command("hypha_workspace", "partitions", "show", *there)
            assert shown.rows[int(partition)][1] == "high"
            assert halves.urls[0] not in shown.out
            checked = await run_command("hypha_workspace", "partitions", "check", *there)
            assert (checked.status, checked.out) == (0, ""), checked
            again = await run_command("hypha_workspace", "partitions", "move", partition, "--to", "2", *there)
            assert "there already" in again.out
