from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from hypha_apps.core import Core
from hypha_apps.keeping.deleted import DeletedWorkspaces
from hypha_apps.keeping.rounds import LEASES
from hypha_apps.standing import Standing
from hypha_common import cluster_file
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.ids import new_id
from hypha_common.lease import Lease
from hypha_common.principal import Principal
from hypha_common.rpc.host import RoleHost
from hypha_common.settings import Settings
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.nats import nats_passwords

from .conftest import ConnectUser
from .kept_cluster import until


@pytest.fixture
async def core(apps_cluster: RunningCluster) -> AsyncIterator[Core]:
    """What one more replica works with, which serves nothing."""
    told = cluster_file.read(apps_cluster.data_dir)
    assert told is not None
    login = {"nats_user": "apps", "nats_password": nats_passwords(apps_cluster.data_dir)["apps"]}
    settings = Settings.load({**told, **login}, environ={})
    async with AsyncExitStack() as stack:
        database = Database.from_settings(settings, "test")
        await database.connect()
        stack.push_async_callback(database.close)
        bus = Bus.from_settings(settings, "apps", on_fatal=pytest.fail)
        await bus.connect()
        stack.push_async_callback(bus.close)
        host = RoleHost(bus, "apps", server_base_url=apps_cluster.url, drain_window_s=0, missing=list)
        yield Core.of(settings, bus, database, host)


async def kept(core: Core, workspace: str) -> int:
    """Return how many rows are kept for a workspace."""
    tables = ("app_daemons", "app_autoscaling", "disabled_workers")
    shard = core.database.for_workspace(workspace)
    counts = [await shard.fetchval(f"SELECT count(*) FROM {table} WHERE workspace = $1", workspace) for table in tables]
    return int(sum(counts))


async def keep(core: Core, workspace: str) -> None:
    standing = Standing(core.database)
    await standing.set_daemon(workspace, "app")
    await standing.set_autoscaling(workspace, "app", {"enabled": True}, Principal(id="somebody"))
    shard = core.database.for_workspace(workspace)
    await shard.execute("INSERT INTO disabled_workers VALUES ($1, $2)", workspace, "ws/client:worker")


async def test_with_a_workspace_goes_what_it_asked_for(core: Core, connect_user: ConnectUser) -> None:
    server = await connect_user()
    workspace = f"left-{new_id(8).lower()}"
    await server.create_workspace({"id": workspace, "name": workspace, "persistent": True})
    await Standing(core.database).set_autoscaling(workspace, "app", {"enabled": True}, Principal(id="somebody"))
    assert await kept(core, workspace) == 1
    await server.delete_workspace(workspace)

    async def gone() -> bool:
        return await kept(core, workspace) == 0

    await until(gone)


async def test_what_was_missed_is_found_later(core: Core, connect_user: ConnectUser) -> None:
    """A workspace has to be missed twice."""
    there, missing = (await connect_user()).config.workspace, f"ws-user-missing-{new_id(6).lower()}"
    sweep = DeletedWorkspaces(core)
    shard = core.database.for_workspace(there)
    await keep(core, there)
    await keep(core, missing)
    # A daemon of no app is soon forgotten by whoever would start it.
    assert await kept(core, missing) >= 2
    for expected in (True, False):
        lease = await Lease.take(shard, LEASES, "deleted", "test", seize=True)
        assert lease is not None
        await sweep.round(shard, lease)
        assert (await kept(core, missing) > 0) is expected
    assert await kept(core, there) >= 2
    await sweep.forget(there)
    assert await kept(core, there) == 0
