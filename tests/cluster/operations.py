from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil

from hypha_common.bus import Bus
from hypha_common.bus_permissions import OPERATOR
from hypha_common.errors import Unavailable
from hypha_common.settings import Settings
from hypha_common.subjects import gateway_verb, role_verb
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.nats import nats_passwords

__all__ = ["Operator", "operate", "registry_is_what_has_sockets", "until"]

Owner = tuple[str, int]  # gateway and generation


class Operator:
    """What somebody who runs a cluster can find out about it."""

    def __init__(self, environment: dict[str, str], bus: Bus) -> None:
        self.environment = environment
        self._bus = bus

    async def ask(self, role: str, verb: str, **message: Any) -> Any:
        """Ask any replica of a role, as another service would."""
        return await self._bus.request(role_verb(role, 0, verb), message)

    async def run(self, *command: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run an operator's command, such as ``hypha_auth blocked``, with the settings of the cluster's services."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", *command],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    async def registered(self, workspace: str) -> dict[str, Owner]:
        """Return the clients of a workspace in the registry, as ``hypha-workspace clients`` prints them."""
        done = await self.run("hypha_workspace", "clients", workspace)
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        return {row[0]: (row[1], int(row[2])) for row in rows}

    async def sockets(self, workspace: str, gateways: set[str]) -> dict[str, Owner]:
        """Return the clients of a workspace that have a socket, as the gateways tell; one may not be there any more."""
        found: dict[str, Owner] = {}
        for gateway in gateways:
            try:
                answer = await self._bus.request(gateway_verb(gateway, "connections"), {"limit": 100_000})
            except Unavailable:
                continue
            for row in answer["connections"]:
                if row["workspace"] == workspace:
                    address = f"{workspace}/{row['client_id']}"
                    assert address not in found, f"{address} has two sockets"
                    found[address] = (gateway, row["generation"])
        return found


@asynccontextmanager
async def operate(cluster: RunningCluster, *, user: str = OPERATOR) -> AsyncIterator[Operator]:
    """Look at a running cluster with the settings that its services were given, as one of the users of its NATS."""
    environment = psutil.Process(cluster.pids["workspace"][0]).environ()
    if (
        environment.get("HYPHA_NATS_USER") == "workspace"
    ):  # else all are one user of a NATS that is not the cluster's own
        environment |= {"HYPHA_NATS_USER": user, "HYPHA_NATS_PASSWORD": nats_passwords(cluster.data_dir)[user]}
    bus = Bus.from_settings(Settings.load({}, environ=environment), user, on_fatal=print)
    await bus.connect()
    try:
        yield Operator(environment, bus)
    finally:
        await bus.close()


async def registry_is_what_has_sockets(cluster: RunningCluster, workspace: str, *, timeout: float = 20.0) -> set[str]:
    """Wait until the registry says of a workspace what its gateways say; return the addresses of its clients."""
    async with operate(cluster) as operator, asyncio.timeout(timeout):
        while True:
            registered = await operator.registered(workspace)
            if registered == await operator.sockets(workspace, {gateway for gateway, _ in registered.values()}):
                return set(registered)
            await asyncio.sleep(0.2)


async def until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait for another process; fails after ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)
