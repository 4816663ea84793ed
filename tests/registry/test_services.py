from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hypha_common.errors import BadRequest, QuotaExceeded
from hypha_common.ids import ServiceId
from hypha_common.wire import unpack
from hypha_workspace.manager.service_query import ServiceQuery, read_query
from hypha_workspace.stores import Stores

from .people import join, register, service, user

WS = "ws-user-alice"


async def names(stores: Stores, query: object = None, *, own: str = WS, readable: bool = True) -> list[str]:
    found = await stores.services.select(read_query(query, own_workspace=own), own_workspace=own, readable=readable)
    return [info["id"] for info in found]


async def test_register_replace_unregister(stores: Stores) -> None:
    admitted = await join(stores, user())
    first = service(WS, "c1", "hello", visibility="public", extra={"a": 1})
    stored = await stores.services.register(first, generation=admitted.generation, quota=10)
    assert stored is not None
    assert stored.replaced is None
    second = service(WS, "c1", "hello", kind="other", app_id="app")
    stored = await stores.services.register(second, generation=admitted.generation, quota=10)
    assert stored is not None
    assert stored.replaced == first.info
    [row] = await stores.services.find(ServiceId(WS, "*", "hello"))
    assert (row.info, row.gateway, row.id) == (second.info, "gateway1", ServiceId(WS, "c1", "hello", "app"))
    generation = admitted.generation
    assert await stores.services.unregister(WS, "c1", "hello", generation=generation - 1) is None
    assert await stores.services.unregister(WS, "c1", "hello", generation=generation) == second.info
    assert await stores.services.unregister(WS, "c1", "hello", generation=None) is None


async def test_registration_is_fenced(stores: Stores) -> None:
    """A registration of a connection that ended or was superseded leaves no trace."""
    old = await join(stores, user())
    new = await join(stores, user())
    hello = service(WS, "c1", "hello")
    assert await stores.services.register(hello, generation=old.generation, quota=10) is None
    assert await stores.services.register(hello, generation=new.generation, quota=10) is not None
    assert await stores.clients.remove(WS, "c1", new.generation, grace_s=0)
    assert await stores.services.register(hello, generation=new.generation, quota=10) is None
    assert await names(stores) == []


async def test_registrations_race_with_the_end_of_their_connection(stores: Stores) -> None:
    for _ in range(20):
        admitted = await join(stores, user())
        services = [service(WS, "c1", f"s{number}") for number in range(5)]
        await asyncio.gather(
            *(stores.services.register(one, generation=admitted.generation, quota=10) for one in services),
            stores.clients.remove(WS, "c1", admitted.generation, grace_s=0),
        )
        assert await names(stores) == []


async def test_quota(stores: Stores) -> None:
    admitted = await join(stores, user())
    for name in ("built-in", "a", "b"):
        await stores.services.register(service(WS, "c1", name), generation=admitted.generation, quota=2)
    with pytest.raises(QuotaExceeded, match=f"^Service quota exceeded: client {WS}/c1 has 2/2 services$"):
        await stores.services.register(service(WS, "c1", "c"), generation=admitted.generation, quota=2)
    await stores.services.register(service(WS, "c1", "b"), generation=admitted.generation, quota=2)


async def test_singletons(stores: Stores) -> None:
    one, two = await join(stores, user(), "c1"), await join(stores, user(), "c2")
    await register(stores, one, "c1", "only", singleton=True)
    await register(stores, one, "c1", "only", singleton=True)
    with pytest.raises(BadRequest, match=r"same name \(only\) has already exists in the workspace \(ws-user-alice\)"):
        await register(stores, two, "c2", "only")
    await register(stores, two, "c2", "plain")
    with pytest.raises(BadRequest, match=r"same name \(plain\) already exists in the workspace"):
        await register(stores, one, "c1", "plain", singleton=True)


async def test_one_of_two_concurrent_singletons(stores: Stores) -> None:
    one, two = await join(stores, user(), "c1"), await join(stores, user(), "c2")
    for number in range(10):
        outcomes = await asyncio.gather(
            register(stores, one, "c1", f"s{number}", singleton=True),
            register(stores, two, "c2", f"s{number}", singleton=True),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["BadRequest", "Registration"]
        for client, admitted in (("c1", one), ("c2", two)):
            await stores.services.unregister(WS, client, f"s{number}", generation=admitted.generation)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ServiceId(WS, "*", "svc"), ["c1:svc", "c2:svc"]),
        (ServiceId(WS, "c2", "svc"), ["c2:svc"]),
        (ServiceId(WS, "c?", "s*"), ["c1:svc", "c2:svc", "c1:s_c"]),
        (ServiceId(WS, "*", "s_c"), ["c1:s_c"]),
        (ServiceId(WS, "*", "svc", "app"), ["c2:svc"]),
        (ServiceId(WS, "*", "SVC"), []),
        (ServiceId("ws-other", "*", "svc"), []),
    ],
)
async def test_find(stores: Stores, wanted: ServiceId, expected: list[str]) -> None:
    one, two = await join(stores, user(), "c1"), await join(stores, user(), "c2")
    await register(stores, one, "c1", "svc")
    await register(stores, two, "c2", "svc", app_id="app")
    await register(stores, one, "c1", "s_c")
    found = await stores.services.find(wanted)
    assert [f"{row.id.client}:{row.id.service}" for row in found] == expected
    if expected:
        [last] = await stores.services.find(wanted, order="last", limit=1)
        assert last.id == found[-1].id


