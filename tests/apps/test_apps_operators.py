from __future__ import annotations

import json
from typing import Any

import pytest

from hypha_apps.keeping.daemon_rows import DaemonRows
from hypha_apps.standing import Standing
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app
from tests.fixtures.commands import Completed, run_command

from .conftest import ConnectUser
from .kept_cluster import database_of, until


class Commands:
    """Command lines on the cluster of its data directory."""

    def __init__(self, cluster: RunningCluster) -> None:
        self._cluster = cluster

    async def run(self, *arguments: str, status: int = 0) -> Completed:
        done = await run_command("hypha_apps", *arguments, "--data-dir", str(self._cluster.data_dir))
        assert done.status == status, done
        return done

    async def rows(self, *arguments: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads((await self.run(*arguments, "--json")).out)
        return rows


@pytest.fixture
def commands(apps_cluster: RunningCluster) -> Commands:
    return Commands(apps_cluster)


async def test_operators_see_and_stop_what_runs(commands: Commands, connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    workspace = server.config.workspace
    async with app_worker(server, "custom", "odd") as worker:
        await create_app(server, "seen")
        session = await apps.start("seen")
        (row,) = await commands.rows("sessions", "--workspace", workspace)
        assert (row["id"], row["app"], row["status"], row["reason"]) == (session["id"], "seen", "running", "")
        assert row["worker"] == session["worker_id"]
        (seen,) = await commands.rows("workers", "--workspace", workspace)
        assert (seen["id"], seen["types"], seen["sessions"]) == (session["worker_id"], ["custom", "odd"], 1)
        assert seen in await commands.rows("workers"), "it is known by what it runs"

        done = await commands.run("stop", session["id"])
        assert done.out == f"stopped {session['id']}\n"
        assert worker.stopped == [session["id"]]
        assert await commands.rows("sessions", "--workspace", workspace) == []
        (ended,) = await commands.rows("sessions", "--workspace", workspace, "--all")
        assert (ended["status"], ended["reason"]) == ("stopped", "stopped by an operator")

        done = await commands.run("stop", session["id"], "nonsense", status=1)
        assert f"not stopped: {session['id']}: Server app instance not found" in done.err
        assert "not stopped: nonsense" in done.err


async def test_operators_see_why_a_daemon_does_not_run(
    apps_cluster: RunningCluster, commands: Commands, connect_user: ConnectUser
) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    workspace = server.config.workspace

    async def state() -> str:
        (row,) = await commands.rows("daemons", "--workspace", workspace)
        assert row["app"] == f"{workspace}/watched"
        return str(row["state"])

    async with database_of(apps_cluster) as database:
        await create_app(server, "watched", type="rare", daemon=True)
        await Standing(database).set_daemon(workspace, "watched")

        async def waits() -> bool:
            return (await DaemonRows(database).all(workspace))[0]["no_worker"] is True

        await until(waits)
        assert await state() == "no worker"
        async with app_worker(server, "rare"):
            running = await until(apps.list_running)
            assert await state() == "runs"
            await commands.run("stop", running[0]["id"])
            assert await state() == "stopped by hand"
        await Standing(database).clear(workspace, "watched")
