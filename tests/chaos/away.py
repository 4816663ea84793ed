"""A gateway and a workspace replica of a hub in another place, at the far end of a wire that can be cut."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from hypha.server.ports import free_port
from hypha.server.probe import is_ready
from tests.cluster.balancer import forwarded
from tests.cluster.running_cluster import RunningCluster, error_lines
from tests.fixtures.link import Link

__all__ = ["Away", "away"]

_START_S = 30.0
_STOP_S = 40.0
_POLL_S = 0.05
# Where these processes find what the hub has on its own loopback.
_STORES = {"HYPHA_NATS_URL": Link.BUS, "HYPHA_DATABASE_URL": Link.DATABASE}
_LISTENS = {"gateway": ("HYPHA_HOST", "HYPHA_PORT"), "workspace": ("HYPHA_METRICS_HOST", "HYPHA_METRICS_PORT")}


class Away:
    """The processes, by role."""

    def __init__(self, link: Link, log_file: Path) -> None:
        self.link = link
        self.pids: dict[str, list[int]] = {}
        self.gateway_url = ""
        self._log_file = log_file

    def errors(self) -> list[str]:
        """Return the log lines of what these processes regard as their own fault."""
        return error_lines(self._log_file.read_text())

    async def start(self, role: str, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        """Start a process with the environment of one of the hub; returns when it is ready."""
        host, port = _LISTENS[role]
        number = free_port()
        own = {host: Link.AWAY, port: str(number)}
        command = ["ip", "netns", "exec", self.link.away, sys.executable, "-m", f"hypha_{role}", "serve"]
        with self._log_file.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, env={**environment, **own}, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        url = f"http://{Link.AWAY}:{number}"
        try:
            async with asyncio.timeout(_START_S):
                while not await is_ready(url):
                    assert process.returncode is None, self._log_file.read_text()[-3000:]
                    await asyncio.sleep(_POLL_S)
        except BaseException:
            process.kill()
            raise
        self.pids[f"away_{role}"] = [process.pid]
        if role == "gateway":
            self.gateway_url = url
        return process


@asynccontextmanager
async def away(link: Link, cluster: RunningCluster) -> AsyncIterator[Away]:
    """Start both for a hub that runs in ``link.hub``, from a thread that is there too."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hypha-test-away-")))
        made = Away(link, folder / "away.log")
        environments = {role: psutil.Process(cluster.pids[role][0]).environ() for role in _LISTENS}
        for name, address in _STORES.items():
            port = urlsplit(environments["workspace"][name]).port
            assert port is not None
            await stack.enter_async_context(forwarded(address, port, f"http://127.0.0.1:{port}"))
        for role, environment in environments.items():
            environment.pop("HYPHA_LISTEN_FDS", None)
            for name, address in _STORES.items():
                environment[name] = environment[name].replace("127.0.0.1", address)
            process = await made.start(role, environment)
            stack.push_async_callback(_end, process)
        yield made


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    async with asyncio.timeout(_STOP_S):
        await process.wait()
