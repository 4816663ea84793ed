"""
Containers of manifests as processes on loopback: their command lines, environments and files, with addresses replaced.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypha.server.ports import free_port
from hypha.server.probe import status_of
from tests.deploy.manifests import Manifests, Workload
from tests.fixtures.loopback_server import program

__all__ = ["Node", "Running"]

_READY_TIMEOUT_S = 60.0
_POLL_S = 0.05


class Running:
    """A container's process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, url: str) -> None:
        self.process = process
        self.url = url  # of its readiness probe
        self._log = log

    async def ready(self) -> None:
        """Wait for its readiness probe. Fails where the process ends, or takes too long."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while await status_of(self.url) != 200:
            assert self.process.returncode is None and time.monotonic() < deadline, self.said()
            await asyncio.sleep(_POLL_S)

    async def end(self, limit_s: float) -> int:
        """Stop it as the kubelet does, and return its exit status; fails where it takes longer than ``limit_s``."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(limit_s):
            return await self.process.wait()

    def said(self) -> str:
        return self._log.read_text(errors="replace")


class Node:
    """A machine that runs the workloads of some manifests, each container once."""

    def __init__(self, manifests: Manifests, values: Mapping[str, Mapping[str, str]], folder: Path) -> None:
        self._manifests = manifests
        self._values = values
        self._folder = folder
        self._ports = {work.name: {port: free_port() for port in work.ports().values()} for work in manifests.workloads}
        self._addresses: dict[str, str] = {}  # host:port of Services, and where their pods listen here
        for service in manifests.of_kind("Service"):
            name = service["metadata"]["name"]
            for workload in manifests.selected(service["spec"]["selector"]):
                for port in service["spec"]["ports"]:
                    local = self._ports[workload.name][workload.ports()[port["targetPort"]]]
                    self._addresses[f"{name}:{port['port']}"] = f"127.0.0.1:{local}"
        self.processes: list[Running] = []

    def put_elsewhere(self, address: str, elsewhere: str) -> None:
        """Let something that tests run in another way stand for a Service: ``host:port`` both."""
        self._addresses[address] = elsewhere

    def port(self, workload: str, name: str) -> int:
        """Return where a named port of a workload is here."""
        found = self._manifests.workload(workload)
        return self._ports[found.name][found.ports()[name]]

    async def start(self, workload: Workload, container: Any, extra: Iterable[str] = ()) -> Running:
        """Start one container, with ``extra`` arguments."""
        root = self._folder / f"{workload.name}-{container['name']}"
        paths = self._written(workload, container, root)

        def local(text: str) -> str:
            return self._local(workload, paths, text)

        environ = self._manifests.environment(container, self._values)
        command = [*container.get("command", [_entry_point(container["image"])]), *container.get("args", [])]
        first, *arguments = map(local, command)
        root.mkdir(parents=True, exist_ok=True)
        log = root / "log"
        with log.open("ab") as stream:
            process = await asyncio.create_subprocess_exec(
                program(first), *arguments, *extra, stdout=stream, stderr=stream, cwd=root,
                env={"PATH": os.environ["PATH"], **{name: local(value) for name, value in environ.items()}},
            )  # fmt: skip
        probe = container.get("readinessProbe", {}).get("httpGet")
        url = ""
        if probe is not None:
            port = self._ports[workload.name][workload.ports()[probe["port"]]]
            url = f"http://127.0.0.1:{port}{probe['path']}"
        running = Running(process, log, url)
        self.processes.append(running)
        return running

    async def close(self) -> None:
        for running in self.processes:
            if running.process.returncode is None:
                running.process.kill()
                await running.process.wait()

    def _written(self, workload: Workload, container: Any, root: Path) -> dict[str, str]:
        """Write the files of a container's volumes below ``root``, and return where each mount is."""
        for path, text in self._manifests.files(workload, container, self._values).items():
            here = root / path.removeprefix("/")
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_text(self._local(workload, {}, text))
        mounts = {mount["mountPath"]: root / mount["mountPath"][1:] for mount in container.get("volumeMounts", [])}
        for here in mounts.values():
            here.mkdir(parents=True, exist_ok=True)
        return {mount: str(here) for mount, here in mounts.items()}

    def _local(self, workload: Workload, paths: Mapping[str, str], text: str) -> str:
        """Replace what only holds in a cluster: names of Services, the pod's own address and ports, mounted folders."""
        for address, here in self._addresses.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(address)}(?!\d)", here, text)
        text = text.replace("$(POD_IP)", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
        for port, here_port in self._ports[workload.name].items():
            text = re.sub(rf"(?<![\w.]){port}(?!\w)", str(here_port), text)
        if paths:
            mounts = "|".join(map(re.escape, sorted(paths, reverse=True)))
            text = re.sub(rf"(?<![\w/])({mounts})(?![\w-])", lambda found: paths[found[0]], text)
        return text


def _entry_point(image: str) -> str:
    """Return the program that an image of ours runs: ``hypha-auth`` for ``hypha-auth:0.1.0`` (deploy/Dockerfile)."""
    return image.rpartition("/")[2].partition(":")[0]
