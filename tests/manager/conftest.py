from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

import hypha_auth.migrate
from hypha_common.settings import Settings
from hypha_workspace.main import WorkspaceService
from tests.fixtures.auth import SECRET, nats_url
from tests.fixtures.postgres import PostgresServer, postgres, workspace_template
from tests.manager.rig import Gateway

__all__ = ["nats_url", "postgres", "workspace_template"]


@pytest.fixture(scope="session")
def stack(nats_url: str, postgres: PostgresServer, workspace_template: str) -> Settings:
    """The settings of services that share a database and a bus."""
    settings = Settings.load(
        {
            "nats_url": nats_url,
            "database_url": postgres.create(workspace_template),
            "jwt_secret": SECRET,
            "public_base_url": "http://hub.example",
            "max_services_per_client": 30,
            "max_workspaces_per_user": 5,
        },
        environ={},
    )
    hypha_auth.migrate.migrate(settings)
    return settings


@pytest.fixture
async def workspaces(stack: Settings) -> AsyncIterator[WorkspaceService]:
    """A replica of the workspace service."""
    service = WorkspaceService(stack, on_fatal=pytest.fail)
    async with AsyncExitStack() as started:
        await service.start(started)
        yield service


@pytest.fixture
async def gateway(stack: Settings, workspaces: WorkspaceService) -> AsyncIterator[Gateway]:
    gateway = Gateway(stack)
    await gateway.start()
    yield gateway
    await gateway.stop()
