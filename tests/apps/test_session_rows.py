"""Who gets a session, and who may change it: the rules that the database keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hypha_apps.errors import StartFailed, StartLost
from hypha_apps.keeping.upkeep import Upkeep
from hypha_apps.session import Session, Status
from hypha_apps.sessions import Sessions
from hypha_common.db import Database, Shard
from hypha_common.errors import NotFound, QuotaExceeded
from hypha_common.ids import Address
from hypha_common.principal import Principal

from .session_rows import WORKSPACE, add_session, value_of

WORKER = Address("public", "browser")


@pytest.fixture
async def database(shard: Shard, apps_database_url: str) -> AsyncIterator[Database]:
    found = Database(apps_database_url, application="test")
    await found.connect()
    yield found
    await found.close()


@pytest.fixture
def sessions(database: Database) -> Sessions:
    return Sessions(database)


@pytest.fixture
def upkeep(database: Database) -> Upkeep:
    return Upkeep(database)


async def claim(
    sessions: Sessions, client: str, *, wanted: str | None = None, owner: str = "one", limit: int = 100, **row: Any
) -> tuple[Session, bool]:
    whole = {
        "workspace": WORKSPACE, "client_id": client, "app_id": "app", "stage": False, "variant": "v0",
        "exclusive": True, "wait_for": "default", "deadline": datetime.now(UTC) + timedelta(seconds=60), "record": {},
        "daemon": False, "worker_managed": False, "autoscaled": False, "stop_after_inactive": 0.0, **row,
    }  # fmt: skip
    starter = Principal(id="somebody").dump()
    return await sessions.claim(whole, owner=owner, starter=starter, limit=limit, wanted=wanted)


async def test_one_of_all_gets_it(sessions: Sessions) -> None:
    found = await asyncio.gather(*(claim(sessions, f"c{number}") for number in range(20)))
    assert sum(ours for _, ours in found) == 1
    assert len({session.client_id for session, _ in found}) == 1


async def test_who_gives_way_to_whom(sessions: Sessions) -> None:
    """The same app of another workspace, a draft, and a version that was asked for stand in nobody's way."""
    first, _ = await claim(sessions, "c1")
    assert await claim(sessions, "c2", variant="v1") == (first, False)
    for number, row in enumerate(({"workspace": "ws-other"}, {"stage": True}, {"app_id": "app2"})):
        assert (await claim(sessions, f"d{number}", **row))[1]
    assert (await claim(sessions, "c3", variant="v1", wanted="v1"))[1]
    assert await claim(sessions, "c4", wanted="v0") == (first, False)
    assert (await claim(sessions, "c5", exclusive=False))[1]
    await sessions.take_to_stop(WORKSPACE, "c1", owner="one", reason="")
    assert (await claim(sessions, "c6", wanted="v0"))[0].client_id == "c5"  # whatever runs will do


async def test_no_more_than_a_workspace_may_have(sessions: Sessions) -> None:
    """However many ask at the same time; for what runs already nothing is needed."""
    asked = (claim(sessions, f"c{number}", app_id=f"app{number}", limit=3) for number in range(10))
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, QuotaExceeded) for one in found) == 7
    (session, ours) = next(one for one in found if isinstance(one, tuple))
    assert ours
    assert (await claim(sessions, "other", app_id=session.app_id, limit=3))[0].client_id == session.client_id


async def test_who_was_held_up_changes_nothing(shard: Shard, sessions: Sessions, upkeep: Upkeep) -> None:
    """Once another replica has taken over what one was starting, all that the first one still writes is void."""
    session, _ = await claim(sessions, "c1", owner="frozen")
    await upkeep.renew(shard, "frozen")
    await upkeep.renew(shard, "other")
    assert await upkeep.adopt(shard, "other") == []
    await shard.execute("UPDATE app_replicas SET expires_at = now() WHERE instance = 'frozen'")
    (adopted,) = await upkeep.adopt(shard, "other")
    assert (adopted.owner, adopted.status) == ("other", Status.STARTING)
    await upkeep.renew(shard, "frozen")  # it wakes
    assert await sessions.assign(session, "w", WORKER, "token") is None
    assert await sessions.run(session, {}) is None
    assert await sessions.take_to_fail(session, StartFailed("late")) is None
    await sessions.write_record(session, {"late": True})
    assert await sessions.end(session) is None
    assert (await sessions.get(WORKSPACE, "c1")) == adopted
    assert (await sessions.run(adopted, {"services": []})) is not None
    assert await upkeep.adopt(shard, "third") == []  # what runs needs no replica


