"""
One replica of each service for a whole module: `from tests.artifacts.shared import services, gateway, http`.

The module needs ``pytestmark = pytest.mark.asyncio(loop_scope="module")``, and workspaces of its own for each test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from hypha_artifacts.main import ArtifactsService
from hypha_common.settings import Settings
from hypha_workspace.main import WorkspaceService
from tests.artifacts.http_caller import HttpCaller
from tests.manager.rig import Client, Gateway, user

__all__ = ["alice", "gateway", "http", "services", "workspace"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(stack: Settings) -> AsyncIterator[ArtifactsService]:
    async with AsyncExitStack() as started:
        await WorkspaceService(stack, on_fatal=pytest.fail).start(started)
        artifacts = ArtifactsService(stack, on_fatal=pytest.fail)
        await artifacts.start(started)
        yield artifacts


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(stack: Settings, services: ArtifactsService) -> AsyncIterator[Gateway]:
    gateway = Gateway(stack)
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(services: ArtifactsService) -> AsyncIterator[HttpCaller]:
    async with httpx.AsyncClient() as client:
        yield HttpCaller(services, client)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(gateway: Gateway) -> Client:
    """A client of alice, in her own workspace."""
    return await gateway.connect(f"alice-{uuid4().hex[:8]}", user("alice"), "ws-user-alice")


@pytest_asyncio.fixture(loop_scope="module")
async def workspace(alice: Client) -> str:
    """A workspace of alice's, another one for each test."""
    name = f"ws-files-{uuid4().hex[:12]}"
    await alice.manager.create_workspace({"id": name, "name": name, "persistent": True})
    return name
