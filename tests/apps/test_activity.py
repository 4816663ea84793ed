"""What gateways tell of instances, and which of them nobody uses: on a real database."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from hypha_apps.keeping import activity_rows
from hypha_apps.keeping.activity import reports_of
from hypha_apps.keeping.activity_rows import Report
from hypha_common.db import Shard

from .session_rows import WORKSPACE, add_session, value_of


async def idle_for(shard: Shard, client_id: str) -> float:
    last: datetime = await value_of(shard, client_id, "last_active")
    return (datetime.now(UTC) - last).total_seconds()


async def take(shard: Shard, *gone: str) -> set[str]:
    places = [(WORKSPACE, client) for client in gone]
    async with shard.transaction() as connection:
        taken = await activity_rows.take_idle(connection, owner="us", gone=places, limit=100)
    assert {(session.owner, str(session.status)) for session in taken} <= {("us", "stopping")}
    return {session.client_id for session in taken}


async def test_the_latest_activity_counts_whatever_the_order(shard: Shard) -> None:
    client = await add_session(shard, ago_s=100)
    for idle_s, expected in ((30, 30), (60, 30), (10, 10), (1e9, 10)):
        assert await activity_rows.store(shard, [Report(WORKSPACE, client, idle_s, 7.5)]) == 1
        assert await idle_for(shard, client) == pytest.approx(expected, abs=2)
    assert await value_of(shard, client, "load") == 7.5


async def test_of_whom_there_is_no_session_nothing_is_kept(shard: Shard) -> None:
    ended = await add_session(shard, ago_s=100, status="stopped")
    told = [Report(WORKSPACE, client, 0, 1) for client in (ended, "nobody")]
    assert await activity_rows.store(shard, [*told, Report("elsewhere", ended, 0, 1)]) == 0
    assert await idle_for(shard, ended) > 90


def test_a_report_that_makes_no_sense_is_passed_over() -> None:
    told = {
        "ws/a": {"idle": 1, "load": 2},
        "ws/b": {"idle": -5, "load": math.nan},
        "ws/c": {"idle": math.inf, "load": 1},
        "ws/d": {"idle": "1"},
        "ws/e": {"idle": True},
        "ws/f": 3,
        "nowhere": {"idle": 1},
        7: {"idle": 1},
    }
    assert list(reports_of(told)) == [Report("ws", "a", 1, 2), Report("ws", "b", 0, 0)]


async def test_only_what_was_seen_idle_is_taken(shard: Shard) -> None:
    """Where nobody tells of an app its time does not run, unless it is not even connected."""
    idle = await add_session(shard, ago_s=20, told_ago_s=1, stop_after_inactive=12)
    await add_session(shard, ago_s=8, told_ago_s=1, stop_after_inactive=12)  # not yet
    await add_session(shard, ago_s=2000, told_ago_s=1, stop_after_inactive=0)  # never
    away = await add_session(shard, ago_s=1000, told_ago_s=995, stop_after_inactive=12)
    never_told = await add_session(shard, ago_s=1000, stop_after_inactive=12)
    await add_session(shard, ago_s=1000, told_ago_s=1, stop_after_inactive=12, status="starting")
    await add_session(shard, ago_s=1e6, told_ago_s=1, stop_after_inactive=1e300)
    assert await activity_rows.some_idle(shard)
    assert set(await activity_rows.silent(shard, 10)) == {(WORKSPACE, away), (WORKSPACE, never_told)}
    assert await take(shard) == {idle}
    assert await value_of(shard, idle, "reason") == "inactive for 12 s"
    assert await take(shard) == set()
    assert await take(shard, never_told) == {never_told}
    assert await value_of(shard, away, "status") == "running"


async def test_what_is_used_at_the_last_moment_stays(shard: Shard) -> None:
    client = await add_session(shard, ago_s=20, told_ago_s=1, stop_after_inactive=12)
    assert await activity_rows.some_idle(shard)
    await activity_rows.store(shard, [Report(WORKSPACE, client, 0.1, 1)])
    assert await take(shard, client) == set()


async def test_of_an_app_that_scales_all_stop_or_none(shard: Shard) -> None:
    one = await add_session(shard, ago_s=20, told_ago_s=1, stop_after_inactive=12, autoscaled=True)
    other = await add_session(shard, ago_s=2, told_ago_s=1, stop_after_inactive=12, autoscaled=True)
    assert await take(shard) == set()
    await shard.execute(
        "UPDATE app_sessions SET last_active = last_active - interval '20 s' WHERE client_id = $1", other
    )
    assert await take(shard) == {one, other}
