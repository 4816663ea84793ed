"""
The single-node overlay for real: what its containers would run, with their environments, files and secrets.

PostgreSQL is the one of the tests; everything else is started by the command line in the manifest.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypha_rpc import connect_to_server

from hypha.server.ports import free_port
from tests.deploy.kubernetes_secrets import secret_values
from tests.deploy.manifests import Workload, build
from tests.deploy.node import Node, Running
from tests.fixtures.postgres import PostgresServer, postgres

__all__ = ["postgres"]

_ROLES = ("auth", "workspace", "artifacts", "apps", "gateway")


@pytest.fixture
async def node(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Node]:
    manifests = build("single-node")
    values = {name: dict(found) for name, found in secret_values("single-node").items()}
    values["hypha-database"]["url"] = postgres.create().replace("127.0.0.1", "hypha-postgresql")
    running = Node(manifests, values, tmp_path)
    port = urlsplit(values["hypha-database"]["url"]).port
    running.put_elsewhere(f"hypha-postgresql:{port}", f"127.0.0.1:{port}")
    yield running
    await running.close()


def _one(name: str) -> Workload:
    return build("single-node").workload(name)


async def _migrated(node: Node) -> None:
    """Run the containers of the Job, all of them at once, as its pod does."""
    (job,) = [work for work in build("single-node").workloads if work.kind == "Job"]
    started = [await node.start(job, container) for container in job.containers]
    for running in started:
        assert await running.process.wait() == 0, running.said()


async def _started(node: Node, *names: str, extra: tuple[str, ...] = ()) -> list[Running]:
    return [await node.start(_one(name), _one(name).containers[0], extra) for name in names]


async def test_a_hub_of_the_single_node_overlay(node: Node) -> None:
    """Its services start in any order, wait for the schema, serve, and end within their grace periods."""
    services = await _started(node, *(f"hypha-{role}" for role in _ROLES if role != "gateway"), "nats")
    # Whatever listens in the store's pod beside S3 has a fixed port, and is at loopback there, too.
    others = [f"-{name}.port={_free()}" for name in ("master", "volume", "filer")]
    services += await _started(node, "hypha-object-store", extra=tuple(others))
    await services[-2].ready()
    services += await _started(node, "hypha-gateway")
    await _migrated(node)
    await _migrated(node)
    for running in services:
        await running.ready()
    root_token = secret_values("single-node")["hypha-cluster"]["root-token"]
    url = f"http://127.0.0.1:{node.port('hypha-gateway', 'http')}"
    async with connect_to_server({"server_url": url, "token": root_token}) as server:
        artifacts = await server.get_service("public/artifact-manager")
        made = await artifacts.create(alias="notes", manifest={"name": "Notes"}, stage=True)
        await artifacts.write_file(made.id, "one.txt", content="kept")
        await artifacts.commit(made.id)
        assert (await artifacts.read_file(made.id, "one.txt"))["content"] == "kept"
        if shutil.which("chromium") is not None:
            (worker,) = await _started(node, "hypha-browser-worker")
            await worker.ready()
            services.append(worker)
    await _operators_see_it(node)
    limits = {_one(f"hypha-{role}").component: _one(f"hypha-{role}") for role in _ROLES}
    ended = [running.end(limits["gateway"].pod["terminationGracePeriodSeconds"]) for running in reversed(services)]
    statuses = await asyncio.gather(*ended)
    assert set(statuses) == {0}, [running.said() for running in services if running.process.returncode]


async def _operators_see_it(node: Node) -> None:
    """Commands in the operators' pod work, with its NATS user."""
    pod = _one("hypha-operator")
    containers = {container["name"]: container for container in pod.containers}
    for name, arguments in {
        "gateway": ["hypha-gateway", "list"],
        "workspace": ["hypha-workspace", "list"],
        "auth": ["hypha-auth", "issue", "--workspace", "public"],
        "apps": ["hypha-apps", "workers"],
    }.items():
        command = await node.start(pod, {**containers[name], "command": arguments})
        assert await command.process.wait() == 0 and command.said().strip(), command.said()


def _free() -> int:
    # Its gRPC port is this one and 10000.
    while (port := free_port()) > 55535:
        pass
    return port
