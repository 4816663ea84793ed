from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from hypha_common.db import Database
from hypha_common.errors import BadRequest, Conflict, NotFound
from hypha_common.principal import root_principal
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of
from hypha_workspace.stores import Stores
from hypha_workspace.workspaces.event_log import forget_old
from hypha_workspace.workspaces.record import Workspace

from .people import join, register, user

WS = "ws-team"


@pytest.fixture
async def team(stores: Stores) -> Workspace:
    return await stores.workspaces.create(Workspace(id=WS, owners=("alice",), config={"color": "red"}, icon="x"))


async def test_create_and_overwrite(stores: Stores, team: Workspace) -> None:
    await stores.environment.put(WS, "KEY", {"a": [1, b"x", None]})
    await stores.bookmarks.put(WS, {"bookmark_type": "workspace", "id": "w", "name": "w", "description": None})
    await stores.service_types.add(WS, {"id": "t", "name": "T", "definition": {}})
    full = await stores.workspaces.get_full(WS)
    assert full is not None
    dump = full.dump()
    assert dump["config"] == {
        "color": "red",
        "environs": {"KEY": {"a": [1, b"x", None]}},
        "bookmarks": [{"bookmark_type": "workspace", "id": "w", "name": "w", "description": None}],
    }
    assert list(dump["service_types"]) == ["t"]
    assert dump["icon"] == "x"
    with pytest.raises(Conflict, match=rf"^Workspace already exists: {WS}$"):
        await stores.workspaces.create(Workspace(id=WS))
    await stores.workspaces.create(Workspace(id=WS, persistent=True, environs={"NEW": 1}), overwrite=True)
    full = await stores.workspaces.get_full(WS)
    assert full is not None
    assert full.persistent
    assert full.dump()["config"] == {"environs": {"NEW": 1}, "bookmarks": []}


async def test_ensure(stores: Stores) -> None:
    made, created = await stores.workspaces.ensure("ws-user-alice", user())
    assert created
    assert await stores.workspaces.ensure("ws-user-alice", user("bob")) == (made, False)
    with pytest.raises(NotFound):
        await stores.workspaces.ensure("ws-user-carol", user())


async def test_environment(stores: Stores, team: Workspace) -> None:
    await stores.environment.put(WS, "KEY", "v")
    await stores.environment.put(WS, "KEY", 0)
    assert await stores.environment.get(WS, "KEY") == 0
    assert await stores.environment.items(WS) == {"KEY": 0}
    await stores.environment.put(WS, "KEY", None)
    with pytest.raises(NotFound, match=r"^Environment variable 'KEY' not found in workspace ws-team$"):
        await stores.environment.get(WS, "KEY")
    with pytest.raises(NotFound):
        await stores.environment.put("ws-gone", "KEY", 1)


async def test_bookmarks(stores: Stores, team: Workspace) -> None:
    item = {"bookmark_type": "service", "id": "w/c:s", "name": "s", "description": "d", "config": {"a": 1}}
    await stores.bookmarks.put(WS, item)
    await stores.bookmarks.put(WS, {**item, "name": "again"})
    assert await stores.bookmarks.of_workspace(WS) == [{**item, "name": "again"}]
    assert not await stores.bookmarks.remove(WS, "workspace", "w/c:s")
    assert await stores.bookmarks.remove(WS, "service", "w/c:s")
    assert await stores.bookmarks.of_workspace(WS) == []


async def test_service_types(stores: Stores, team: Workspace) -> None:
    info = {"id": "t", "name": "T", "definition": {"f": {"type": "function"}}, "config": {}, "docs": None}
    await stores.service_types.add(WS, info)
    with pytest.raises(Conflict, match=r"^Service type already exists: t$") as caught:
        await stores.service_types.add(WS, info)
    assert caught.value.rpc_type == "KeyError"
    assert await stores.service_types.get(WS, "t") == info
    assert await stores.service_types.get(WS, "u") is None
    assert await stores.service_types.of_workspace(WS) == [info]


async def test_event_log(stores: Stores, team: Workspace) -> None:
    before = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=60)
    await stores.event_log.append(WS, "alice", "a", {"x": 1})
    await stores.event_log.append(WS, "alice", "b", None)
    await stores.event_log.append(WS, "alice", "a", 2)
    await stores.event_log.append(WS, "bob", "a", 3)
    events = await stores.event_log.select(WS, "alice")
    assert [event["data"] for event in events] == [{"x": 1}, None, 2]
    assert set(events[0]) == {"id", "event_type", "workspace", "user_id", "timestamp", "data"}
    assert datetime.fromisoformat(events[0]["timestamp"]).tzinfo is None
    assert [e["data"] for e in await stores.event_log.select(WS, "alice", event_type="a", start_time=before)] == [
        {"x": 1},
        2,
    ]
    assert await stores.event_log.select(WS, "alice", end_time=before) == []
    assert await stores.event_log.stats(WS, "alice") == [
        {"event_type": "a", "count": 2},
        {"event_type": "b", "count": 1},
    ]


