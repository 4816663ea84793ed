from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hypha_common.db import Database, Shard
from hypha_common.errors import DeadlineExceeded, Unavailable
from hypha_common.ids import ServiceId
from hypha_common.settings import Settings
from hypha_workspace.migrate import migrate
from hypha_workspace.registry.sweep import Removed, audit, count_rows, sweep_gateways, unload_idle
from hypha_workspace.stores import Stores
from hypha_workspace.workspaces.record import Workspace
from tests.fixtures.postgres import PostgresServer

from .people import join, register, user

WS = "ws-user-alice"


@pytest.fixture
def shard(database: Database) -> Shard:
    return database.home


async def expire(shard: Shard, gateway: str) -> None:
    await shard.execute("UPDATE gateways SET expires_at = now() - interval '1 second' WHERE id = $1", gateway)


async def test_dead_gateway(stores: Stores, shard: Shard) -> None:
    dead = await join(stores, user(), "c1", gateway="dead")
    await register(stores, dead, "c1", "hello")
    alive = await join(stores, user(), "c2", gateway="alive")
    await register(stores, alive, "c2", "hello")
    assert await sweep_gateways(shard, grace_s=0) == Removed()
    await expire(shard, "dead")
    assert await sweep_gateways(shard, grace_s=0) == Removed([(WS, "c1")], ["dead"])
    assert [row.id.client for row in await stores.services.find(ServiceId(WS, "*", "hello"))] == ["c2"]
    assert await unload_idle(shard) == []
    await expire(shard, "alive")
    await sweep_gateways(shard, grace_s=0)
    [unloaded] = await unload_idle(shard)
    assert (unloaded.workspace.id, unloaded.deleted) == (WS, False)
    assert (await count_rows(shard)) == {"gateways": 0, "clients": 0, "services": 0, "workspaces": 0}


async def test_sweepers_share_the_work(stores: Stores, shard: Shard) -> None:
    for number in range(5):
        await join(stores, user(), f"c{number}", gateway=f"gateway{number}")
        await expire(shard, f"gateway{number}")
    passes = await asyncio.gather(*(sweep_gateways(shard, grace_s=0) for _ in range(6)))
    clients = [client for one in passes for client in one.clients]
    assert sorted(clients) == [(WS, f"c{number}") for number in range(5)]


async def test_client_that_moved_on_survives_its_old_gateway(stores: Stores, shard: Shard) -> None:
    await join(stores, user(), gateway="dead")
    moved = await join(stores, user(), gateway="alive")
    await register(stores, moved, "c1", "hello")
    await expire(shard, "dead")
    assert (await sweep_gateways(shard, grace_s=0)).clients == []
    assert len(await stores.services.find(ServiceId(WS, "*", "hello"))) == 1


async def test_transient_workspace_is_deleted_when_its_grace_period_ends(stores: Stores, shard: Shard) -> None:
    await stores.workspaces.create(Workspace(id="ws-temp", owners=("alice",)))
    await stores.environment.put("ws-temp", "KEY", 1)
    assert await unload_idle(shard) == [], "it waits for its first client"
    first = await join(stores, user(), workspace="ws-temp")
    await stores.clients.remove("ws-temp", "c1", first.generation, grace_s=3600)
    assert await unload_idle(shard) == []
    second = await join(stores, user(), workspace="ws-temp")
    assert not second.loaded, "it was never unloaded"
    await stores.clients.remove("ws-temp", "c1", second.generation, grace_s=0)
    [unloaded] = await unload_idle(shard)
    assert (unloaded.workspace.id, unloaded.deleted) == ("ws-temp", True)
    assert await stores.workspaces.get("ws-temp") is None
    assert await stores.environment.items("ws-temp") == {}


async def test_unloading_races_with_connecting(stores: Stores, shard: Shard) -> None:
    """Whoever is admitted is in a workspace that exists."""
    anonymous = user("anonymouz-x-1")
    workspace = "ws-user-anonymouz-x-1"
    admitted = await join(stores, anonymous)
    for _ in range(30):
        await stores.clients.remove(workspace, "c1", admitted.generation, grace_s=0)
        admitted, _ = await asyncio.gather(join(stores, anonymous), unload_idle(shard))
        assert await stores.workspaces.get(workspace) is not None
        await unload_idle(shard)
        assert await stores.workspaces.get(workspace) is not None


async def test_deletion_races_with_connecting(stores: Stores) -> None:
    for _ in range(20):
        await stores.workspaces.create(Workspace(id="ws-temp", owners=("alice",)))
        outcome, _ = await asyncio.gather(
            join(stores, user(), workspace="ws-temp"), stores.workspaces.delete("ws-temp"), return_exceptions=True
        )
        assert await stores.workspaces.get("ws-temp") is None
        assert await stores.clients.in_workspace("ws-temp") == [], outcome


async def test_last_clients_leave_at_the_same_time(stores: Stores, shard: Shard) -> None:
    for _ in range(10):
        admitted = [await join(stores, user(), f"c{number}") for number in range(4)]
        await asyncio.gather(
            *(stores.clients.remove(WS, f"c{number}", one.generation, grace_s=0) for number, one in enumerate(admitted))
        )
        assert [unloaded.workspace.id for unloaded in await unload_idle(shard)] == [WS]


