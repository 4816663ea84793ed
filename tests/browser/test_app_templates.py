"""Apps from their source: compiled, opened in Chromium, called from Python."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Browser
from playwright.async_api import Error as PageError

from tests.browser.app_pages import app_page, install
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

pytestmark = pytest.mark.browser

_IMAGING = """
import {double} from "./double.js";

console.log("config", JSON.stringify(Object.keys(config).sort()));
const where = typeof window === "undefined" ? "worker" : "page";
await api.export({
  config: {visibility: "public"},
  where: () => where,
  process: async (image, progress) => {
    await progress(0.5);
    const pixels = new Float32Array(image._rvalue.slice().buffer);
    return {...image, _rvalue: new Uint8Array(Float32Array.from(pixels, double).buffer)};
  },
  environment: () => Object.fromEntries(globalThis.env),
  hidden: () => typeof globalThis.__HYPHA__,
  library: () => globalThis.library,
  setup: () => { console.log("set up"); },
});
"""
_FILES = {
    "main.js": _IMAGING,
    "double.js": "export const double = (x) => 2 * x;",
    "lib/library.js": "var library = 'loaded'; if (this !== globalThis) throw new Error('not a classic script');",
}


@pytest.mark.parametrize(("type_", "where"), [("window", "page"), ("web-worker", "worker")])
async def test_javascript_apps(
    cluster: RunningCluster, connect: Connect, browser: Browser, type_: str, where: str
) -> None:
    """Modules of several files; arrays and callbacks; what the script is given; a setup that is called once."""
    token = cluster.user_token()
    server = await connect(token=token)
    manifest = await install(
        server,
        {
            "type": type_,
            "name": "Imaging",
            "entry_point": "main.js",
            "env": {"COLOUR": "red"},
            "requirements": ["lib/library.js"],
        },
        _FILES,
    )
    async with app_page(browser, cluster, server, manifest, token) as app:
        await app.started()
        service = await server.get_service(f"{app.client_id}:default")
        reports: list[Any] = []
        image = np.arange(6, dtype="float32").reshape(2, 3)
        np.testing.assert_array_equal(await service.process(image, reports.append), image * 2)
        assert reports == [0.5]
        assert await service.where() == where
        assert await service.hidden() == "undefined"
        assert await service.library() == "loaded"
        assert await service.environment() == {
            "COLOUR": "red",
            "HYPHA_SERVER_URL": cluster.url,
            "HYPHA_WORKSPACE": server.config.workspace,
            "HYPHA_CLIENT_ID": app.client_id,
            "HYPHA_TOKEN": token,
            "HYPHA_APP_ID": manifest["id"],
        }
        assert service.name == "Imaging"
        assert [line for line in app.console if "set up" in line] == ["[log] set up"]
        told = next(line for line in app.console if line.startswith("[log] config"))
        assert '"env"' in told and '"app_id"' in told and '"token"' not in told
        assert app.errors == []


@pytest.mark.parametrize("type_", ["window", "web-worker"])
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.js": "throw new Error('no camera');"}, "no camera"),
        ({"main.js": "export const x = ;"}, "SyntaxError"),
        ({"source": "import './missing.js';"}, "missing.js"),
        ({"main.js": "api.export({config: {visibility: 'secret'}})"}, "Assertion failed"),
    ],
)
async def test_script_that_fails(
    cluster: RunningCluster, connect: Connect, browser: Browser, type_: str, files: dict[str, str], expected: str
) -> None:
    """The start fails at once with its text, and the log has it, too."""
    token = cluster.user_token()
    server = await connect(token=token)
    manifest = await install(server, {"type": type_, "entry_point": next(iter(files))}, files)
    async with app_page(browser, cluster, server, manifest, token) as app:
        with pytest.raises(PageError, match=expected):
            await app.started()
        assert [expected in error for error in app.errors] == [True]


@pytest.mark.parametrize("type_", ["window", "web-worker"])
async def test_what_apps_write_later(cluster: RunningCluster, connect: Connect, browser: Browser, type_: str) -> None:
    """Lines, errors nobody caught, a failing setup: everything reaches the log, once, wherever the app runs."""
    token = cluster.user_token()
    server = await connect(token=token)
    script = """
    api.export({
      config: {visibility: "public"},
      setup: async () => { throw new Error("no disk"); },
      warn: (text) => console.warn(text),
      throw_later: () => { setTimeout(() => { throw new Error("too late"); }, 0); },
      reject_later: () => { Promise.reject(new Error("nobody waits")); },
    });
    """
    manifest = await install(server, {"type": type_, "entry_point": "source"}, {"source": script})
    async with app_page(browser, cluster, server, manifest, token) as app:
        await app.started()
        service = await server.get_service(f"{app.client_id}:default")
        await service.warn("hot")
        await service.throw_later()
        await service.reject_later()
        async with asyncio.timeout(10):
            while len(app.errors) < 2 or not any("no disk" in line for line in app.console):
                await app.page.wait_for_timeout(20)
        assert "[warning] hot" in app.console
        assert sorted("too late" in error for error in app.errors) == [False, True]
        assert sorted("nobody waits" in error for error in app.errors) == [False, True]


@pytest.mark.parametrize("type_", ["window", "web-worker"])
async def test_a_connection_that_breaks(
    cluster: RunningCluster, connect: Connect, browser: Browser, type_: str
) -> None:
    """It is made again by the client library, as the same client, and the service is there again; or another one."""
    token = cluster.user_token()
    server = await connect(token=token)
    script = """
    class Plugin {
      constructor() { this.config = {visibility: "public"}; this.set_up = 0; }
      setup() { this.set_up += 1; }
      state() { return this.set_up; }
      async export_again() { await api.export({config: this.config, state: () => "another", drop: () => 0}); }
      drop() { setTimeout(() => api.rpc._connection._websocket.close(4000, "test"), 0); }
    }
    api.export(new Plugin());
    """
    manifest = await install(server, {"type": type_, "entry_point": "source"}, {"source": script})
    async with app_page(browser, cluster, server, manifest, token) as app:
        await app.started()
        service = await server.get_service(f"{app.client_id}:default")
        await service.drop()
        async with asyncio.timeout(30):
            while not any("Successfully reconnected" in line for line in app.console):
                await app.page.wait_for_timeout(20)
        service = await server.get_service(f"{app.client_id}:default")
        assert await service.state() >= 1
        await service.export_again()
        service = await server.get_service(f"{app.client_id}:default")
        assert await service.state() == "another"
        assert app.errors == []


@pytest.mark.parametrize("type_", ["window", "web-worker"])
async def test_hostile_text(cluster: RunningCluster, connect: Connect, browser: Browser, type_: str) -> None:
    """A script may hold whatever text it likes, and a manifest, too: none of it becomes part of the page."""
    token = cluster.user_token()
    server = await connect(token=token)
    hostile = "</title></script><script>document.documentElement.dataset.taken = 1</script><!--<script>"
    script = f"""
    const text = {json.dumps(hostile)};
    api.export({{config: {{visibility: "public"}}, text: () => [text, config.name, config.icon]}});
    """
    manifest = {"type": type_, "name": hostile, "icon": hostile, "entry_point": "it's <b>&\"%41.js"}
    installed = await install(server, manifest, {manifest["entry_point"]: script})
    async with app_page(browser, cluster, server, installed, token) as app:
        await app.started()
        service = await server.get_service(f"{app.client_id}:default")
        assert await service.text() == [hostile] * 3
        assert await app.page.evaluate("document.documentElement.dataset.taken") is None
        assert await app.page.title() == hostile
