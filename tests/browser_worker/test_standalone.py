"""A browser worker that somebody starts by hand, and those of a server that another program serves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from hypha.server.data_directory import DataDirectory
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import TokenCodec
from tests.cluster.running_cluster import RunningCluster

from .pages import eventually, page_app

pytestmark = pytest.mark.browser

_COMMAND = (sys.executable, "-m", "hypha_browser_worker")


def _environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HYPHA_")}
    return {**inherited, "HYPHA_PRINT_CONFIG": "false", **{f"HYPHA_{name}": value for name, value in variables.items()}}


async def test_a_worker_of_a_user(start_cluster: Callable[..., RunningCluster], tmp_path: Path) -> None:
    """It runs the apps of its own workspace; the cluster has none. SIGTERM ends it with status 0."""
    cluster = start_cluster("--enable-server-apps", "--browser-workers=0", storage=True)
    refused = await asyncio.create_subprocess_exec(
        *_COMMAND, env=_environment(SERVER_URL=cluster.url, TOKEN="nonsense"), stderr=subprocess.PIPE
    )
    _, told = await asyncio.wait_for(refused.communicate(), 30)
    assert refused.returncode == 1
    assert b"hypha-browser-worker: The server refused the browser worker" in told.splitlines()[-1]
    token = cluster.user_token("ada")
    (tmp_path / "token").write_text(token)
    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        apps = await server.get_service("public/server-apps")
        await page_app(server, "one")
        with pytest.raises(RemoteException, match="No server app worker found"):
            await apps.start("one")
        variables = {"SERVER_URL": cluster.url, "WORKSPACE": "ws-user-ada", "TOKEN_FILE": str(tmp_path / "token")}
        worker = await asyncio.create_subprocess_exec(
            *_COMMAND, "serve", "--service-id=mine", "--client-id=by-hand", env=_environment(**variables)
        )

        async def started() -> Any:
            try:
                return await apps.start("one")
            except RemoteException as error:
                if "No server app worker found" in str(error):
                    return None
                raise

        session = await eventually(started, 40.0)
        assert session["worker_id"] == "ws-user-ada/by-hand:mine"
        page = await server.get_service(session["service_id"])
        assert await page.echo("here") == "here"
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 30) == 0


async def test_under_another_server(tmp_path: Path) -> None:
    """``hypha.server:app`` listens only when the start is over; its worker is there all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "hypha.server:app", f"--port={port}"]
    variables = {"ENABLE_SERVER_APPS": "true", "DATA_DIR": str(tmp_path / "data"), "PUBLIC_BASE_URL": url}
    with (tmp_path / "log").open("wb") as log:
        running = await asyncio.create_subprocess_exec(*command, env=_environment(**variables), stdout=log, stderr=log)

    async def up() -> bool:
        assert running.returncode is None, (tmp_path / "log").read_text()
        return "startup complete" in (tmp_path / "log").read_text()

    try:
        await eventually(up, 60.0)
        scope = Scope(workspaces={"ws-user-ada": Permission.ADMIN})
        token = TokenCodec(DataDirectory(str(tmp_path / "data")).read_secrets().jwt_secret).sign(
            Principal(id="ada", roles=("user",), scope=scope), life_s=600
        )
        async with connect_to_server({"server_url": url, "token": token}) as server:
            await page_app(server, "one")
            apps = await server.get_service("public/server-apps")
            session = await apps.start("one")
            assert await (await server.get_service(session["service_id"])).echo(1) == 1
    finally:
        running.terminate()
        assert await asyncio.wait_for(running.wait(), 40) in (0, -signal.SIGTERM)
