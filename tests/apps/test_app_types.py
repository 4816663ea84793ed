"""An app of each browser type, as docs/reference/app-templates.md shows it: installed, started, called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from hypha_browser_worker.pyodide_folder import make_folder
from tests.cluster.running_cluster import RunningCluster

from .conftest import ConnectUser
from .documented import documented_source

pytestmark = pytest.mark.browser


@asynccontextmanager
async def _running(
    server: Any, source: str, manifest: Any = None, files: Any = None
) -> AsyncIterator[tuple[Any, Any, dict[str, Any]]]:
    """Install and start an app; yield its service, the apps service and the session."""
    apps = await server.get_service("public/server-apps")
    installed = await apps.install(source=source, manifest=manifest, files=files)
    session = await apps.start(installed["id"])
    try:
        yield await server.get_service(session["service_id"]), apps, session
    finally:
        await apps.stop(session["id"])


def _texts(logs: Any, kind: str) -> list[str]:
    return [entry["content"] for entry in logs["items"] if entry["type"] == kind]


async def test_web_worker(connect_user: ConnectUser) -> None:
    async with _running(await connect_user(), documented_source('"Counter"')) as (service, apps, session):
        told: list[str] = []
        assert [await service.add(2, told.append), await service.add(3, told.append)] == [2, 5]
        assert told == ["now it is 2", "now it is 5"]
        logs = await apps.get_logs(session["id"])
        assert f"[log] ready, as {session['client_id']}" in _texts(logs, "console")
        assert _texts(logs, "error") == []
        assert (session["app_type"], session["entry_point"], session["name"]) == ("web-worker", "index.html", "Counter")
        assert {file["name"] for file in await apps.list_files(session["app_id"])} == {"index.html", "main.js"}


async def test_files_of_an_app(connect_user: ConnectUser) -> None:
    """A script imports others and requires scripts; what is edited and committed is what runs next."""
    script = """
    import {double} from "./lib/double.js";
    await api.export({config: {visibility: "public"}, run: (x) => [double(x), library, config.requirements]});
    """
    files = [
        {"name": "lib/double.js", "content": "export const double = (x) => 2 * x;"},
        {"name": "lib/library.js", "content": "var library = 'loaded';"},
    ]
    manifest = {"name": "Files", "type": "web-worker", "entry_point": "main.js", "requirements": ["lib/library.js"]}
    server = await connect_user()
    async with _running(server, script, manifest, files) as (service, apps, session):
        assert await service.run(2) == [4, "loaded", ["lib/library.js"]]
    app_id = session["app_id"]
    await apps.edit_file(app_id, "main.js", script.replace("double(x)", "-double(x)"))
    await apps.commit_app(app_id)
    service = await server.get_service(f"default@{app_id}")
    assert (await service.run(2))[0] == -4
    await apps.uninstall(app_id)


async def test_window(connect_user: ConnectUser) -> None:
    async with _running(await connect_user(), documented_source('"Painter"')) as (service, apps, session):
        assert await service.paint("red") == [255, 0, 0, 255]
        assert (await apps.take_screenshot(session["id"])).startswith(b"\x89PNG")


@pytest.mark.parametrize("type_", ["iframe", "window", None])
async def test_page(connect_user: ConnectUser, type_: str | None) -> None:
    manifest = type_ and {"type": type_, "name": "Echo"}
    async with _running(await connect_user(), documented_source("Echo"), manifest) as (service, _, session):
        assert await service.echo([1, "ü"]) == ["Echo" if type_ else "Raw HTML App", [1, "ü"]]
        assert session["app_type"] == (type_ or "window")


async def test_plugin(connect_user: ConnectUser) -> None:
    """The first tag decides; what the plugin shows is there before its script runs."""
    async with _running(await connect_user(), documented_source("name: Viewer")) as (service, _, session):
        assert await service.show("hello") == "rgb(0, 128, 0)"
        assert (session["app_type"], session["name"]) == ("window", "Viewer")


@pytest.mark.node
@pytest.mark.slow
async def test_web_python(node_modules: Path, tmp_path: Path, start_cluster: Callable[..., RunningCluster]) -> None:
    """From a folder that the hub serves, without the internet."""
    if not (node_modules / "pyodide").is_dir():
        pytest.skip("the npm package pyodide is not installed in tests/js: scripts/setup tests")
    make_folder(node_modules / "pyodide", tmp_path / "pyodide")
    flags = ("--enable-server-apps", f"--static-mounts=/pyodide:{tmp_path / 'pyodide'}", "--pyodide-url=/pyodide/")
    cluster: RunningCluster = start_cluster(*flags, storage=True)
    async with (
        connect_to_server({"server_url": cluster.url, "token": cluster.user_token()}) as server,
        _running(server, documented_source('"Statistics"')) as (service, apps, session),
    ):
        told: list[int] = []
        assert await service.mean([1, 2, 6], told.append) == 3
        assert told == [3]
        logs = await apps.get_logs(session["id"])
        assert f"[log] ready, as {session['client_id']}" in _texts(logs, "console")
    assert cluster.errors() == []


@pytest.mark.parametrize(
    ("source", "manifest", "expected"),
    [
        ("throw new Error('no camera')", {"type": "web-worker"}, "no camera"),
        ("document.body.append(x)", {"type": "window"}, "x is not defined"),
        ("api.export({})", {"type": "iframe"}, "iframe are pages"),
        ('<config>{"type": "window"}</config><script lang="typescript">x</script>', None, "TypeScript"),
    ],
)
async def test_apps_that_cannot_run(
    connect_user: ConnectUser, source: str, manifest: dict[str, Any] | None, expected: str
) -> None:
    """Who installs one is told at once, not after a timeout, and nothing of it is left."""
    apps = await (await connect_user()).get_service("public/server-apps")
    with pytest.raises(RemoteException, match=expected) as caught:
        await apps.install(source=source, manifest=manifest and {"name": "X", **manifest})
    assert "timed out" not in str(caught.value)
    assert await apps.list_apps() == []
