from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from hypha_rpc import connect_to_server

from .command import emit, run
from .processes import ProcessTree
from .server_kinds import HUB_COMMAND, ROOT_TOKEN, server_kinds
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
    async with connect_to_server({"server_url": server.url, "workspace": _WORKSPACE, "token": ROOT_TOKEN}) as client:
        apps = await client.get_service("public/server-apps")
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
    memory = ProcessTree([server.pid]).pss_by_role()
    await _stop_all(apps)
    return {role: round(kib / 1024, 1) for role, kib in memory.items()}


async def _stop_all(apps: Any) -> None:
    for session in await apps.list_running():
        await apps.stop(session["id"])


async def _main(arguments: argparse.Namespace) -> None:
    kind = server_kinds(Path(), f"{HUB_COMMAND} --enable-server-apps")["hub"].with_storage()
    with contextlib.ExitStack() as stack:
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        server = stack.enter_context(start_server(kind, data_dir))
        results = await measure_apps(server, starts=arguments.starts, lookups=arguments.lookups)
    emit("apps", {"hub": results})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How long an app in a browser takes to start, and what it weighs.")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--lookups", type=int, default=20)
    run(_main(parser.parse_args()))
