from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from hypha_rpc import connect_to_server

from .command import emit, run
from .processes import ProcessTree
from .server_kinds import HUB_COMMAND, ROOT_TOKEN, ServerKind, server_kinds
from .server_process import ServerProcess, start_server

__all__ = ["measure_apps"]

_WORKSPACE = "ws-user-root"
_SOURCE = """
<config lang="json">{"name": "Bench", "type": "web-worker", "version": "0.1.0"}</config>
<script lang="javascript">
api.export({hello(name) { return "hello " + name }})
</script>
"""


async def measure_apps(server: ServerProcess, *, starts: int, lookups: int) -> dict[str, object]:
    """Install a web-worker app, then start it over and over: eagerly, by look-ups, by HTTP."""
    async with _connection(server) as client:
        apps = await _apps(client)
        started = time.perf_counter()
        await apps.install(source=_SOURCE, app_id="bench", overwrite=True)
        install_s = time.perf_counter() - started
        return {
            "install_s": round(install_s, 3),  # with the verification run, which launches the browser
            "start_s": await _each(starts, apps, lambda: apps.start("bench")),
            "get_service_s": await _each(starts, apps, lambda: _look_up(client)),
            "http_s": await _each(starts, apps, lambda: _by_http(server)),
            "parallel_look_ups": await _parallel(client, apps, lookups),
            "memory_MiB": await _memory(server, apps),
        }


def _connection(server: ServerProcess) -> Any:
    return connect_to_server({"server_url": server.url, "workspace": _WORKSPACE, "token": ROOT_TOKEN})


async def _apps(client: Any) -> Any:
    """Return the controller once there is a worker: a gateway answers before that."""
    apps = await client.get_service("public/server-apps")
    while not await apps.list_workers():
        await asyncio.sleep(0.1)
    return apps


async def _each(count: int, apps: Any, act: Callable[[], Awaitable[Any]]) -> list[float]:
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        await act()
        seconds.append(round(time.perf_counter() - started, 3))
        await _stop_all(apps)
    return seconds


async def _parallel(client: Any, apps: Any, lookups: int) -> dict[str, float]:
    started = time.perf_counter()
    await asyncio.gather(*(_look_up(client) for _ in range(lookups)))
    seconds = time.perf_counter() - started
    instances = len(await apps.list_running())
    await _stop_all(apps)
    return {"look_ups": lookups, "seconds": round(seconds, 3), "instances": instances}


async def _look_up(client: Any) -> None:
    service = await client.get_service("default@bench")
    assert await service.hello("bench") == "hello bench"


async def _by_http(server: ServerProcess) -> None:
    url = f"{server.url}/{_WORKSPACE}/services/default@bench/hello"
    async with httpx.AsyncClient(timeout=70) as http:
        answer = await http.post(url, json=["bench"], headers={"Authorization": f"Bearer {ROOT_TOKEN}"})
        answer.raise_for_status()


async def _memory(server: ServerProcess, apps: Any) -> dict[str, float]:
    """PSS by role with one app running."""
    await apps.start("bench")
    memory = _pss(server)
    await _stop_all(apps)
    return memory


async def _stop_all(apps: Any) -> None:
    for session in await apps.list_running():
        await apps.stop(session["id"])


async def _cold(kind: ServerKind, data_dir: Path) -> dict[str, object]:
    """Look a service up at a server that has just started: Chromium starts, too."""
    with start_server(kind, data_dir) as server:
        async with _connection(server) as client:
            apps = await _apps(client)
            idle = _pss(server)
            started = time.perf_counter()
            await _look_up(client)
            seconds = time.perf_counter() - started
            await _stop_all(apps)
    return {"seconds": round(seconds, 3), "in_the_worker": _last_split(data_dir), "idle_before_MiB": idle}


def _last_split(data_dir: Path) -> dict[str, float]:
    """Return how the worker spent the time of the last start, in ms, as it logged it."""
    lines = (data_dir / "output.log").read_text().splitlines()
    logged = json.loads([line for line in lines if '"session_started"' in line][-1])
    return {name: value for name, value in logged.items() if name.endswith("_ms")}


def _pss(server: ServerProcess) -> dict[str, float]:
    return {role: round(kib / 1024, 1) for role, kib in ProcessTree([server.pid]).pss_by_role().items()}


async def _main(arguments: argparse.Namespace) -> None:
    kind = server_kinds(Path(), f"{HUB_COMMAND} --enable-server-apps")["hub"].with_storage()
    kind = replace(kind, environment={**kind.environment, "HYPHA_LOG_LEVEL": "INFO", "HYPHA_LOG_FORMAT": "json"})
    with tempfile.TemporaryDirectory(prefix="bench-") as data_dir:
        with start_server(kind, Path(data_dir)) as server:
            warm = await measure_apps(server, starts=arguments.starts, lookups=arguments.lookups)
        cold = [await _cold(kind, Path(data_dir)) for _ in range(arguments.cold_starts)]
    emit("apps", {"hub": {"cold": cold, **warm}})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How long an app in a browser takes to start, and what it weighs.")
    parser.add_argument("--cold-starts", type=int, default=3, help="each at a server that has just started")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--lookups", type=int, default=20)
    run(_main(parser.parse_args()))
