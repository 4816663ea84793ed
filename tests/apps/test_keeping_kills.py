"""Whoever keeps apps running may be killed: the others go on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest
from hypha_rpc import connect_to_server

from hypha_apps.keeping.rounds import LEASES
from hypha_apps.standing import Standing
from hypha_common.lease import Lease
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import AppWorker, app_worker, create_app

from .conftest import ConnectUser
from .kept_cluster import database_of, until


async def crash(worker: AppWorker, session_id: str) -> None:
    """End an instance as a crash does: it leaves, and its worker does not know it any more."""
    del worker.logs[session_id]
    await worker.clients.pop(session_id).disconnect()


async def test_a_replica_that_died_in_its_turn_holds_nobody_up(
    apps_cluster: RunningCluster, connect_user: ConnectUser
) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    workspace = server.config.workspace
    async with database_of(apps_cluster) as database, app_worker(server) as worker:
        await create_app(server, "always", daemon=True)
        shard = database.for_workspace(workspace)
        # As a replica leaves it that is killed in the middle of a round.
        lease = await Lease.take(shard, LEASES, "daemons", "somebody that was killed", life_s=3, seize=True)
        assert lease is not None
        await Standing(database).set_daemon(workspace, "always")
        (session,) = await until(apps.list_running)
        assert worker.started == [session["id"]]
        await Standing(database).clear(workspace, "always")
        await apps.stop(session["id"])


@pytest.mark.slow
async def test_a_daemon_returns_whichever_replica_is_killed(start_cluster: Callable[..., RunningCluster]) -> None:
    """Its instance crashes and a replica is killed at the same time, one after the other; there is always one."""
    cluster = start_cluster(
        "--enable-server-apps", "--apps-replicas=2", "--browser-workers=0",
        environ={"HYPHA_WORKER_GRACE_PERIOD": "1"}, storage=True,
    )  # fmt: skip
    options = {"server_url": cluster.url, "token": cluster.user_token()}
    async with (
        connect_to_server(options) as server,
        app_worker(server) as worker,
        database_of(cluster) as database,
    ):
        await create_app(server, "always", daemon=True)
        await Standing(database).set_daemon(server.config.workspace, "always")

        async def running() -> list[str]:
            # The controller may be the replica that is killed.
            rows = await database.home.fetch("SELECT * FROM app_sessions WHERE status = 'running'")
            return [f"{row['workspace']}/{row['client_id']}" for row in rows]

        async def another(before: str) -> str:
            return next((session for session in await running() if session != before), "")

        session = await until(lambda: another(""))
        for pid in list(cluster.pids["apps"]):
            os.kill(pid, signal.SIGKILL)
            await crash(worker, session)
            session = await until(lambda before=session: another(before), within_s=40)
            await asyncio.sleep(2)  # nobody starts another one
            assert await running() == [session]
        assert len(worker.started) == 3
    assert cluster.errors() == []