async def test_old_events_are_forgotten(stores: Stores, database: Database, team: Workspace) -> None:
    """The oldest first, and nothing that is younger."""
    for number in range(4):
        await stores.event_log.append(WS, "alice", "a", number)
    first = await database.home.fetchval("SELECT min(id) FROM event_log")
    old = "UPDATE event_log SET created_at = now() - interval '2 hours' WHERE id < $1"
    await database.home.execute(old, first + 2)
    assert await forget_old(database.home, retention_s=3 * 3600) == 0
    assert await forget_old(database.home, retention_s=3600) == 2
    assert [event["data"] for event in await stores.event_log.select(WS, "alice")] == [2, 3]


async def test_list_visible(stores: Stores, team: Workspace) -> None:
    await stores.workspaces.create(Workspace(id="ws-other", owners=("bob@x.org",), description="d"))
    await join(stores, user())

    async def visible(principal: object = None, **options: object) -> list[str]:
        found = await stores.workspaces.list_visible(principal or user(), **options)  # type: ignore[arg-type]
        return [record.id for record in found]

    assert await visible() == ["ws-team", "ws-user-alice"]
    assert await visible(offset=1, limit=1) == ["ws-user-alice"]
    assert await visible(user("bob", email="bob@x.org")) == ["ws-other"]
    assert await visible(user("eve", ws_other="r")) == ["ws-other"]
    assert await visible(user("teal-1", parent="alice", ws_other="r")) == ["ws-other"]
    everything = ["public", "ws-anonymous", "ws-other", "ws-team", "ws-user-alice", "ws-user-root"]
    assert await visible(root_principal()) == everything
    assert await visible(root_principal(), match={"description": "d"}) == ["ws-other"]
    assert await visible(root_principal(), match={"persistent": False}) == ["ws-other", "ws-team"]
    assert await visible(root_principal(), match={"owners": ["alice"]}) == ["ws-team"]
    with pytest.raises(BadRequest):
        await visible(match={"extra": b"x"})
    with pytest.raises(BadRequest):
        await visible(match={"persistent": "yes"})


async def test_count_owned(stores: Stores, team: Workspace) -> None:
    assert await stores.workspaces.count_owned("alice") == 1
    assert await stores.workspaces.count_owned("root") == 0


async def test_delete(stores: Stores, team: Workspace) -> None:
    admitted = await join(stores, user(), workspace=WS)
    await register(stores, admitted, "c1", "built-in")
    await stores.environment.put(WS, "KEY", 1)
    clients = await stores.workspaces.delete(WS)
    assert clients is not None
    assert [(client.client_id, client.gateway) for client in clients] == [("c1", "gateway1")]
    assert await stores.workspaces.get(WS) is None
    assert await stores.clients.in_workspace(WS) == []
    assert await stores.environment.items(WS) == {}
    assert await stores.workspaces.delete(WS) is None
    assert await stores.workspaces.delete("public") is None, "the cluster needs it"


@pytest.fixture
async def two_databases(workspace_database_url: Callable[[], str]) -> AsyncIterator[Stores]:
    lower, upper = workspace_database_url(), workspace_database_url()
    settings = Settings.load({"database_url": lower, "database_partitions": f"0-31={lower},32-63={upper}"}, environ={})
    database = Database.from_settings(settings, "tests")
    await database.connect()
    yield Stores.of(database, settings)
    await database.close()


async def test_partitions(two_databases: Stores) -> None:
    """Workspaces live in the database of their partition; questions about all of them ask both."""
    stores = two_databases
    low = next(name for n in range(99) if partition_of(name := f"ws-{n}-a") < 32)
    high = next(name for n in range(99) if partition_of(name := f"ws-{n}-a") >= 32)
    for name in (low, high):
        await stores.workspaces.create(Workspace(id=name, owners=("alice",)))
        admitted = await join(stores, user(), workspace=name)
        await register(stores, admitted, "c1", "hello", visibility="public")
    lower, upper = stores.database.all()
    for shard, name in ((lower, low), (upper, high)):
        assert [row["workspace"] for row in await shard.fetch("SELECT workspace FROM services")] == [name]
    assert [record.id for record in await stores.workspaces.list_visible(user())] == sorted([low, high])
    assert await stores.workspaces.count_owned("alice") == 2
