"""A partition goes from one database to another one, in steps of which each may be the last that a mover does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

import hypha_apps.migrate
import hypha_artifacts.migrate
import hypha_workspace.migrate
from hypha_common.db import Database
from hypha_common.errors import Conflict, Unavailable
from hypha_common.ids import Address
from hypha_common.partition_keeper import find_partitions
from hypha_common.partition_map import Phase
from hypha_common.principal import root_principal
from hypha_common.rpc.caller import Caller
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of
from hypha_workspace.partitions.mover import Mover
from hypha_workspace.queues.repository import Queues, Taken
from hypha_workspace.queues.service import TaskQueues
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
    await find_partitions(database)
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
    await find_partitions(database)
    await stores.queues.push(workspace, "q", b"open")
    with pytest.raises(Conflict, match="not being moved"):
        await anext(mover.abort(partition))


async def test_tasks_on_their_way(halves: Settings, database: Database) -> None:
    """Tasks that were taken before a move go back to their places after it, as do all that were never taken."""
    stores, queues = Stores.of(database, halves), Stores.of(database, halves).queues
    moved, there = workspace_in(range(32)), workspace_in(range(32, 64))
    low, high = halves.workspace_databases
    for url, workspace in ((low, moved), (high, there)):
        await rows(url, "INSERT INTO workspaces (id, name, owners, created_by) VALUES ($1, $1, '{}', 'a')", workspace)
        for number in range(5):  # with the same numbers in both databases
            await stores.queues.push(workspace, "q", bytes([number]))
    first, second = await queues.take(moved, "q"), await queues.take(moved, "q")
    assert first is not None
    assert second is not None
    mover = Mover(halves, Alone(), patience_s=0.1)  # type: ignore[arg-type]
    assert [step async for step in mover.move(partition_of(moved), mover.database("high"))]
    await find_partitions(database)
    await queues.push(moved, "q", b"new")
    for taken in (second, first, first):  # the last time because the answer was lost
        await queues.put_back(moved, "q", taken)
    assert await queues.peek(moved, "q", 9) == [b"\0", b"\1", b"\2", b"\3", b"\4", b"new"]
    assert await queues.length(moved, "q") == 6
    assert await queues.peek(there, "q", 9) == [bytes([number]) for number in range(5)]
    taken_all = [await queues.take(moved, "q") for _ in range(7)]
    assert [taken and taken.task for taken in taken_all] == [b"\0", b"\1", b"\2", b"\3", b"\4", b"new", None]
    assert await queues.length(there, "q") == 5


async def test_a_task_whose_caller_left_during_a_move(halves: Settings, database: Database) -> None:
    """It is put back when the partition is open again, wherever that is."""
    stores, workspace = Stores.of(database, halves), workspace_in(range(32))
    low = halves.workspace_databases[0]
    await rows(low, "INSERT INTO workspaces (id, name, owners, created_by) VALUES ($1, $1, '{}', 'a')", workspace)
    await stores.queues.push(workspace, "q", b"\x80")
    given = asyncio.Event()

    class Slow(Queues):
        """The answer of the database comes when its caller has left."""

        async def take(
            self, workspace: str, name: str, *, client_id: str = "", generation: int | None = None
        ) -> Taken | None:
            taken = await super().take(workspace, name, client_id=client_id, generation=generation)
            await given.wait()
            return taken

    service = TaskQueues(Slow(database), Alone())  # type: ignore[arg-type]
    target = Address(workspace, "manager")
    caller = Caller(root_principal(), workspace, Address(workspace, "leaves"), target, "queue.pop")
    popping = asyncio.create_task(service.pop("q", 0, context=caller))
    mover = Mover(halves, Alone(), patience_s=0.1)  # type: ignore[arg-type]
    while await stores.queues.length(workspace, "q"):
        await asyncio.sleep(0.01)
    popping.cancel()
    moving = mover.move(partition_of(workspace), mover.database("high"))
    for _ in range(4):  # it is closed, and not yet open again
        await anext(moving)
    await find_partitions(database)
    given.set()
    with pytest.raises(Unavailable, match="is being moved"):
        await stores.queues.length(workspace, "q")
    assert [step async for step in moving]
    await find_partitions(database)
    await service.close()  # waits for what is to be put back
    assert await stores.queues.peek(workspace, "q", 9) == [b"\x80"]
    assert database.for_workspace(workspace).name == "high"


async def test_a_sweep_that_has_not_heard(halves: Settings, database: Database) -> None:
    """Changes of a whole database wait until its process knows of every move there."""
    workspace = workspace_in(range(32))
    mover = Mover(halves, Alone(), patience_s=0.1)  # type: ignore[arg-type]
    shards = database.all()
    for shard in shards:
        assert await shard.execute("DELETE FROM bookmarks") == 0
    assert [step async for step in mover.move(partition_of(workspace), mover.database("high"))]
    for shard in shards:
        with suppress(Unavailable):  # its connection was ended, which it may have noticed
            await shard.ping()
        with pytest.raises(Unavailable, match="is being moved"):
            await shard.execute("DELETE FROM bookmarks")
    await find_partitions(database)
    for shard in shards:
        assert await shard.execute("DELETE FROM bookmarks") == 0
