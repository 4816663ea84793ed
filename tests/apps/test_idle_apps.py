from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

from .kept_cluster import database_of, until


@pytest.fixture
async def impatient(start_cluster: Callable[..., RunningCluster]) -> AsyncIterator[tuple[RunningCluster, Any]]:
    """A cluster that looks for idle apps twice a second, and somebody who is connected to it."""
    cluster = start_cluster(
        "--enable-server-apps", "--apps-replicas=2", "--browser-workers=0",
        environ={"ACTIVITY_CHECK_INTERVAL": "0.5"}, storage=True,
    )  # fmt: skip
    async with connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server:
        yield cluster, server
    assert cluster.errors() == []


async def test_an_app_that_nobody_uses_stops_and_starts_again_when_it_is_needed(
    impatient: tuple[RunningCluster, Any],
) -> None:
    cluster, server = impatient
    apps = await server.get_service("public/server-apps")

    async def ended(session: dict[str, Any]) -> str:
        info = await apps.get_session_info(session["id"])
        return str(info.get("reason") or "") if info["status"] == "stopped" else ""

    async with app_worker(server) as worker:
        await create_app(server, "unused", startup_config={"stop_after_inactive": 2})
        session = await apps.start("unused")
        greeter = await server.get_service(session["service_id"])
        for _ in range(12):  # in use for much longer than it may be idle
            assert await greeter.hello("Ada") == "hello Ada"
            await asyncio.sleep(0.5)
        assert worker.stopped == []

        assert await until(lambda: ended(session)) == "inactive for 2 s"
        assert worker.stopped == [session["id"]]
        assert await apps.list_running() == []

        again = await server.get_service("default@unused")
        assert await again.who() != session["client_id"]
        assert len(worker.started) == 2

        await until(lambda: ended({"id": worker.started[1]}))
        async with httpx.AsyncClient(timeout=30) as http:
            address = f"{cluster.url}/{server.config.workspace}/services/default@unused/who"
            answer = await http.get(address)
        assert answer.status_code == 200, answer.text
        assert f"{server.config.workspace}/{answer.json()}" == worker.started[2]


async def test_where_no_gateway_tells_nothing_is_stopped(impatient: tuple[RunningCluster, Any]) -> None:
    """Its time runs only where somebody looks; of one that is not connected everybody knows that it is unused."""
    cluster, server = impatient
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker, database_of(cluster) as database:
        await create_app(server, "untold")
        session = await apps.start("untold")
        shard = database.for_workspace(server.config.workspace)
        # As if it had been used long ago, and the last report was of that time.
        await shard.execute(
            "UPDATE app_sessions SET stop_after_inactive = 3600, last_active = now() - interval '2 h',"
            " reported_at = now() - interval '2 h' WHERE client_id = $1",
            session["client_id"],
        )
        await asyncio.sleep(1.5)  # some rounds, before or after a report of the gateway, which knows better
        assert [running["id"] for running in await apps.list_running()] == [session["id"]]

        client = worker.clients[session["id"]]
        await shard.execute("UPDATE app_sessions SET worker_managed = true")  # one that may be without a client
        await client.disconnect()
        await shard.execute("UPDATE app_sessions SET last_active = now() - interval '2 h'")

        async def stopped() -> bool:
            return worker.stopped == [session["id"]]

        await until(stopped)
        info = await apps.get_session_info(session["id"])
        assert info["reason"] == "inactive for 3600 s"
