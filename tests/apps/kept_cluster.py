"""What tests need that look behind a cluster with apps: its database, and waiting for something to become true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from hypha_common import cluster_file
from hypha_common.db import Database
from hypha_common.settings import Settings
from tests.cluster.running_cluster import RunningCluster

__all__ = ["database_of", "until"]

T = TypeVar("T")


@asynccontextmanager
async def database_of(cluster: RunningCluster) -> AsyncIterator[Database]:
    told = cluster_file.read(cluster.data_dir)
    assert told is not None
    database = Database.from_settings(Settings.load(told, environ={}), "test")
    await database.connect()
    try:
        yield database
    finally:
        await database.close()


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = 20.0, every_s: float = 0.05) -> T:
    """Return what ``look`` returns once that is true. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not (found := await look()):
            await asyncio.sleep(every_s)
        return found
