from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest
from hypha_rpc import connect_to_server

from hypha_apps.migrate import migrate
from hypha_common.db import Database, Shard
from hypha_common.settings import Settings
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.postgres import PostgresServer, postgres

__all__ = ["ConnectUser", "apps_database_url", "connect_user", "postgres", "shard"]


class ConnectUser(Protocol):
    """Connect to a gateway of the cluster with apps, as the user ``name`` (default: a new one), or as configured."""

    async def __call__(self, name: str = "", *, gateway: int = 0, **config: Any) -> Any: ...


@pytest.fixture
async def connect_user(apps_cluster: RunningCluster) -> AsyncIterator[ConnectUser]:
    async with AsyncExitStack() as stack:

        async def connect(name: str = "", *, gateway: int = 0, **config: Any) -> Any:
            options = {"server_url": apps_cluster.gateway_urls[gateway], "token": apps_cluster.user_token(name)}
            return await stack.enter_async_context(connect_to_server({**options, **config}))

        yield connect


@pytest.fixture(scope="session")
def apps_database_url(postgres: PostgresServer) -> str:
    """A database with the real migrations of the apps service; for tests that need nothing else."""
    url = postgres.create()
    migrate(Settings.load({"database_url": url}, environ={}))
    return url


@pytest.fixture
async def shard(apps_database_url: str) -> AsyncIterator[Shard]:
    """That database, with nothing in it."""
    database = Database(apps_database_url, application="test")
    await database.connect()
    for table in ("app_sessions", "app_replicas", "app_leases", "app_daemons", "app_autoscaling", "disabled_workers"):
        await database.home.execute(f"DELETE FROM {table}")
    yield database.home
    await database.close()


@pytest.fixture
def swept() -> Iterator[None]:
    """What clients have left open is found here, and not in the middle of somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