async def test_listing_follows_visibility(stores: Stores) -> None:
    admitted = await join(stores, user())
    configs: dict[str, dict[str, Any]] = {
        "built-in": {"visibility": "public"},
        "pub": {"visibility": "public"},
        "prot": {},
        "unl": {"visibility": "unlisted"},
        "auth": {"authorized_workspaces": ["ws-user-bob"]},
    }
    for name, config in configs.items():
        await register(stores, admitted, "c1", name, **config)
    bob = await join(stores, user("bob"), "b1")
    await register(stores, bob, "b1", "bobs")
    await register(stores, bob, "b1", "open", visibility="public")

    def ids(*names: str) -> list[str]:
        return [f"{WS}/c1:{name}" for name in names]

    assert await names(stores) == ids("built-in", "pub", "prot", "auth")
    assert await names(stores, WS, own="ws-user-bob", readable=False) == ids("built-in", "pub", "auth")
    assert await names(stores, WS, own="ws-user-eve", readable=False) == ids("built-in", "pub")
    assert await names(stores, "*", own="ws-user-bob") == [*ids("pub"), "ws-user-bob/b1:bobs", "ws-user-bob/b1:open"]
    assert await names(stores, {"visibility": "unlisted"}) == []
    unlisted = ServiceQuery(WS, include_unlisted=True)
    assert len(await stores.services.select(unlisted, own_workspace=WS, readable=True)) == 5
    seen = await stores.services.select(ServiceQuery(WS), own_workspace="ws-user-bob", readable=False)
    assert [info["config"]["authorized_workspaces"] for info in seen] == [None, None, None]
    own = await stores.services.select(ServiceQuery(WS, service_id="auth"), own_workspace=WS, readable=True)
    assert own[0]["config"]["authorized_workspaces"] == ["ws-user-bob"]


async def test_listing_filters(stores: Stores) -> None:
    admitted = await join(stores, user())
    await register(stores, admitted, "c1", "a1", kind="worker")
    await register(stores, admitted, "c1", "a2", app_id="app")
    await register(stores, admitted, "c1", "b", visibility="public")
    assert await names(stores, {"type": "work*"}) == [f"{WS}/c1:a1"]
    assert await names(stores, {"service_id": "a*"}) == [f"{WS}/c1:a1", f"{WS}/c1:a2"]
    assert await names(stores, {"app_id": "app"}) == [f"{WS}/c1:a2"]
    assert await names(stores, "*/b") == [f"{WS}/c1:b"]
    assert await names(stores, "c2:b") == []


async def test_packed_listing_equals_the_listing(stores: Stores) -> None:
    admitted = await join(stores, user())
    for number in range(9):
        await register(stores, admitted, "c1", f"s{number}", visibility="public")
    for query in (ServiceQuery(WS), ServiceQuery("*"), ServiceQuery(WS, service_id="none")):
        for readable in (True, False):
            packed = await stores.services.select_packed(query, own_workspace=WS, readable=readable)
            listed = await stores.services.select(query, own_workspace=WS, readable=readable)
            assert unpack(packed) == listed


async def test_announced_role(stores: Stores) -> None:
    info = service("public", "hypha-auth", "hypha-login", visibility="public").info
    for _ in range(2):
        await stores.services.announce("public", "hypha-auth", "role:auth", {"id": "root"}, [info])
    [row] = await stores.services.find(ServiceId("public", "*", "hypha-login"))
    assert (row.info, row.gateway) == (info, "role:auth")
    changed = {**info, "description": "new"}
    await stores.services.announce("public", "hypha-auth", "role:auth", {"id": "root"}, [changed])
    [row] = await stores.services.find(ServiceId("public", "*", "hypha-login"))
    assert row.info == changed


def test_fixture_makes_separate_databases(workspace_database_url: Callable[[], str]) -> None:
    assert workspace_database_url() != workspace_database_url()
