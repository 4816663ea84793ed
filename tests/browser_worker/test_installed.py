"""Apps of each type, installed from their source and run in Chromium."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from .conftest import ConnectUser
from .pages import contents

pytestmark = pytest.mark.browser

_SCRIPT = """
console.log("runs");
api.export({
  setup() { console.log("set up"); },
  add: (a, b) => a + b,
  title: () => config.name,
  where: () => typeof WorkerGlobalScope === "undefined" ? "page" : "worker",
});
"""


def _source(kind: str, script: str = _SCRIPT) -> str:
    return (
        f'<config lang="json">{{"name": "Sum", "type": "{kind}"}}</config><script lang="javascript">{script}</script>'
    )


@pytest.mark.parametrize(("kind", "where"), [("window", "page"), ("web-worker", "worker")])
async def test_a_script(connect_user: ConnectUser, kind: str, where: str) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    manifest = await apps.install(_source(kind), app_id=f"sum-{kind}")
    assert manifest["entry_point"] == "index.html"
    session = await apps.start(manifest["id"])
    default = await server.get_service(session["service_id"])
    assert await default.add(3, 4) == 7
    assert [await default.title(), await default.where()] == ["Sum", where]
    assert {"console: [log] runs", "console: [log] set up"} <= set(await contents(apps, session, "set up"))
    await apps.stop(session["id"])


async def test_a_script_that_fails_is_told_at_once(connect_user: ConnectUser) -> None:
    """Not when the time is over that an app has to come up."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    started = time.monotonic()
    with pytest.raises(RemoteException, match="The script of the app failed: Error: nothing to be done"):
        await apps.install(_source("web-worker", "throw new Error('nothing to be done')"), app_id="fails", timeout=100)
    assert time.monotonic() - started < 60
    assert await apps.list_apps() == []


async def test_a_script_that_goes_on(connect_user: ConnectUser) -> None:
    """It is no failure that a script never ends: what it exported is there."""
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    script = "await api.export({ping: () => 'pong'}); await new Promise(() => {}); throw new Error('never')"
    await apps.install(_source("web-worker", script), app_id="endless")
    session = await apps.start("endless")
    assert await (await server.get_service(session["service_id"])).ping() == "pong"
    await apps.stop(session["id"])


async def test_a_raw_page(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    page = """<!DOCTYPE html><title>Raw</title><script type="module">
      import * as client from "/assets/hypha-rpc-websocket.mjs";
      const {server_url, workspace, client_id, token} = window.__HYPHA__;
      const connect = client.connectToServer ?? client.hyphaWebsocketClient.connectToServer;
      const api = await connect({server_url, workspace, client_id, token});
      await api.registerService({id: "default", title: () => document.title});
    </script>"""
    manifest = await apps.install(page, app_id="raw")
    assert (manifest["type"], manifest["name"]) == ("window", "Raw HTML App")
    session = await apps.start("raw")
    assert await (await server.get_service(session["service_id"])).title() == "Raw"
    await apps.stop(session["id"])


async def test_tenants_do_not_see_each_other(connect_user: ConnectUser) -> None:
    """Two users with apps of the same name, in the same browser."""
    servers: list[Any] = [await connect_user() for _ in range(2)]
    controllers = [await server.get_service("public/server-apps") for server in servers]
    script = "localStorage.owner ??= api.config.workspace; api.export({owner: () => localStorage.owner})"
    sessions = []
    for apps in controllers:
        await apps.install(_source("window", script), app_id="mine")
        sessions.append(await apps.start("mine"))
    for server, session in zip(servers, sessions, strict=True):
        assert await (await server.get_service(session["service_id"])).owner() == server.config.workspace
    for apps, session in zip(controllers, reversed(sessions), strict=True):
        with pytest.raises(RemoteException, match="Permission denied"):
            await apps.stop(session["id"])
        with pytest.raises(RemoteException, match="Permission denied"):
            await apps.get_logs(session["id"])
    for server, session in zip(servers, reversed(sessions), strict=True):
        with pytest.raises(RemoteException):
            await server.get_service(session["worker_id"])
    for apps, session in zip(controllers, sessions, strict=True):
        assert [running["id"] for running in await apps.list_running()] == [session["id"]]
        await apps.stop(session["id"])
