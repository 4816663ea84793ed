"""Apps that HTTP starts: calls of their functions, and what they serve on the web."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypha_rpc.utils.serve import register_asgi_service

from tests.cluster.asgi_app import Shop
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser

PUBLIC = [{"id": "default", "config": {"visibility": "public"}}]
PROTECTED = [{"id": "default"}]


@pytest.fixture
async def http(apps_cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the second gateway; apps and workers are at the first."""
    async with httpx.AsyncClient(base_url=apps_cluster.gateway_urls[1], timeout=60) as client:
        yield client


def bearer(cluster: RunningCluster, server: Any) -> dict[str, str]:
    token = cluster.user_token(server.config.workspace.removeprefix("ws-user-"))
    return {"Authorization": f"Bearer {token}"}


async def test_a_call_starts_the_app(
    connect_user: ConnectUser, apps_cluster: RunningCluster, http: httpx.AsyncClient
) -> None:
    """However many ask for it at the same time, by the owner's token or by nobody's, one instance starts."""
    server = await connect_user()
    home = server.config.workspace
    async with app_worker(server) as worker:
        await create_app(server, "open", services=PUBLIC)
        path = f"/{home}/services/default@open"
        info = await http.get(path)
        assert (info.status_code, info.json()["app_id"], worker.started) == (200, "open", [])
        answers = await asyncio.gather(*(http.get(f"{path}/hello?name=Ada") for _ in range(10)))
        assert [(answer.status_code, answer.json()) for answer in answers] == [(200, "hello Ada")] * 10
        assert (await http.post(f"{path}/hello", json={"name": "Bob"})).json() == "hello Bob"
        assert len(worker.started) == 1


async def test_a_page_starts_the_app(
    connect_user: ConnectUser, apps_cluster: RunningCluster, http: httpx.AsyncClient
) -> None:
    """With all that the request brings: a body that comes before the app is there reaches it."""
    server = await connect_user()
    shop = Shop()

    async def behave(client: Any, config: Any) -> None:
        await register_asgi_service(client, "default", shop.app)

    async with app_worker(server, behaviour=behave) as worker:
        await create_app(
            server, "site", services=[{"id": "default", "type": "asgi", "config": {"visibility": "public"}}]
        )
        path = f"/{server.config.workspace}/apps/default@site"
        body = b"0123456789abcdef" * 2**16
        got = await http.post(f"{path}/upload", content=body)
        assert (got.status_code, got.json()["size"]) == (200, len(body))
        assert (await http.get(f"{path}/")).json() == {"hello": "world"}
        assert len(worker.started) == 1


async def test_nothing_is_started_for_who_may_not_use_it(
    connect_user: ConnectUser, apps_cluster: RunningCluster, http: httpx.AsyncClient
) -> None:
    owner, stranger = await connect_user(), await connect_user()
    home = owner.config.workspace
    async with app_worker(owner) as worker:
        await create_app(owner, "shut", services=PROTECTED)
        for headers in ({}, bearer(apps_cluster, stranger)):
            for path in ("services/default@shut/hello?name=x", "apps/default@shut/"):
                answer = await http.get(f"/{home}/{path}", headers=headers)
                assert answer.status_code == 403, answer.text
                assert "PermissionError" in answer.text
        missing = await http.get(f"/{home}/apps/other@shut/", headers=bearer(apps_cluster, owner))
        assert (missing.status_code, "other" in missing.text) == (404, True)
        assert worker.started == []
        mine = await http.get(f"/{home}/services/default@shut/hello?name=me", headers=bearer(apps_cluster, owner))
        assert mine.json() == "hello me"


async def test_a_start_that_fails(
    connect_user: ConnectUser, apps_cluster: RunningCluster, http: httpx.AsyncClient
) -> None:
    """Strangers are told that, and not what the app has written."""
    server = await connect_user()

    async def behave(client: Any, config: Any) -> None:
        raise ValueError("out of order")

    async with app_worker(server, behaviour=behave):
        await create_app(server, "broken", services=PUBLIC)
        path = f"/{server.config.workspace}/apps/default@broken/"
        mine = await http.get(path, headers=bearer(apps_cluster, server))
        assert mine.status_code == 500
        assert "Failed to start app 'broken', error: " in mine.text
        assert "[log] started" in mine.text
        theirs = await http.get(path)
        assert theirs.status_code == 500
        assert "[log]" not in theirs.text


async def test_whoever_hangs_up_waits_no_longer(connect_user: ConnectUser, apps_cluster: RunningCluster) -> None:
    """The start goes on, and others are served meanwhile."""
    server = await connect_user()
    go, asked = asyncio.Event(), asyncio.Event()

    async def behave(client: Any, config: Any) -> None:
        asked.set()
        await go.wait()
        await client.register_service({"id": "default", "config": {"visibility": "public"}, "ping": lambda: "pong"})

    async with app_worker(server, behaviour=behave) as worker, httpx.AsyncClient(timeout=60) as http:
        await create_app(server, "slow", services=PUBLIC)
        url = f"{apps_cluster.gateway_urls[1]}/{server.config.workspace}/services/default@slow/ping"
        waiting = asyncio.create_task(http.get(url))
        await asked.wait()
        assert (await http.get(f"{apps_cluster.gateway_urls[1]}/health/readiness")).json()["detail"]["apps"] == "ready"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()
        assert (await http.get(url)).json() == "pong"
        assert len(worker.started) == 1


async def test_list_of_apps(connect_user: ConnectUser, apps_cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    owner, stranger = await connect_user(), await connect_user()
    for name in ("one", "two"):
        await create_app(owner, name)
    path = f"/{owner.config.workspace}/apps"
    listed = await http.get(path, headers=bearer(apps_cluster, owner))
    assert listed.status_code == 200
    assert isinstance(listed.json(), list)
    for headers in ({}, bearer(apps_cluster, stranger)):
        refused = await http.get(path, headers=headers)
        assert refused.status_code == 404
        assert refused.json()["success"] is False
        assert "ermission" in refused.json()["detail"]
    assert (await http.get("/public/apps")).status_code in (200, 404)
