from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psutil
import pytest
from hypha_rpc.rpc import RemoteException

from hypha.workers.python_eval import Limits, PythonEvalWorker
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import create_script

from .conftest import ConnectUser

_SERVICE = """
    import asyncio, os
    from hypha_rpc import connect_to_server

    async def main():
        names = ("server_url", "workspace", "client_id", "token")
        server = await connect_to_server({name: os.environ[f"HYPHA_{name.upper()}"] for name in names})
        print("connected as", server.config.client_id)

        async def leave():
            asyncio.get_running_loop().call_later(1, os._exit, 0)

        await server.register_service(
            {"id": "default", "add": lambda a, b: a + b, "app": lambda: os.environ["HYPHA_APP_ID"], "leave": leave}
        )
        await asyncio.Event().wait()

    asyncio.run(main())
"""


@pytest.fixture
async def server(connect_user: ConnectUser) -> AsyncIterator[Any]:
    server = await connect_user()
    worker = PythonEvalWorker(server, limits=Limits(sessions=3))
    await worker.initialize()
    yield server
    await worker.shutdown()


async def contents(apps: Any, session: Any, kind: str | None = None) -> list[str]:
    return [entry["content"] for entry in (await apps.get_logs(session["id"], type=kind))["items"]]


async def test_a_script_serves_until_it_is_stopped(server: Any) -> None:
    apps = await server.get_service("public/server-apps")
    await create_script(server, "adder", _SERVICE)
    session = await apps.start("adder")
    adder = await server.get_service("default@adder")
    assert (await adder.add(1, 2), await adder.app()) == (3, "adder")
    assert await contents(apps, session) == ["Started main.py", f"connected as {session['client_id']}"]
    assert await contents(apps, session, "stdout") == [f"connected as {session['client_id']}"]
    await apps.stop(session["id"])
    assert await apps.list_running() == []


async def test_a_session_ends_with_its_script_and_its_log_can_still_be_read(server: Any) -> None:
    apps = await server.get_service("public/server-apps")
    await create_script(server, "leaver", _SERVICE)
    session = await apps.start("leaver")
    await (await server.get_service("default@leaver")).leave()
    async with asyncio.timeout(40):
        while await apps.list_running():
            await asyncio.sleep(0.2)
    assert (await apps.get_session_info(session["id"]))["status"] == "stopped"
    assert await contents(apps, session, "stdout") == [f"connected as {session['client_id']}"]


async def test_a_script_that_serves_nothing(server: Any) -> None:
    apps = await server.get_service("public/server-apps")
    await create_script(server, "job", "import sys\nprint('done')\nsys.exit('but not well')")
    session = await apps.start("job", wait_for_service=False)  # that it fails is no error of the start
    assert await contents(apps, session) == [
        "Started main.py", "done", "but not well", "The script failed: it ended with exit status 1",
    ]  # fmt: skip
    async with asyncio.timeout(40):
        while await apps.list_running():
            await asyncio.sleep(0.2)
    assert await contents(apps, session, "stdout") == ["done"]
    with pytest.raises(RemoteException, match=r"the script failed: it ended with exit status 1(.|\n)*but not well"):
        await apps.start("job")  # somebody waits for its service


async def test_scripts_that_cannot_be_run(server: Any) -> None:
    apps = await server.get_service("public/server-apps")
    await create_script(server, "lost", "print(1)", entry_point="other.py")
    with pytest.raises(RemoteException, match=r"other.py of app 'lost': HTTP 404"):
        await apps.start("lost")
    await create_script(server, "nothing", "print(1)", entry_point=None)
    with pytest.raises(RemoteException, match="App 'nothing' has no entry point"):
        await apps.start("nothing")
    await create_script(server, "sleeper", "import time; time.sleep(100)")
    options = {"wait_for_service": False, "additional_kwargs": {"timeout": 0.2}}
    running = []
    for number in range(3):
        await create_script(server, f"sleeper-{number}", "import time; time.sleep(100)")
        running.append(await apps.start(f"sleeper-{number}", **options))
    with pytest.raises(RemoteException, match="This worker runs 3 scripts already"):
        await apps.start("sleeper", **options)
    await apps.stop(running[0]["id"])
    await apps.start("sleeper", **options)


async def test_a_draft_is_run_where_that_is_asked_for(server: Any) -> None:
    apps = await server.get_service("public/server-apps")
    await create_script(server, "edited", "print('committed')")
    artifacts = await server.get_service("public/artifact-manager")
    await artifacts.edit("edited", stage=True)
    async with httpx.AsyncClient() as http:
        url = await artifacts.put_file("edited", "main.py")
        (await http.put(url, content=b"print('draft')")).raise_for_status()
    draft = await apps.start("edited", stage=True, wait_for_service=False)
    committed = await apps.start("edited", wait_for_service=False)
    assert await contents(apps, draft, "stdout") == ["draft"]
    assert await contents(apps, committed, "stdout") == ["committed"]


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
async def test_a_worker_of_the_command_line(
    apps_cluster: RunningCluster, connect_user: ConnectUser, ending: signal.Signals
) -> None:
    user = f"command-line-{ending.name.lower()}"
    server = await connect_user(user)
    apps = await server.get_service("public/server-apps")
    await create_script(server, "adder", _SERVICE)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hypha.workers.python_eval", f"--server-url={apps_cluster.url}",
        "--service-id=scripts", "--client-id=worker-1", f"--workspace={server.config.workspace}",
        env={"HYPHA_TOKEN": apps_cluster.user_token(user), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        assert line.startswith(f"Worker registered: {server.config.workspace}/worker-1:scripts")
        session = await apps.start("adder")
        assert session["worker_id"] == f"{server.config.workspace}/worker-1:scripts"
        assert await (await server.get_service("default@adder")).add(3, 4) == 7
        scripts = psutil.Process(process.pid).children(recursive=True)
        assert len(scripts) == 2  # and its supervisor
        process.send_signal(ending)
        assert await asyncio.wait_for(process.wait(), 30) == (0 if ending is signal.SIGTERM else -ending)
        async with asyncio.timeout(10):
            while any(lives(one) for one in scripts):
                await asyncio.sleep(0.05)
        async with asyncio.timeout(40):
            while await apps.list_running():
                await asyncio.sleep(0.2)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_public_worker_runs_apps_of_others_and_serves_the_server_alone(connect_user: ConnectUser) -> None:
    owner, server = await connect_user(), await connect_user()
    worker = PythonEvalWorker(owner, visibility="public")
    await worker.initialize()
    apps = await server.get_service("public/server-apps")
    await create_script(server, "guest", "print('hello')")
    worker_id = f"{owner.config.workspace}/{owner.config.client_id}:{worker.service_id}"
    session = await apps.start("guest", worker_id=worker_id, wait_for_service=False)
    assert await contents(apps, session, "stdout") == ["hello"]
    direct = await server.get_service(worker_id)
    for call in (direct.get_logs(session["id"]), direct.stop(session["id"]), direct.shutdown(), direct.start({})):
        with pytest.raises(RemoteException, match="PermissionError"):
            await call
    await worker.shutdown()
