"""What of autoscaling is in the database: who may scale now, and what has been lost or stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha_apps.keeping.scaling import Action
from hypha_apps.keeping.scaling_rows import ScaledApp, ScalingRows
from hypha_apps.session import Session
from hypha_common.db import Database, Shard
from hypha_common.principal import Principal
from hypha_common.wire import pack

from .session_rows import WORKSPACE, add_session, value_of


@pytest.fixture
async def rows(shard: Shard) -> AsyncIterator[ScalingRows]:
    database = Database(shard.url, application="test")
    await database.connect()
    await shard.execute(
        "INSERT INTO app_autoscaling (workspace, app_id, config, starter) VALUES ($1, 'app', $2, $3)",
        WORKSPACE, pack({"max_instances": 3}), pack(Principal(id="starter").dump()),
    )  # fmt: skip
    yield ScalingRows(database)
    await database.close()


async def look(shard: Shard, rows: ScalingRows) -> ScaledApp:
    (app,) = await rows.look(shard)
    return app


async def start(shard: Shard, rows: ScalingRows, app: ScaledApp, action: Action = Action.UP, below: int = 3) -> bool:
    async with shard.transaction() as connection:
        return await rows.claim_start(connection, app, action, below=below)


async def stop(shard: Shard, rows: ScalingRows, app: ScaledApp, above: int = 1) -> Session | None:
    async with shard.transaction() as connection:
        return await rows.claim_stop(connection, app, owner="us", above=above)


async def column(shard: Shard, name: str) -> Any:
    return await shard.fetchval(f"SELECT {name} FROM app_autoscaling")


async def test_the_situation_is_that_of_one_app_in_one_workspace(shard: Shard, rows: ScalingRows) -> None:
    first = await add_session(shard, told_ago_s=1, load=5.0)
    second = await add_session(shard, told_ago_s=40, load=7.0)  # nobody tells of it any more
    await add_session(shard, workspace="ws-user-other", told_ago_s=1)
    await add_session(shard, app_id="another", told_ago_s=1)
    await add_session(shard, stage=True, told_ago_s=1)
    await add_session(shard, status="failed")
    app = await look(shard, rows)
    assert app.running == {first: 5.0, second: None}
    assert app.changing == 0
    assert app.starter.id == "starter"
    assert app.config == {"max_instances": 3}
    for status in ("starting", "stopping"):
        await add_session(shard, status=status)
    assert (await look(shard, rows)).changing == 2


async def test_of_two_who_decide_the_same_one_does_it(shard: Shard, rows: ScalingRows) -> None:
    for load in (3.0, 1.0, 1.0):
        last = await add_session(shard, told_ago_s=1, load=load)
    one, other = await look(shard, rows), await look(shard, rows)
    taken = await stop(shard, rows, one)
    assert taken is not None
    assert (taken.client_id, str(taken.status), taken.reason) == (last, "stopping", "scaled down")
    assert await stop(shard, rows, other) is None
    await shard.execute("UPDATE app_sessions SET status = 'stopped' WHERE client_id = $1", last)
    one, other = await look(shard, rows), await look(shard, rows)
    assert await start(shard, rows, one)
    assert not await start(shard, rows, other)
    assert not await start(shard, rows, await look(shard, rows)), "too soon after the last"


async def test_limits_hold_however_old_the_decision_is(shard: Shard, rows: ScalingRows) -> None:
    await add_session(shard, told_ago_s=1)
    app = await look(shard, rows)
    assert await stop(shard, rows, app) is None, "never the last"
    for _ in range(2):
        await add_session(shard)
    assert not await start(shard, rows, app), "there are three"
    assert await column(shard, "scaled_up_at") is None


async def test_the_least_loaded_is_stopped(shard: Shard, rows: ScalingRows) -> None:
    clients = [await add_session(shard, told_ago_s=1, load=load) for load in (4.0, 2.0, 9.0)]
    taken = await stop(shard, rows, await look(shard, rows))
    assert taken is not None
    assert taken.client_id == clients[1]
    assert await value_of(shard, clients[0], "status") == "running"


async def test_it_begins_with_the_first_start(shard: Shard, rows: ScalingRows) -> None:
    assert not (await look(shard, rows)).situation.engaged
    await add_session(shard, status="starting")
    assert not (await look(shard, rows)).situation.engaged
    await shard.execute("UPDATE app_sessions SET status = 'running'")
    assert (await look(shard, rows)).situation.engaged


@pytest.mark.parametrize(
    ("reason", "engaged"),
    [("stopped by somebody", False), ("inactive for 12 s", False), ("its worker is gone", True), ("scaled down", True)],
)
async def test_what_was_stopped_on_purpose_does_not_come_back(
    shard: Shard, rows: ScalingRows, reason: str, engaged: bool
) -> None:
    await add_session(shard)
    await look(shard, rows)
    await shard.execute("UPDATE app_sessions SET status = 'stopped', ended_at = now(), reason = $1", reason)
    await add_session(shard, status="stopped", reason="inactive for 1 s")  # long ago
    await shard.execute("UPDATE app_sessions SET ended_at = now() - interval '1 h' WHERE ended_at IS NULL")
    assert (await look(shard, rows)).situation.engaged is engaged


async def test_replacements_are_further_and_further_apart(shard: Shard, rows: ScalingRows) -> None:
    pauses = []
    for _ in range(7):
        await shard.execute("UPDATE app_autoscaling SET next_try_at = now()")
        await add_session(shard, status="failed")  # the last one has just ended
        assert await start(shard, rows, await look(shard, rows), Action.REFILL, below=1)
        pauses.append(float(await column(shard, "extract(epoch FROM next_try_at - now())")))
    assert pauses == pytest.approx([10, 20, 40, 80, 160, 300, 300], abs=1)
    assert await column(shard, "scaled_up_at") is None, "no cooldown stands in the way of a replacement"
    await add_session(shard)
    assert not (await look(shard, rows)).due
    await shard.execute("UPDATE app_sessions SET started_at = now() - interval '61 s'")
    assert (await look(shard, rows)).due


async def test_a_start_that_failed_leaves_no_cooldown(shard: Shard, rows: ScalingRows) -> None:
    app = await look(shard, rows)
    assert await start(shard, rows, app)
    assert await column(shard, "scaled_up_at") is not None
    await rows.not_started(app)
    assert await column(shard, "scaled_up_at") is None
    assert not (await look(shard, rows)).due, "but not at once"
    await rows.started(app)
    assert (await look(shard, rows)).due
