from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hypha_common.db import Database
from hypha_common.errors import NotFound, PermissionDenied, QuotaExceeded
from hypha_common.ids import ServiceId
from hypha_common.principal import Permission, root_principal
from hypha_workspace.stores import Stores
from hypha_workspace.workspaces.record import Workspace

from .people import join, register, request, user


async def test_first_connection_makes_the_personal_workspace(stores: Stores) -> None:
    admitted = await join(stores, user())
    assert (admitted.created, admitted.loaded, admitted.permission) == (True, False, Permission.ADMIN)
    assert admitted.principal.scope.current_workspace == "ws-user-alice"
    assert admitted.principal.scope.client_id == "c1"
    record = await stores.workspaces.get("ws-user-alice")
    assert record is not None
    assert record.dump() == {
        "type": "workspace",
        "id": "ws-user-alice",
        "name": "ws-user-alice",
        "description": "Workspace for user alice",
        "persistent": True,
        "owners": ["alice", "root"],
        "read_only": False,
        "icon": None,
        "covers": None,
        "docs": None,
        "service_types": {},
        "config": {},
        "status": {"ready": True, "errors": None},
    }


async def test_anonymous_workspace_is_transient(stores: Stores) -> None:
    anonymous = replace(user("anonymouz-x-1"), is_anonymous=True)
    await join(stores, anonymous)
    record = await stores.workspaces.get("ws-user-anonymouz-x-1")
    assert record is not None
    assert (record.persistent, record.read_only, record.owners) == (False, True, ("anonymouz-x-1", "root"))


async def test_anonymous_workspace_comes_back_for_its_token(stores: Stores) -> None:
    """A child token of an anonymous user may come back after the workspace was unloaded; nobody else may make it."""
    child = user("teal-1", parent="anonymouz-x-1", ws_user_anonymouz_x_1="rw")
    admitted = await join(stores, child, workspace="ws-user-anonymouz-x-1")
    assert (admitted.created, admitted.permission) == (True, Permission.READ_WRITE)
    with pytest.raises(NotFound):
        await join(stores, child, workspace="ws-user-anonymouz-x-2")


@pytest.mark.parametrize("workspace", ["ws-nowhere", "ws-user-bob"])
async def test_unknown_workspace(stores: Stores, workspace: str) -> None:
    with pytest.raises(NotFound, match=rf"^Workspace {workspace} does not exist or is not accessible$") as caught:
        await join(stores, user(), workspace=workspace)
    assert caught.value.rpc_type == "KeyError"
    assert await stores.workspaces.get(workspace) is None


async def test_foreign_workspace(stores: Stores) -> None:
    await join(stores, user("bob"))
    with pytest.raises(PermissionDenied, match=r"^Permission denied for workspace: ws-user-bob$"):
        await join(stores, user(), workspace="ws-user-bob")
    assert await stores.clients.get("ws-user-bob", "c2") is None
    read_only = await join(stores, user(ws_user_bob="r"), "c2", workspace="ws-user-bob")
    assert read_only.permission is Permission.READ
    assert (await join(stores, root_principal(), "c3", workspace="ws-user-bob")).permission is Permission.ADMIN


async def test_owner_by_name_and_email(stores: Stores) -> None:
    await stores.workspaces.create(Workspace(id="ws-team", owners=("alice", "bob@x.org")))
    admitted = await join(stores, user(), "c1", workspace="ws-team")
    assert admitted.permission is Permission.ADMIN
    assert admitted.principal.permission("ws-team") is Permission.ADMIN
    row = await stores.clients.get("ws-team", "c1")
    assert row is not None
    assert row.user == admitted.principal.dump()
    await join(stores, user("bob", email="bob@x.org"), "c2", workspace="ws-team")


async def test_child_token_does_not_inherit_ownership(stores: Stores) -> None:
    """A token made for reading must not gain what its parent owns (contract 01 §9 point 6)."""
    await stores.workspaces.create(Workspace(id="ws-team", owners=("alice", "a@x.org")))
    child = user("teal-1", parent="alice", email="a@x.org")
    with pytest.raises(PermissionDenied):
        await join(stores, child, workspace="ws-team")
    await join(stores, user())
    with pytest.raises(PermissionDenied):
        await join(stores, child, workspace="ws-user-alice")
    kept = await join(stores, user("teal-2", parent="alice", ws_team="r"), workspace="ws-team")
    assert kept.permission is Permission.READ


