"""When a daemon is started, and when it is left alone: on a real database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hypha_apps.keeping.daemon_rows import DaemonRows
from hypha_common.db import Database, Shard

from .session_rows import WORKSPACE, add_session


@pytest.fixture
async def rows(shard: Shard) -> AsyncIterator[DaemonRows]:
    database = Database(shard.url, application="test")
    await database.connect()
    await shard.execute("INSERT INTO app_daemons (workspace, app_id) VALUES ($1, 'app')", WORKSPACE)
    yield DaemonRows(database)
    await database.close()


async def claim(shard: Shard, rows: DaemonRows) -> list[str]:
    async with shard.transaction() as connection:
        return [daemon.app_id for daemon in await rows.claim(connection, 10)]


async def pause_s(shard: Shard) -> float:
    return float(await shard.fetchval("SELECT extract(epoch FROM next_try_at - now()) FROM app_daemons"))


async def let_time_pass(shard: Shard) -> None:
    await shard.execute("UPDATE app_daemons SET next_try_at = now() - interval '1 ms'")


async def test_one_that_does_not_run_is_claimed_once(shard: Shard, rows: DaemonRows) -> None:
    assert await rows.some_due(shard)
    assert await rows.waiting() == 1
    assert await claim(shard, rows) == ["app"]
    assert await claim(shard, rows) == []
    await let_time_pass(shard)  # whoever claimed it died
    assert await claim(shard, rows) == ["app"]


@pytest.mark.parametrize("status", ["starting", "running", "stopping"])
async def test_one_with_an_instance_is_let_be(shard: Shard, rows: DaemonRows, status: str) -> None:
    client = await add_session(shard, status=status)
    assert await claim(shard, rows) == []
    assert await rows.waiting() == 0
    await shard.execute("UPDATE app_sessions SET status = 'failed' WHERE client_id = $1", client)
    assert await claim(shard, rows) == ["app"]


async def test_a_draft_or_a_namesake_elsewhere_is_no_instance(shard: Shard, rows: DaemonRows) -> None:
    await add_session(shard, stage=True)
    await add_session(shard, workspace="ws-user-other")
    assert await claim(shard, rows) == ["app"]


async def test_tries_are_further_and_further_apart(shard: Shard, rows: DaemonRows) -> None:
    pauses = []
    for _ in range(11):
        await let_time_pass(shard)
        async with shard.transaction() as connection:
            (daemon,) = await rows.claim(connection, 1)
        await rows.tried(daemon)
        pauses.append(await pause_s(shard))
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300], abs=0.9)
    await add_session(shard)
    await rows.count_steady(shard)
    assert await pause_s(shard) > 200, "it has not been running for long"
    await shard.execute("UPDATE app_sessions SET started_at = now() - interval '61 s'")
    await rows.count_steady(shard)
    assert await shard.fetchval("SELECT tries FROM app_daemons") == 0
    assert await pause_s(shard) <= 0


async def test_without_a_worker_it_waits_for_one(shard: Shard, rows: DaemonRows) -> None:
    async with shard.transaction() as connection:
        (daemon,) = await rows.claim(connection, 1)
    assert await rows.without_worker(daemon)
    assert not await rows.without_worker(daemon), "told once"
    assert await claim(shard, rows) == []
    await rows.worker_came("ws-user-other")
    assert await claim(shard, rows) == []
    await rows.worker_came(WORKSPACE)
    assert await claim(shard, rows) == ["app"]
    await rows.worker_came(None)
    assert await claim(shard, rows) == ["app"]
    await rows.tried(daemon)
    assert await rows.without_worker(daemon), "there has been one meanwhile"


async def test_one_that_was_stopped_stays_so_until_it_is_started(shard: Shard, rows: DaemonRows) -> None:
    one, other = await add_session(shard), await add_session(shard)
    await rows.hold(WORKSPACE, one)
    await shard.execute("UPDATE app_sessions SET status = 'stopped'")
    assert await claim(shard, rows) == ["app"], "another one ran when it was stopped"
    await rows.hold(WORKSPACE, other)
    await let_time_pass(shard)
    assert await claim(shard, rows) == []
    assert await rows.waiting() == 0
    await rows.release(WORKSPACE, "app")
    assert await claim(shard, rows) == ["app"]


async def test_nothing_stays_stopped_when_the_first_replica_comes(shard: Shard, rows: DaemonRows) -> None:
    await rows.hold(WORKSPACE, await add_session(shard, status="stopping"))
    await shard.execute("UPDATE app_sessions SET status = 'stopped'")
    await shard.execute("INSERT INTO app_replicas VALUES ('other', now() + interval '5 s')")
    await rows.begin_anew("us")
    assert await claim(shard, rows) == []
    await shard.execute("UPDATE app_replicas SET expires_at = now() - interval '1 s'")
    await rows.begin_anew("us")
    assert await claim(shard, rows) == ["app"]
