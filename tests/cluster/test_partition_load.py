"""Partitions move while their workspaces, and others, are used without pause."""

from __future__ import annotations

import os
import re
import signal

import asyncpg
import pytest

from hypha_common.subjects import partition_of
from hypha_workspace.partitions.copying import tables_there, workspaces_of
from tests.apps.kept_cluster import until as eventually
from tests.cluster.moving_load import MovingLoad, moving_load
from tests.cluster.operations import until
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.commands import run_command
from tests.fixtures.postgres import PostgresServer, postgres
from tests.fixtures.two_databases import Halves, user_in

__all__ = ["postgres"]

LOW, HIGH = range(32), range(32, 64)
MAX_PAUSE_S = 5.0  # the promise
_MORE = 5  # pieces of each kind of work
# What is told whoever calls meanwhile, connects, or calls by HTTP.
_MOVING = re.compile("is being moved to another database, try again|1013 .*please retry|503 .*please retry")


async def _move(hub: RunningCluster, workspace: str, to: str) -> None:
    arguments = (str(partition_of(workspace)), "--to", to, "--data-dir", str(hub.data_dir))
    moved = await run_command("hypha_workspace", "partitions", "move", *arguments)
    assert moved.status == 0, moved.err


async def _check(hub: RunningCluster) -> None:
    async def clean() -> bool:
        checked = await run_command("hypha_workspace", "partitions", "check", "--data-dir", str(hub.data_dir))
        assert checked.status in (0, 1), checked.err
        return checked.out == ""

    await eventually(clean)


async def _more(loads: list[MovingLoad]) -> None:
    """Wait until each workspace has done more of everything."""
    wanted = [load.count() + _MORE for load in loads]
    await until(lambda: all(load.count() >= count for load, count in zip(loads, wanted, strict=True)), timeout=60)


async def _left(url: str, workspace: str) -> bool:
    """Tell whether a database has any row of a workspace, in any table."""
    connection = await asyncpg.connect(url)
    try:
        there = await workspaces_of(connection, partition_of(workspace), await tables_there(connection))
        return workspace in there
    finally:
        await connection.close()


@pytest.mark.slow
async def test_moves_under_load(postgres: PostgresServer) -> None:
    """There and back: nothing acknowledged is lost, others notice nothing, and those who move wait for seconds."""
    halves = Halves(postgres, postgres)
    moving, others = user_in(LOW), [user_in(LOW), user_in(HIGH)]
    with halves.cluster("--gateways=2", "--workspace-replicas=2", storage=True) as hub:
        async with moving_load(hub, moving, *others) as loads:
            moved = loads[0]
            for to, left in (("high", halves.urls[0]), ("low", halves.urls[1])):
                await _more(loads)
                await _move(hub, moved.workspace, to)
                await _more(loads)
                assert not await _left(left, moved.workspace)
            for load in loads:
                await load.stop()
                await load.check_all_there()
        for load in loads[1:]:
            assert load.failures == {}
        assert "call" not in moved.failures  # whoever knows each other needs no database
        for kind, failures in moved.failures.items():
            assert [text for _, text in failures if not _MOVING.search(text)] == [], kind
        pauses = {kind: moved.pause_s(kind) for kind in moved.acknowledged}
        print("longest time without an answer:", {kind: round(pause, 2) for kind, pause in pauses.items()})
        assert max(pauses.values()) < MAX_PAUSE_S, pauses
        await _check(hub)
        assert hub.errors() == []


@pytest.mark.slow
async def test_a_replica_that_stands_still_during_a_move(postgres: PostgresServer) -> None:
    """It is stopped in the middle of its work and goes on when the partition is elsewhere: not in the old database."""
    halves = Halves(postgres, postgres)
    moving, other = user_in(LOW), user_in(LOW)
    with halves.cluster("--workspace-replicas=2") as hub:
        async with moving_load(hub, moving, other, artifacts=False) as loads:
            moved = loads[0]
            await _more(loads)
            frozen = hub.pids["workspace"][0]
            os.kill(frozen, signal.SIGSTOP)
            try:
                await _move(hub, moved.workspace, "high")
                assert not await _left(halves.urls[0], moved.workspace)
            finally:
                os.kill(frozen, signal.SIGCONT)
            await _more(loads)
            await _check(hub)  # it has heard, and no database has rows of what is elsewhere
            assert frozen in hub.pids["workspace"]
            for load in loads:
                await load.stop()
                await load.check_all_there()
            assert not await _left(halves.urls[0], moved.workspace)