async def test_later_connection_takes_over(stores: Stores) -> None:
    first = await join(stores, user(), gateway="gateway1")
    await register(stores, first, "c1", "built-in")
    await register(stores, first, "c1", "hello")
    second = await join(stores, user(), gateway="gateway2")
    assert second.generation > first.generation
    assert (second.previous_gateway, second.previous_generation) == ("gateway1", first.generation)
    # What the older connection registered stays until somebody says that it did not move.
    assert len(await stores.services.find(ServiceId("ws-user-alice", "*", "*"))) == 2
    await stores.admission.forget_services("ws-user-alice", "c1", second.generation)
    assert await stores.services.find(ServiceId("ws-user-alice", "*", "*")) == []
    late = request(user())
    assert late.client_id == "c1"
    assert not await stores.clients.remove("ws-user-alice", "c1", first.generation, grace_s=0)
    row = await stores.clients.get("ws-user-alice", "c1")
    assert row is not None
    assert (row.generation, row.gateway) == (second.generation, "gateway2")


async def test_registered_client_is_not_taken_over_unasked(stores: Stores) -> None:
    first = await join(stores, user())
    again = await stores.admission.admit(request(user()), take_over=False)
    assert again is not None, "without a built-in service nobody has to be asked"
    await register(stores, again, "c1", "built-in")
    assert await stores.admission.admit(request(user(), gateway="gateway2"), take_over=False) is None
    row = await stores.clients.get("ws-user-alice", "c1")
    assert row is not None
    assert (row.generation, row.registered) == (again.generation, True)
    assert first.generation < again.generation


async def test_concurrent_connections_of_one_client(stores: Stores) -> None:
    """Whatever the order, each owner but the last is told to somebody as the previous one, exactly once."""
    admitted = await asyncio.gather(*(join(stores, user(), gateway=f"gateway{n}") for n in range(8)))
    generations = sorted(one.generation for one in admitted)
    assert len(set(generations)) == 8
    row = await stores.clients.get("ws-user-alice", "c1")
    assert row is not None
    assert row.generation == generations[-1]
    superseded = sorted(one.previous_generation for one in admitted if one.previous_generation is not None)
    assert superseded == generations[:-1]
    assert sum(one.created for one in admitted) == 1


async def test_limits(stores: Stores) -> None:
    for number in range(5):
        await join(stores, user(), f"c{number}")
    with pytest.raises(QuotaExceeded, match=r"^Connection limit exceeded: workspace ws-user-alice has 5/5 clients$"):
        await join(stores, user(), "c5")
    await join(stores, user(), "c4")  # the same client again
    await stores.workspaces.create(Workspace(id="ws-more", owners=("alice",)))
    for number in range(2):
        await join(stores, user(), f"c{number}", workspace="ws-more")
    with pytest.raises(QuotaExceeded, match=r"^Connection limit exceeded: user alice has 7/7 connections$"):
        await join(stores, user(), "c3", workspace="ws-more")
    for number in range(3, 6):
        await join(stores, root_principal(), f"c{number}", workspace="ws-more")


async def test_concurrent_first_connections_share_the_workspace(stores: Stores) -> None:
    admitted = await asyncio.gather(*(join(stores, user(), f"c{n}") for n in range(5)))
    assert sum(one.created for one in admitted) == 1


async def test_strange_names(stores: Stores, database: Database) -> None:
    """Ids are data: quotes, globs and spaces reach the tables as they are."""
    name = "o'hara|%_ü x"
    admitted = await join(stores, user(name), "c-1.2_x y")
    await register(stores, admitted, "c-1.2_x y", "svc 1'")
    found = await stores.services.find(ServiceId(f"ws-user-{name}", "c-1.2_x y", "svc 1'"))
    assert [row.id.service for row in found] == ["svc 1'"]
