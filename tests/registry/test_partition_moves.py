"""A partition goes from one database to another one, in steps of which each may be the last that a mover does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

import hypha_apps.migrate
import hypha_artifacts.migrate
import hypha_workspace.migrate
from hypha_common.db import Database
from hypha_common.errors import Conflict, Unavailable
from hypha_common.partition_map import Phase, read_places
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of
from hypha_workspace.partitions.mover import Mover
from hypha_workspace.stores import Stores
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.two_databases import workspace_in


class Alone:
    """A bus on which no replica answers."""

    role = "operator"
    instance = "tests000"

    def publish(self, subject: str, payload: bytes, *, reply: str = "") -> None:
        pass

    async def subscribe(self, subject: str, handler: object, *, queue: str = "") -> None:
        pass

    def unsubscribe(self, subscription: object) -> None:
        pass


@pytest.fixture
async def halves(postgres: PostgresServer) -> Settings:
    low, high = postgres.create(), postgres.create()
    values = {"database_url": low, "database_partitions": f"low:0-31={low},high:32-63={high}"}
    settings = Settings.load(values, environ={})
    for service in (hypha_apps, hypha_artifacts, hypha_workspace):
        await asyncio.to_thread(service.migrate.migrate, settings)
    return settings


@pytest.fixture
async def database(halves: Settings) -> AsyncIterator[Database]:
    database = Database.from_settings(halves, "hypha-workspace frozen")
    await database.connect()
    yield database
    await database.close()


async def rows(url: str, query: str, *values: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query, *values))
    finally:
        await connection.close()


@pytest.mark.parametrize("steps", range(6))
async def test_a_mover_that_dies(halves: Settings, database: Database, steps: int) -> None:
    """After any step: nobody writes who has not heard, and the next mover finishes with every row, in order."""
    stores = Stores.of(database, halves)
    moved, other = workspace_in(range(32)), workspace_in(range(32))
    partition = partition_of(moved)
    while partition_of(other) == partition:
        other = workspace_in(range(32))
    low, high = halves.workspace_databases
    for workspace in (moved, other):
        await rows(low, "INSERT INTO workspaces (id, name, owners, created_by) VALUES ($1, $1, '{}', 'a')", workspace)
        for number in range(5):
            await stores.queues.push(workspace, "q", bytes([number]))
    first = Mover(halves, Alone(), patience_s=0.1)  # type: ignore[arg-type]
    moving = first.move(partition, first.database("high"))
    for _ in range(steps):
        await anext(moving)
    await moving.aclose()
    if steps >= 3:  # it has been closed: whoever did not hear cannot write, in either database
        with pytest.raises(Unavailable):
            await stores.queues.push(moved, "q", b"lost")
        with pytest.raises(Unavailable):
            await stores.queues.push(moved, "q", b"lost")
    await stores.queues.push(other, "q", b"kept")
    second = Mover(halves, Alone(), patience_s=0.1)  # type: ignore[arg-type]
    done = [step async for step in second.move(partition, second.database("2"))]
    assert done if steps < 6 else not done
    database.apply(database.map.with_places(await read_places(database.home)))
    assert database.map.places[partition].phase is Phase.HERE
    assert [await stores.queues.take(moved, "q") for _ in range(5)] != [None] * 5
    assert database.for_workspace(moved).url == high
    assert not await rows(low, "SELECT FROM workspaces WHERE id = $1", moved)
    assert await rows(high, "SELECT FROM workspaces WHERE id = $1", moved)
    assert await stores.queues.length(other, "q") == 6


async def test_abort(halves: Settings, database: Database) -> None:
    stores, workspace = Stores.of(database, halves), workspace_in(range(32))
    partition, (low, high) = partition_of(workspace), halves.workspace_databases
    await rows(low, "INSERT INTO workspaces (id, name, owners, created_by) VALUES ($1, $1, '{}', 'a')", workspace)
    mover = Mover(halves, Alone(), patience_s=0.1)  # type: ignore[arg-type]
    moving = mover.move(partition, mover.database("high"))
    for _ in range(4):
        await anext(moving)
    await moving.aclose()
    assert await rows(high, "SELECT FROM workspaces WHERE id = $1", workspace)
    with pytest.raises(Conflict, match="not over"):
        await anext(mover.move((partition + 1) % 32, mover.database("high")))
    assert [step async for step in mover.abort(partition)]
    assert not await rows(high, "SELECT FROM workspaces WHERE id = $1", workspace)
    database.apply(database.map.with_places(await read_places(database.home)))
    await stores.queues.push(workspace, "q", b"open")
    with pytest.raises(Conflict, match="not being moved"):
        await anext(mover.abort(partition))