async def test_two_that_adopt_do_not_both(shard: Shard, sessions: Sessions, upkeep: Upkeep) -> None:
    for number in range(10):
        await claim(sessions, f"c{number}", app_id=f"app{number}", owner="dead")
    replicas = [f"r{number}" for number in range(5)]
    for replica in replicas:
        await upkeep.renew(shard, replica)
    adopted = await asyncio.gather(*(upkeep.adopt(shard, replica) for replica in replicas))
    assert sorted(one.client_id for some in adopted for one in some) == sorted(f"c{number}" for number in range(10))


async def test_what_takes_much_too_long_is_anybodys(shard: Shard, sessions: Sessions, upkeep: Upkeep) -> None:
    """Once: who takes it over has some time for it, too."""
    await upkeep.renew(shard, "one")
    await claim(sessions, "c1", deadline=datetime.now(UTC) - timedelta(seconds=29))
    assert await upkeep.adopt(shard, "two") == []
    await shard.execute("UPDATE app_sessions SET deadline = deadline - interval '2 s'")
    assert [session.client_id for session in await upkeep.adopt(shard, "two")] == ["c1"]
    await upkeep.renew(shard, "two")
    assert await upkeep.adopt(shard, "three") == []


@pytest.mark.parametrize(
    "failure", [StartFailed("no"), StartLost("gone"), NotFound("x", rpc_type="WorkerNotFoundError")]
)
async def test_failure_is_kept_as_it_is(sessions: Sessions, failure: Any) -> None:
    session, _ = await claim(sessions, "c1")
    taken = await sessions.take_to_fail(session, failure)
    assert taken is not None
    found = await sessions.failed(WORKSPACE, "app", within_s=2)
    assert found == taken or found is not None
    for kept in (taken.failure, found.failure if found else None):
        assert type(kept) is type(failure)
        assert kept is not None
        assert kept.rpc_text() == failure.rpc_text()
    ended = await sessions.end(taken)
    assert ended is not None
    assert ended.status is Status.FAILED
    assert (await sessions.failed(WORKSPACE, "app", within_s=2)) is not None
    assert (await sessions.failed(WORKSPACE, "app", within_s=0)) is None
    assert (await sessions.failed("ws-other", "app", within_s=2)) is None


async def test_what_ended_is_forgotten(shard: Shard, upkeep: Upkeep) -> None:
    """Later, where its worker was not told."""
    long_ago, lately = datetime.now(UTC) - timedelta(seconds=301), datetime.now(UTC) - timedelta(seconds=299)
    kept = [
        await add_session(shard, status="stopped", ended_at=lately),
        await add_session(shard, status="running", ended_at=None),
        owed := await add_session(shard, status="failed", ended_at=long_ago, untold=True, worker=str(WORKER)),
    ]
    await add_session(shard, status="failed", ended_at=long_ago)
    await upkeep.forget(shard)
    assert {row["client_id"] for row in await shard.fetch("SELECT client_id FROM app_sessions")} == set(kept)
    (session,) = await upkeep.untold()
    assert (session.client_id, session.worker) == (owed, WORKER)
    await upkeep.told(session)
    assert await upkeep.untold() == []
    await upkeep.forget(shard)
    assert await value_of(shard, owed, "status") is None


async def test_worker_that_would_not_stop_it(sessions: Sessions) -> None:
    session, _ = await claim(sessions, "c1")
    running = await sessions.run(session, {})
    assert running is not None
    taken = await sessions.take_to_stop(WORKSPACE, "c1", owner="two", reason="stopped by somebody")
    assert taken is not None
    assert await sessions.take_to_stop(WORKSPACE, "c1", owner="three", reason="") is None
    await sessions.run_on(running)  # an older epoch
    await sessions.run_on(taken)
    found = await sessions.get(WORKSPACE, "c1")
    assert found is not None
    assert (found.status, found.reason) == (Status.RUNNING, "")
    assert await sessions.end(taken) is None
