from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

import hypha_artifacts.migrate
import hypha_auth.migrate
from hypha_artifacts.core import Core
from hypha_artifacts.keeping.sweep import Sweep
from hypha_artifacts.main import ArtifactsService
from hypha_common.principal import root_principal
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of, role_verb
from hypha_workspace.main import WorkspaceService
from tests.fixtures.auth import SECRET, nats_url
from tests.fixtures.object_store import ObjectStore, object_store
from tests.fixtures.postgres import PostgresServer, postgres, workspace_template
from tests.manager.rig import Gateway

from .kept_rows import WORKSPACE

__all__ = ["nats_url", "object_store", "postgres", "workspace_template"]


@pytest.fixture(scope="session")
def stack(nats_url: str, postgres: PostgresServer, workspace_template: str, object_store: ObjectStore) -> Settings:
    """The settings of services that share a database, a bus and a store."""
    settings = Settings.load(
        {
            "nats_url": nats_url,
            "database_url": postgres.create(workspace_template),
            "jwt_secret": SECRET,
            "public_base_url": "http://hub.example",
            "enable_s3_proxy": True,
            **object_store.settings(),
        },
        environ={},
    )
    hypha_auth.migrate.migrate(settings)
    hypha_artifacts.migrate.migrate(settings)
    return settings


@pytest.fixture
async def services(stack: Settings) -> AsyncIterator[ArtifactsService]:
    """A replica of the workspace service and one of the artifacts service; the latter is returned."""
    async with AsyncExitStack() as started:
        await WorkspaceService(stack, on_fatal=pytest.fail).start(started)
        artifacts = ArtifactsService(stack, on_fatal=pytest.fail)
        await artifacts.start(started)
        yield artifacts


@pytest.fixture
async def gateway(stack: Settings, services: ArtifactsService) -> AsyncIterator[Gateway]:
    """Where `hypha-rpc` clients of this process connect: see :mod:`tests.manager.rig`."""
    gateway = Gateway(stack)
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture(scope="session")
def alone(stack: Settings, postgres: PostgresServer, workspace_template: str) -> Settings:
    """As ``stack``, but in a database that other tests leave nothing in, and without a grace period."""
    settings = stack.replace(database_url=postgres.create(workspace_template), s3_grace_period=0.0)
    hypha_artifacts.migrate.migrate(settings)
    return settings


@pytest.fixture
async def core(alone: Settings) -> AsyncIterator[Core]:
    """What sweep and verification work with, of services that have a workspace ``WORKSPACE`` with nothing in it."""
    async with AsyncExitStack() as started:
        await WorkspaceService(alone, on_fatal=pytest.fail).start(started)
        artifacts = ArtifactsService(alone, on_fatal=pytest.fail)
        await artifacts.start(started)
        core = artifacts.core
        # As the first connection of its user does.
        user = root_principal().dump() | {"id": WORKSPACE.removeprefix("ws-user-")}
        subject = role_verb("workspace", partition_of(WORKSPACE), "info")
        await core.bus.request(subject, {"workspace": WORKSPACE, "user": user}, timeout=5)
        yield core
        shard = core.database.for_workspace(WORKSPACE)
        await shard.execute("DELETE FROM artifacts")
        await Sweep(core).sweep(shard)