async def test_audit_removes_what_should_not_be_there(stores: Stores, shard: Shard) -> None:
    kept = await join(stores, user(), "kept")
    await register(stores, kept, "kept", "hello")
    orphan = await join(stores, user("bob"), "orphan", gateway="lost")
    await register(stores, orphan, "orphan", "hello")
    await shard.execute("DELETE FROM gateways WHERE id = 'lost'")
    ghost = await join(stores, user("carol"), "ghost")
    await register(stores, ghost, "ghost", "hello")
    await shard.execute("DELETE FROM clients WHERE client_id = 'ghost'")
    await stores.workspaces.create(Workspace(id="ws-forgotten"))
    await shard.execute("DELETE FROM loaded_workspaces WHERE workspace = 'ws-forgotten'")

    repaired = await audit(shard, grace_s=0, forgotten_grace_s=0)
    assert repaired == Removed([("ws-user-bob", "orphan")], services=2)
    unloaded = {one.workspace.id: one.deleted for one in await unload_idle(shard)}
    assert unloaded == {"ws-user-bob": False, "ws-user-carol": False, "ws-forgotten": True}
    assert len(await stores.services.find(ServiceId(WS, "*", "hello"))) == 1
    assert await audit(shard, grace_s=0, forgotten_grace_s=0) == Removed()


async def test_lease(stores: Stores, shard: Shard) -> None:
    gateways = stores.gateways
    assert await gateways.renew("gateway1", connections=0, shards=[shard])
    await join(stores, user())
    assert await gateways.renew("gateway1", connections=1, load={"ws/c__rlb": 3}, shards=[shard])
    assert await gateways.load("ws", ["gateway1", "gateway2"]) == {"ws/c__rlb": 3}
    await expire(shard, "gateway1")
    await sweep_gateways(shard, grace_s=0)
    # It slept too long. A connection that is admitted meanwhile must not make it look known again.
    await join(stores, user(), "c2")
    assert not await gateways.renew("gateway1", connections=2, shards=[shard])
    assert not await gateways.renew("gateway1", connections=2, shards=[shard])
    await gateways.announced("gateway1", shards=[shard])
    assert await gateways.renew("gateway1", connections=2, shards=[shard])


async def test_reannounced_connections(stores: Stores, shard: Shard) -> None:
    lost = await join(stores, user(), "lost")
    intact = await join(stores, user(), "intact")
    old = await join(stores, user(), "moved")
    new = await join(stores, user(), "moved", gateway="gateway2")
    await shard.execute("DELETE FROM clients WHERE client_id = 'lost'")
    clients = [
        {"workspace": WS, "client_id": name, "generation": one.generation, "user": one.principal.dump()}
        for name, one in (("lost", lost), ("intact", intact), ("moved", old))
    ]
    clients.append({"workspace": "ws-gone", "client_id": "c", "generation": 1, "user": {"id": "x"}})
    outcome = await stores.clients.restore("gateway1", clients)
    assert outcome.intact == 1
    assert outcome.restored == [(WS, "lost", lost.generation)]
    assert outcome.superseded == [(WS, "moved", old.generation), ("ws-gone", "c", 1)]
    rows = {row.client_id: (row.generation, row.gateway) for row in await stores.clients.in_workspace(WS)}
    assert rows == {
        "lost": (lost.generation, "gateway1"),
        "intact": (intact.generation, "gateway1"),
        "moved": (new.generation, "gateway2"),
    }


@pytest.fixture
async def crashing(tmp_path: object) -> AsyncIterator[PostgresServer]:
    server = PostgresServer()
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.stop)


async def test_crash_of_postgres(crashing: PostgresServer) -> None:
    """UNLOGGED tables are empty afterwards; workspaces and the sequence of generations are not, pools come back."""
    settings = Settings.load({"database_url": crashing.url()}, environ={})
    await asyncio.to_thread(migrate, settings)
    database = Database.from_settings(settings, "tests")
    await database.connect()
    stores = Stores.of(database, settings)
    before = await join(stores, user())
    await asyncio.to_thread(crashing.crash)
    with pytest.raises(Unavailable):
        await database.ping()
    await asyncio.to_thread(crashing.start)
    await database.ping()
    assert await count_rows(database.home) == {"gateways": 0, "clients": 0, "services": 0, "workspaces": 0}
    assert not await stores.gateways.renew("gateway1", connections=1, shards=database.all())
    client = {"workspace": WS, "client_id": "c1", "generation": before.generation, "user": before.principal.dump()}
    assert (await stores.clients.restore("gateway1", [client])).restored == [(WS, "c1", before.generation)]
    await stores.gateways.announced("gateway1", shards=database.all())
    assert await stores.gateways.renew("gateway1", connections=1, shards=database.all())
    after = await join(stores, user())
    assert after.generation > before.generation
    assert not after.created
    assert after.previous_generation == before.generation
    await database.close()


async def test_statement_that_takes_too_long(shard: Shard) -> None:
    async def wait() -> None:
        async with shard.transaction() as connection:
            await connection.execute("SET LOCAL statement_timeout = 50")
            await connection.execute("SELECT pg_sleep($1)", 5.0)

    with pytest.raises(DeadlineExceeded):
        await wait()
