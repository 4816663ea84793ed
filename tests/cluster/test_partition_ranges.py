"""Replicas that serve a range of partitions only."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from hypha_common import cluster_file
from hypha_common.operating import operator_bus
from hypha_common.roll_call import call_roll
from hypha_common.settings import Settings
from tests.apps.kept_cluster import until
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app
from tests.fixtures.nats import nats_passwords
from tests.fixtures.postgres import PostgresServer, postgres
from tests.fixtures.two_databases import Halves, user_in

__all__ = ["postgres"]

LOW, HIGH = range(32), range(32, 64)


@asynccontextmanager
async def replica(cluster: RunningCluster, role: str, partitions: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one more replica of a role, as another machine would."""
    told = Settings.load(cluster_file.read(cluster.data_dir), environ={})
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")},
        **told.replace(nats_user=role, nats_password=nats_passwords(cluster.data_dir)[role]).environment(),
        "HYPHA_SERVE_PARTITIONS": partitions,
        "HYPHA_LOG_LEVEL": "INFO",
    }
    with cluster.log_file.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"hypha_{role}", "serve", env=environ, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def replicas_there(cluster: RunningCluster) -> list[dict[str, Any]]:
    async with operator_bus(Settings.load(cluster_file.read(cluster.data_dir), environ={})) as bus:
        return [one for one in await call_roll(bus) if "serves" in one]


@pytest.mark.slow
async def test_two_replicas_with_half_of_the_partitions_each(postgres: PostgresServer) -> None:
    environ = {"HYPHA_SERVE_PARTITIONS": "0-31"}
    with Halves(postgres, postgres).cluster(
        "--enable-server-apps", "--browser-workers=0", environ=environ, storage=True
    ) as hub:
        async with AsyncExitStack() as stack, httpx.AsyncClient(timeout=20, follow_redirects=True) as http:

            async def enter(half: range) -> Any:
                config = {"server_url": hub.url, "token": hub.token_of(user_in(half))}
                return await stack.enter_async_context(connect_to_server(config))

            low = await enter(LOW)
            ready = await http.get(f"{hub.url}/health/readiness")
            assert ready.status_code == 200
            assert ready.json()["detail"]["store"] == "partitions 32-63: no replica serves them"
            orphan = user_in(HIGH)
            started = time.monotonic()
            answer = await http.get(
                f"{hub.url}/ws-user-{orphan.id}/services", headers={"Authorization": f"Bearer {hub.token_of(orphan)}"}
            )
            assert answer.status_code == 503, answer.text
            assert "No replica of role 'workspace' serves partition" in answer.text
            assert time.monotonic() - started < 5

            async with AsyncExitStack() as high_half:
                for role in ("workspace", "artifacts", "apps"):
                    await high_half.enter_async_context(replica(hub, role, "32-63"))

                async def whole() -> bool:
                    detail = (await http.get(f"{hub.url}/health/readiness")).json()["detail"]
                    roles = ("store", "artifacts", "apps")
                    return isinstance(detail, dict) and all(detail[role] == "ready" for role in roles)

                await until(whole, within_s=30)
                there = {(one["role"], one["serves"]) for one in await replicas_there(hub)}
                halves = {(role, half) for role in ("workspace", "artifacts", "apps") for half in ("0-31", "32-63")}
                assert halves <= there
                high = await enter(HIGH)
                await asyncio.gather(*(_work(server, hub, http) for server in (low, high)))
                # From one half to the other: services, artifacts, lists over all.
                for one, other in ((low, high), (high, low)):
                    echo = await one.register_service(
                        {"id": "echo", "config": {"visibility": "public"}, "echo": lambda x: x}
                    )
                    assert await (await other.get_service(echo["id"])).echo("x" * 2_000_000) == "x" * 2_000_000
                    artifacts = await other.get_service("public/artifact-manager")
                    assert (await artifacts.read(f"{one.config.workspace}/a")).manifest == {"name": "a"}
                await high.disconnect()
            with pytest.raises(RemoteException):
                # The manager of the low half looks into the other database by itself, but those who live there do not
                # come back while nobody serves them.
                await (await low.get_service(f"{high.config.workspace}/{high.config.client_id}:echo")).echo(1)
            assert await low.list_clients()
        assert [line for line in hub.errors() if "Traceback" not in line] == []


async def _work(server: Any, hub: RunningCluster, http: httpx.AsyncClient) -> None:
    """Use every service, in small calls and in large ones."""
    artifacts = await server.get_service("public/artifact-manager")
    await artifacts.create(alias="a", manifest={"name": "a"}, config={"permissions": {"*": "r"}})
    big = {"name": "b", "text": "x" * 900_000}  # in chunks, all of which belong to one replica
    await artifacts.create(alias="b", manifest=big)
    assert (await artifacts.read("b")).manifest == big
    for number in range(20):
        await server.register_service({"id": f"s{number}", "n": lambda: 1})
    assert len(await server.list_services()) >= 20
    await server.set_env("A", "1")
    assert await server.get_env("A") == "1"
    apps = await server.get_service("public/server-apps")
    async with app_worker(server, "ticker"):
        await create_app(server, "app", type="ticker")
        session = await apps.start("app")
        hello = await server.get_service("default@app")
        assert await hello.hello("Ada") == "hello Ada"
        await apps.stop(session["id"])
    answer = await http.get(f"{hub.url}/{server.config.workspace}/artifacts/a")
    assert answer.status_code == 200, answer.text
