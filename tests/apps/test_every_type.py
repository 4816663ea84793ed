from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.cluster.running_cluster import RunningCluster

from .conftest import ConnectUser

pytestmark = pytest.mark.browser

_SCRIPT = """
console.log("the script runs");
api.export({
    hello(name) { return "hello " + name; },
    double(values) { return values.map(value => 2 * value); },
});
"""


def _plugin(kind: str, script: str, lang: str = "javascript") -> str:
    config = f'{{"name": "A {kind} app", "type": "{kind}", "version": "0.1.0"}}'
    return f'<config lang="json">{config}</config>\n<script lang="{lang}">{script}</script>'


_PAGE = """<!DOCTYPE html>
<html><body style="background: rgb(0, 128, 0)"><script type="module">
const {server_url, workspace, client_id, token} = window.__HYPHA__;
const rpc = await import(server_url + "/assets/hypha-rpc-websocket.mjs");
const connect = (rpc.hyphaWebsocketClient ?? rpc).connectToServer;
const api = await connect({server_url, workspace, client_id, token});
console.log("the script runs");
await api.registerService({
    id: "default",
    config: {visibility: "protected"},
    hello(name) { return "hello " + name; },
    double(values) { return values.map(value => 2 * value); },
});
</script></body></html>
"""

SOURCES = {
    "window": _plugin("window", _SCRIPT),
    "web-worker": _plugin("web-worker", _SCRIPT),
    "raw HTML": _PAGE,
}


@pytest.fixture
async def quick_idle_cluster() -> AsyncIterator[RunningCluster]:
    """A cluster that looks every half second for apps that nobody uses."""
    running = RunningCluster(
        "--enable-server-apps", "--gateways=2", storage=True, environ={"ACTIVITY_CHECK_INTERVAL": "0.5"}
    )
    try:
        yield running
        assert running.errors() == []
    finally:
        running.stop()


@pytest.mark.parametrize("kind", SOURCES)
async def test_installed_from_source_it_runs_in_chromium(connect_user: ConnectUser, kind: str) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    manifest = await apps.install(source=SOURCES[kind], app_id="mine")
    assert manifest["services"][0]["id"] == f"{server.config.workspace}/*:default"
    session = await apps.start("mine")
    service = await server.get_service(session["service_id"])
    assert await service.hello("Ada") == "hello Ada"
    assert await service.double([1, 2]) == [2, 4]
    logs = await apps.get_logs(session["id"], type="console")
    assert any("the script runs" in entry["content"] for entry in logs["items"])
    assert (await apps.take_screenshot(session["id"])).startswith(b"\x89PNG")
    await apps.stop(session["id"])
    assert await apps.list_running() == []
    await apps.uninstall("mine")


async def test_it_is_stopped_when_nobody_uses_it_and_started_when_somebody_does(
    quick_idle_cluster: RunningCluster,
) -> None:
    from hypha_rpc import connect_to_server

    cluster = quick_idle_cluster
    token = cluster.user_token()
    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        apps = await server.get_service("public/server-apps")
        await apps.install(source=SOURCES["web-worker"], app_id="sleepy", stop_after_inactive=1)
        session = await apps.start("sleepy")
        await _until_stopped(apps, session["id"])
        assert "inactive" in (await apps.get_session_info(session["id"]))["reason"]

        service = await server.get_service("default@sleepy")
        assert await service.hello("Ada") == "hello Ada"
        (running,) = await apps.list_running()
        assert running["id"] != session["id"]
        await _until_stopped(apps, running["id"])

        url = f"{cluster.gateway_urls[1]}/{server.config.workspace}/services/default@sleepy/hello"
        async with httpx.AsyncClient(timeout=70) as http:
            answer = await http.post(url, json=["Bob"], headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()) == (200, "hello Bob")


async def _until_stopped(apps: Any, session_id: str) -> None:
    deadline = time.monotonic() + 60
    while (await apps.get_session_info(session_id))["status"] != "stopped":
        assert time.monotonic() < deadline, "it still runs"
        await asyncio.sleep(0.2)
