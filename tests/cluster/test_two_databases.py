"""Workspaces in two databases, half of the partitions each, on two PostgreSQL servers."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from hypha_apps.standing import Standing
from hypha_common.principal import Principal
from tests.apps.kept_cluster import database_of, until
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app
from tests.fixtures.commands import run_command
from tests.fixtures.postgres import PostgresServer, postgres
from tests.fixtures.two_databases import Halves, user_in, workspace_in

__all__ = ["postgres"]

LOW, HIGH = range(32), range(32, 64)


@pytest.fixture(scope="module")
def high_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def halves(postgres: PostgresServer, high_server: PostgresServer) -> Halves:
    return Halves(postgres, high_server)


@pytest.fixture(scope="module")
def hub(halves: Halves) -> Iterator[RunningCluster]:
    """Every service but browsers, on two databases."""
    flags = ("--gateways=2", "--enable-server-apps", "--browser-workers=0")
    environ = {"HYPHA_S3_CLEANUP_PERIOD": "0.5", "HYPHA_S3_GRACE_PERIOD": "1"}
    with halves.cluster(*flags, environ=environ, storage=True) as running:
        yield running


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def enter(stack: AsyncExitStack, hub: RunningCluster, who: Principal, **config: Any) -> Any:
    config = {"server_url": hub.url, "token": hub.token_of(who), **config}
    return await stack.enter_async_context(connect_to_server(config))


async def rows(url: str, query: str, *values: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query, *values))
    finally:
        await connection.close()


async def test_workspaces_land_where_they_should(hub: RunningCluster, halves: Halves, stack: AsyncExitStack) -> None:
    for half, url, other in ((LOW, *halves.urls), (HIGH, *halves.urls[::-1])):
        who = user_in(half)
        server = await enter(stack, hub, who)
        made = await server.create_workspace({"name": workspace_in(half), "persistent": True})
        elsewhere = workspace_in(HIGH if half is LOW else LOW)
        await server.create_workspace({"name": elsewhere, "persistent": True})
        assert await rows(url, "SELECT FROM workspaces WHERE id = ANY($1)", [made["id"], server.config.workspace])
        assert not await rows(url, "SELECT FROM workspaces WHERE id = $1", elsewhere)
        assert await rows(other, "SELECT FROM workspaces WHERE id = $1", elsewhere)
        assert await rows(url, "SELECT FROM clients WHERE workspace = $1", server.config.workspace)
        # Both, whichever database they are in, and nothing that others have.
        listed = [workspace["id"] for workspace in await server.list_workspaces()]
        assert sorted(listed) == sorted({made["id"], elsewhere, server.config.workspace} & set(listed))
        assert {made["id"], elsewhere} <= set(listed)
        await server.delete_workspace(elsewhere)
        assert not await rows(other, "SELECT FROM workspaces WHERE id = $1", elsewhere)


async def test_services_of_both_are_found(hub: RunningCluster, stack: AsyncExitStack) -> None:
    low, high = await enter(stack, hub, user_in(LOW)), await enter(stack, hub, user_in(HIGH))
    for provider, caller in ((low, high), (high, low)):
        service = await provider.register_service(
            {"id": "echo", "type": "echo-of-halves", "config": {"visibility": "public"}, "echo": lambda x: x}
        )
        found = await caller.get_service(service["id"])
        assert await found.echo(provider.config.workspace) == provider.config.workspace
        async with httpx.AsyncClient(timeout=20) as http:
            answer = await http.get(f"{hub.gateway_urls[1]}/{provider.config.workspace}/services/echo/echo?x=1")
            assert answer.status_code == 200, answer.text
    for caller in (low, high):
        everywhere = await caller.list_services({"workspace": "*", "type": "echo-of-halves"})
        ids = sorted(service["id"] for service in everywhere)
        assert len(ids) == len(set(ids)) == 2
    root = await stack.enter_async_context(connect_to_server({"server_url": hub.url, "token": hub.root_token}))
    listed = [workspace["id"] for workspace in await root.list_workspaces()]
    assert len(listed) == len(set(listed))  # every database has a row of its own for `public`


async def test_artifacts_and_files(hub: RunningCluster, halves: Halves, stack: AsyncExitStack) -> None:
    for half, url in ((LOW, halves.urls[0]), (HIGH, halves.urls[1])):
        server = await enter(stack, hub, user_in(half))
        workspace = server.config.workspace
        artifacts = await server.get_service("public/artifact-manager")
        config = {"permissions": {"*": "r"}}
        made = await artifacts.create(alias="a", manifest={"name": "of halves"}, stage=True, config=config)
        address = await artifacts.put_file("a", "x.txt")
        async with httpx.AsyncClient(timeout=20) as http:
            assert (await http.put(address, content=b"old")).status_code == 200
            await artifacts.commit("a")
            assert (await http.get(f"{hub.url}/{workspace}/artifacts/a/files/x.txt")).content == b"old"
        assert await rows(url, "SELECT FROM artifacts WHERE id::text = $1", made["id"]) or made["id"].count("/")
        storage = await server.get_service("public/s3-storage")
        key = await storage.generate_credential()
        assert key["bucket"]
        assert await rows(url, "SELECT FROM s3_credentials WHERE workspace = $1", workspace)
        await artifacts.delete("a")

        async def swept(url: str = url, workspace: str = workspace) -> bool:
            return not await rows(url, "SELECT FROM blobs WHERE workspace = $1", workspace)

        await until(swept)  # the sweep looks after both


async def test_apps(hub: RunningCluster, halves: Halves, stack: AsyncExitStack) -> None:
    for half, url in ((LOW, halves.urls[0]), (HIGH, halves.urls[1])):
        server = await enter(stack, hub, user_in(half))
        apps = await server.get_service("public/server-apps")
        async with app_worker(server, "ticker") as worker:
            await create_app(server, "once", type="ticker")
            session = await apps.start("once")
            assert session["id"] in worker.started
            assert [running["id"] for running in await apps.list_running()] == [session["id"]]
            assert await rows(url, "SELECT FROM app_sessions WHERE workspace = $1", server.config.workspace)
            again = await server.get_service("default@once")
            assert await again.hello("Ada") == "hello Ada"
            await apps.stop(session["id"])
            await create_app(server, "always", type="ticker", daemon=True)
            async with database_of(hub) as database:
                await Standing(database).set_daemon(server.config.workspace, "always")

            async def runs(apps: Any = apps) -> Any:
                return await apps.list_running()

            (daemon,) = await until(runs)
            assert daemon["daemon"]
            await apps.stop(daemon["id"])
            assert await rows(url, "SELECT FROM app_daemons WHERE workspace = $1 AND held", server.config.workspace)


async def test_tokens_blocks_and_administration(hub: RunningCluster, stack: AsyncExitStack) -> None:
    root = await stack.enter_async_context(connect_to_server({"server_url": hub.url, "token": hub.root_token}))
    admin = await root.get_service("admin-utils")
    for half in (LOW, HIGH):
        who = user_in(half)
        server = await enter(stack, hub, who)
        token = await server.generate_token({"permission": "read_write"})
        friend = await stack.enter_async_context(connect_to_server({"server_url": hub.url, "token": token}))
        assert friend.config.workspace == server.config.workspace
        await server.revoke_token(token)
        listed = await admin.list_workspaces() if hasattr(admin, "list_workspaces") else []
        assert not listed or len([one["id"] for one in listed]) == len({one["id"] for one in listed})
        found = [client["id"] for client in await server.list_clients()]
        assert any(server.config.client_id in client for client in found)


async def test_operators(hub: RunningCluster, halves: Halves, stack: AsyncExitStack) -> None:
    servers = [await enter(stack, hub, user_in(half)) for half in (LOW, HIGH)]
    there = ("--data-dir", str(hub.data_dir))
    listed = await run_command("hypha_workspace", "list", *there)
    assert listed.status == 0, listed.err
    ids = [row[0] for row in listed.rows]
    assert len(ids) == len(set(ids))
    assert {server.config.workspace for server in servers} <= set(ids)
    where = await run_command("hypha_workspace", "where", *there)
    assert {server.config.workspace for server in servers} <= {row[0] for row in where.rows}
    for server in servers:
        inspected = await run_command("hypha_workspace", "inspect", server.config.workspace, *there)
        assert inspected.status == 0, inspected.err
    assert (await run_command("hypha_workspace", "ghosts", *there)).rows == []
    for module, verb in (("hypha_apps", "sessions"), ("hypha_apps", "daemons"), ("hypha_apps", "workers")):
        done = await run_command(module, verb, *there)
        assert done.status == 0, done.err


async def test_a_gateway_that_dies(hub: RunningCluster, halves: Halves, stack: AsyncExitStack) -> None:
    """Its lease ends in both databases, and what its clients had goes in both."""
    second = hub.gateway_urls[1]
    clients = [await enter(stack, hub, user_in(half), server_url=second) for half in (LOW, HIGH)]
    for url, client in zip(halves.urls, clients, strict=True):
        assert await rows(url, "SELECT FROM services WHERE workspace = $1", client.config.workspace)
        client.rpc._connection._enable_reconnect = False
    query = "SELECT gateway FROM clients WHERE workspace = $1"
    gateways = await rows(halves.urls[1], query, clients[1].config.workspace)
    os.kill(hub.pids["gateway"][1], signal.SIGKILL)
    for url, client in zip(halves.urls, clients, strict=True):
        workspace = client.config.workspace

        async def gone(url: str = url, workspace: str = workspace) -> bool:
            left = await rows(url, "SELECT FROM clients WHERE workspace = $1", workspace)
            return not left and not await rows(url, "SELECT FROM gateways WHERE id = $1", gateways[0]["gateway"])

        await until(gone, within_s=20)


async def test_a_database_that_restarts(
    hub: RunningCluster, halves: Halves, high_server: PostgresServer, stack: AsyncExitStack
) -> None:
    """What is in the other one goes on; what is in the lost one fails with a typed error, and comes back."""
    low, high = await enter(stack, hub, user_in(LOW)), await enter(stack, hub, user_in(HIGH))
    echo = await high.register_service({"id": "echo", "config": {"visibility": "public"}, "echo": lambda x: x})
    called = await low.get_service(echo["id"])
    high_server.crash()
    try:
        # Whoever knows each other goes on: frames need no database.
        assert await called.echo(1) == 1
        with pytest.raises(RemoteException, match=r"database is not available|did not answer"):
            await high.list_clients()
        await low.register_service({"id": "still", "still": lambda: "here"})
        assert await (await low.get_service("still")).still() == "here"
        artifacts = await low.get_service("public/artifact-manager")
        await artifacts.create(alias="still", manifest={"name": "still"})
        apps = await low.get_service("public/server-apps")
        async with app_worker(low, "ticker"):
            await create_app(low, "still-on", type="ticker")
            session = await apps.start("still-on")
            await apps.stop(session["id"])
        async with httpx.AsyncClient(timeout=20) as http:

            async def told() -> bool:
                ready = await http.get(f"{hub.url}/health/readiness")
                assert ready.status_code == 200, ready.text
                return "partitions 32-63" in ready.json()["detail"]["store"]

            await until(told)
        newcomer = await enter(stack, hub, user_in(LOW))
        await newcomer.list_clients()
    finally:
        high_server.start()

    async def back() -> Any:
        who = user_in(HIGH)
        async with connect_to_server({"server_url": hub.url, "token": hub.token_of(who)}) as again:
            return await again.list_clients()

    await until(back)
    async with httpx.AsyncClient(timeout=20) as http:

        async def ready() -> bool:
            answer = (await http.get(f"{hub.url}/health/readiness")).json()
            return bool(answer["detail"]["store"] == "ready")

        await until(ready)

    async def found() -> Any:
        """The registry was lost with the crash: its clients come back by themselves."""
        try:
            return await (await low.get_service(echo["id"])).echo(2)
        except (TimeoutError, RemoteException):
            return None

    assert await until(found, within_s=30) == 2
