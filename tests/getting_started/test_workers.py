from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.scripts import StartScript

from .conftest import SNIPPETS


@pytest.fixture(scope="module")
def workers_cluster() -> Iterator[RunningCluster]:
    """A server whose startup functions are the document's Python worker, and ours for scripts."""
    running = RunningCluster(
        "--enable-server-apps", "--browser-workers=0",
        f"--startup-functions={SNIPPETS / 'custom_worker.py'}:hypha_startup",
        "--startup-functions=hypha.workers.python_eval:hypha_startup",
        environ={"HYPHA_WORKER_GRACE_PERIOD": "1"}, storage=True,
    )  # fmt: skip
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest.fixture
async def server(workers_cluster: RunningCluster) -> AsyncIterator[Any]:
    async with connect_to_server({"server_url": workers_cluster.url, "token": workers_cluster.user_token()}) as server:
        yield server


async def run_app(server: Any, app_type: str, app_id: str = "my-app") -> dict[str, Any]:
    """Install and start an app of a type, whose worker connects no client for it, and return its session."""
    apps = await server.get_service("public/server-apps")
    await apps.install(
        source="what its worker makes of it", app_id=app_id, manifest={"name": "My app", "type": app_type},
        wait_for_service=False,
    )  # fmt: skip
    session: dict[str, Any] = await apps.start(app_id)
    assert (session["app_type"], session["status"]) == (app_type, "running")
    assert [running["id"] for running in await apps.list_running()] == [session["id"]]
    return session


@pytest.mark.parametrize("app_type", ["custom-task", "background-job"])
async def test_python_worker(workers_cluster: RunningCluster, server: Any, app_type: str) -> None:
    apps = await server.get_service("public/server-apps")
    (worker,) = await apps.list_workers(app_type)
    assert (worker["name"], worker["description"]) == ("Custom Worker", "A custom worker for executing tasks")
    session = await run_app(server, app_type)
    assert session["worker_id"] == worker["id"]
    logs = await apps.get_logs(session["id"])
    assert logs == {
        "items": [{"type": "log", "content": "Started task for my-app"}], "total": 1, "offset": 0, "limit": None,
    }  # fmt: skip
    await apps.stop(session["id"])
    assert await apps.list_running() == []
    with pytest.raises(RemoteException, match="Permission"):  # it is the server's, not everybody's
        await (await server.get_service(worker["id"])).start({})


@pytest.mark.node
async def test_javascript_worker(workers_cluster: RunningCluster, server: Any, start_script: StartScript) -> None:
    code = (SNIPPETS / "custom_worker.js").read_text()
    # What the document leaves out: without an id the client refuses the service, without a token nobody shares its
    # workspace.
    additions = {
        'server_url: "http://localhost:9527"': (
            f'server_url: "{workers_cluster.url}", token: "{await server.generate_token()}", '
            f'workspace: "{server.config.workspace}"'
        ),
        'name: "JavaScript Custom Worker"': 'id: "custom-worker", name: "JavaScript Custom Worker"',
    }
    for old, new in additions.items():
        assert code.count(old) == 1
        code = code.replace(old, new)
    script = await start_script(code, language="js")
    registered = (await script.line(r"JavaScript worker registered: (\S+)$"))[1]
    apps = await server.get_service("public/server-apps")
    (worker,) = await apps.list_workers("js-worker")
    assert worker["id"] == re.sub(r"@.*", "", registered)
    assert worker["supported_types"] == ["javascript-custom", "js-worker"]
    session = await run_app(server, "javascript-custom")
    await script.line(r"Starting session \S+ for app my-app$")  # when it was installed
    await script.line(r"Stopping session \S+$")
    await script.line(rf"Starting session {session['id']} for app my-app$")
    logs = await apps.get_logs(session["id"])
    assert logs["items"] == [{"type": "log", "content": f"Session {session['id']} started"}]
    assert (await apps.get_logs(session["id"], type="error"))["items"] == []
    proxy = await server.get_service("custom-worker")
    assert (await proxy.get_session_info(session["id"]))["status"] == "running"
    listed = {one["session_id"]: one["status"] for one in await proxy.list_sessions(server.config.workspace)}
    assert listed[session["id"]] == "running"
    await apps.stop(session["id"])
    await script.line(rf"Stopping session {session['id']}$")
    assert (await proxy.get_session_info(session["id"]))["status"] == "stopped"
    other = await run_app(server, "js-worker", "my-other-app")
    assert (await apps.get_logs(other["id"]))["total"] == 1
    await apps.stop(other["id"])
    # A worker that goes away takes its sessions with it.
    again = await apps.start("my-app")
    await script.kill()
    while (await apps.get_session_info(again["id"]))["status"] != "stopped":
        await asyncio.sleep(0.1)
    assert await apps.list_running() == []


async def test_scripts_run_beside_the_server(server: Any) -> None:
    apps = await server.get_service("public/server-apps")
    (worker,) = await apps.list_workers("python-eval")
    assert worker["id"].startswith("public/")
    await apps.install(
        source="print('hello')", app_id="script", wait_for_service=False,
        manifest={"name": "Script", "type": "python-eval", "entry_point": "main.py"},
    )  # fmt: skip
    session = await apps.start("script")
    assert session["worker_id"] == worker["id"]
    assert (await apps.get_logs(session["id"], type="stdout"))["items"] == [{"type": "stdout", "content": "hello"}]
