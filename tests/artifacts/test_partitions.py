"""Workspaces in several databases: each artifact is where its workspace is, and its UUID tells where that is."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

import hypha_artifacts.migrate
from hypha_artifacts.main import ArtifactsService
from hypha_common.ids import new_id
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of
from hypha_workspace.main import WorkspaceService
from tests.artifacts.draft_files import committed, put
from tests.artifacts.people import Person, enter
from tests.fixtures.postgres import PostgresServer
from tests.manager.rig import Gateway, user


async def someone(gateway: Gateway, *, low: bool) -> Person:
    """Connect a user whose workspace is in the lower or the upper half of the partitions."""
    while True:
        name = f"u-{new_id(6).lower()}"
        if (partition_of(f"ws-user-{name}") < 32) == low:
            return await enter(gateway, user(name), f"ws-user-{name}")


@pytest.fixture
def halves(stack: Settings, postgres: PostgresServer, workspace_template: str) -> Settings:
    """Settings with a database for each half of the partitions."""
    low, high = (postgres.create(workspace_template) for _ in range(2))
    settings = stack.replace(database_partitions=f"0-31={low},32-63={high}")
    hypha_artifacts.migrate.migrate(settings)
    return settings


async def test_artifacts_of_two_databases(halves: Settings) -> None:
    settings, urls = halves, [run.url for run in halves.partitions]
    async with AsyncExitStack() as started:
        await WorkspaceService(settings, on_fatal=pytest.fail).start(started)
        service = ArtifactsService(settings, on_fatal=pytest.fail)
        await service.start(started)
        gateway = Gateway(settings)
        await gateway.start()
        started.push_async_callback(gateway.stop)
        low, high = await someone(gateway, low=True), await someone(gateway, low=False)
        for person, url in ((low, urls[0]), (high, urls[1])):
            made = await person.artifacts.create(
                alias="a", manifest={"name": person.workspace}, config={"permissions": {"*": "r"}}, stage=True
            )
            await put(service.core, made.id, "x", person.workspace.encode())
            await person.artifacts.commit("a")
            shard = service.core.database.for_workspace(person.workspace)
            assert shard.url == url
            assert await shard.fetchval("SELECT count(*) FROM artifacts") == 1
        for reader, owner in ((low, high), (high, low)):
            theirs = await reader.artifacts.read(f"{owner.workspace}/a")
            assert (await reader.artifacts.read(theirs._id, silent=True)).manifest == {"name": owner.workspace}
            copy = await reader.artifacts.duplicate(theirs._id, target_alias="copy")
            assert await committed(service.core, copy.id, "v0") == {"x": owner.workspace.encode()}
        await service.core.counters.flush()
        assert (await low.artifacts.read("a")).view_count == 2
