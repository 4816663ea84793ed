from __future__ import annotations

import json
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.main import ArtifactsService
from hypha_common.errors import NotFound, PermissionDenied
from hypha_common.ids import new_id
from hypha_common.principal import Principal
from hypha_common.subjects import partition_of, role_verb
from tests.manager.rig import Client, Gateway, user

from .applications import home, publish, register, someone

__all__ = ["someone"]

SCHEMA = {"hello": {"type": "function"}}
MANIFEST: dict[str, Any] = {
    "name": "App",
    "type": "web-worker",
    "services": [
        {
            "id": "ws/*:open", "name": "Open", "type": "greeter", "description": "for all", "docs": "read me",
            "service_schema": SCHEMA, "config": {"visibility": "public", "flags": ["x"], "workspace": "lie"},
        },
        {"id": "default"},
        {"id": "hidden", "type": "greeter", "config": {"visibility": "unlisted"}},
        {"id": "lent", "config": {"visibility": "protected", "authorized_workspaces": ["ws-user-friend"]}},
    ],
}  # fmt: skip


def names(infos: list[dict[str, Any]]) -> list[str]:
    """Return ``name@app`` of those that only a manifest tells of, ``client:name`` of the others."""
    assert all(info["id"].partition("/")[2].startswith("*:") for info in infos if "_source" in info)
    shown = [info["id"].partition("/")[2].removeprefix("*:") for info in infos if info["type"] != "built-in"]
    return sorted(shown)


async def idle(client: Client, query: Any = None, **options: Any) -> list[str]:
    return names(await client.manager.list_services(query, include_app_services=True, **options))


@pytest.fixture
async def member(gateway: Gateway, services: ArtifactsService, someone: Principal) -> Client:
    """Somebody in whose workspace `my-app` is published and does not run."""
    await publish(services, home(someone), "my-app", MANIFEST)
    return await gateway.connect("a", someone, home(someone))


async def stranger(gateway: Gateway, name: str = "") -> Client:
    other = user(name or f"s{new_id(8).lower()}")
    return await gateway.connect("s", other, home(other))


async def test_what_a_manifest_lists(member: Client, someone: Principal) -> None:
    """The whole row, as contract 03 §3.5 has it; not without the flag."""
    assert names(await member.manager.list_services()) == []
    rows = await member.manager.list_services({"service_id": "open@my-app"}, include_app_services=True)
    assert rows == [
        {
            "id": f"{home(someone)}/*:open@my-app",
            "name": "Open",
            "type": "greeter",
            "description": "for all",
            "docs": "read me",
            "app_id": "my-app",
            "service_schema": SCHEMA,
            "config": {"visibility": "public", "flags": ["x"], "workspace": home(someone)},
            "_source": "app_manifest",
        }
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (None, ["default@my-app", "lent@my-app", "open@my-app"]),
        ({"type": "gree*"}, ["open@my-app"]),
        ({"service_id": "*e*"}, ["default@my-app", "lent@my-app", "open@my-app"]),
        ({"id": "default"}, ["default@my-app"]),
        ({"app_id": "other"}, []),
        ({"app_id": "my-*", "visibility": "protected"}, ["default@my-app", "lent@my-app"]),
        ({"client_id": "a"}, []),
        ({"workspace": "*", "type": "greeter"}, ["open@my-app"]),
    ],
)
async def test_filters(member: Client, query: Any, expected: list[str]) -> None:
    """They are those of services that run."""
    assert await idle(member, query) == expected


async def test_unlisted_ones(member: Client) -> None:
    assert "hidden@my-app" in await idle(member, include_unlisted=True)


async def test_others_see_what_they_may_use(gateway: Gateway, member: Client, someone: Principal) -> None:
    """In the workspace that they ask about; whom else it is lent to is nobody's business."""
    assert await idle(await stranger(gateway), home(someone)) == ["open@my-app"]
    friend = await stranger(gateway, "friend")
    assert await idle(friend) == []
    rows = await friend.manager.list_services(home(someone), include_app_services=True)
    assert names(rows) == ["lent@my-app", "open@my-app"]
    assert all(info["config"]["authorized_workspaces"] is None for info in rows)


async def test_running_ones_first(gateway: Gateway, services: ArtifactsService, member: Client) -> None:
    """Only what stands for the same service of the same application is left out."""
    await publish(services, home(member.link.principal), "other-app", {"services": [{"id": "default"}]})
    await register(member, "default")
    everything = ["a:default", "default@my-app", "default@other-app", "lent@my-app", "open@my-app"]
    assert await idle(member) == everything
    everything.remove("default@my-app")
    assert await idle(member, prioritize_running_services=True) == everything


async def test_drafts_disabled_and_other_artifacts(services: ArtifactsService, member: Client) -> None:
    """They serve nobody; where there are many applications all are listed."""
    workspace = home(member.link.principal)
    await publish(services, workspace, "draft", {"services": [{"id": "x"}]}, committed=False)
    await publish(services, workspace, "off", {"services": [{"id": "x"}], "disabled": True})
    await publish(services, workspace, "empty", {"services": []})
    await publish(services, workspace, "odd", {"services": {"id": "x"}})
    for number in range(120):
        await publish(services, workspace, f"app-{number:03}", {"services": [{"id": "many"}]})
    assert await idle(member, {"service_id": "x"}) == []
    assert await idle(member, {"service_id": "many"}) == [f"many@app-{number:03}" for number in range(120)]


async def test_info_from_the_manifest(gateway: Gateway, member: Client, someone: Principal) -> None:
    """Where nobody serves it, for those who may use it; one that runs has its own."""
    read = {"read_app_manifest": True}
    info = await member.manager.get_service_info("open@my-app", read)
    assert (info["id"], info["_source"]) == (f"{home(someone)}/*:open@my-app", "app_manifest")
    other = await stranger(gateway)
    info = await other.manager.get_service_info(f"{home(someone)}/open@my-app", read)
    assert info["service_schema"] == SCHEMA
    with pytest.raises(RemoteException, match="PermissionError: Permission denied for non-public service"):
        await other.manager.get_service_info(f"{home(someone)}/default@my-app", read)
    for query, text in (("none@my-app", "Service id `none` not found"), ("open@none", "Application id `none` not")):
        with pytest.raises(RemoteException, match=rf"KeyError: .Service not found: .*\({text}"):
            await member.manager.get_service_info(query, read)
    with pytest.raises(RemoteException, match="KeyError: 'Service not found"):
        await member.manager.get_service_info("open@my-app")
    await register(member, "open")
    info = await member.manager.get_service_info("open@my-app", read)
    assert info["id"] == f"{home(someone)}/a:open"


async def test_without_an_apps_service(member: Client, someone: Principal) -> None:
    """What cannot be started is not found, and that at once."""
    with pytest.raises(RemoteException, match=rf"KeyError: 'Service not found: {home(someone)}/\*:open@my-app'"):
        await member.manager.get_service("open@my-app")


async def test_gateways_are_told_what_is_idle(
    gateway: Gateway, services: ArtifactsService, member: Client, someone: Principal
) -> None:
    """Nothing is started by that; whoever may not use it learns no more than before."""
    workspace = home(someone)

    async def resolve(name: str, principal: Principal, **extra: Any) -> Any:
        message = {
            "service_id": f"{workspace}/{name}", "mode": None, "user": principal.dump(),
            "workspace": home(principal), **extra,
        }  # fmt: skip
        return await gateway.bus.request(role_verb("workspace", partition_of(workspace), "resolve"), message)

    expected = {"idle": {"workspace": workspace, "app_id": "my-app", "service": "open"}}
    for principal in (someone, user("somebody")):
        assert await resolve("open@my-app", principal, lazy=True) == expected
        with pytest.raises(NotFound, match="Service not found"):
            await resolve("open@my-app", principal)
    with pytest.raises(PermissionDenied):
        await resolve("default@my-app", user("somebody"), lazy=True)
    assert (await resolve("lent@my-app", user("friend"), lazy=True))["idle"]["service"] == "lent"
    await publish(services, workspace, "group", {**MANIFEST, "type": "application"})
    with pytest.raises(NotFound):
        await resolve("open@group", someone, lazy=True)


@pytest.mark.parametrize(
    ("collection", "of_collection", "of_app", "startable"),
    [
        ("applications", {"*": "r"}, {"*": "r", "somebody": "rw+"}, True),
        ("zoo", {}, {}, False),
        ("applications", {"@": "r+"}, {}, False),
        ("applications", {}, {"*": "rw"}, False),
        ("applications", {}, {"@": ["draft"]}, False),
    ],
)
async def test_only_what_members_put_there_is_started(
    gateway: Gateway,
    services: ArtifactsService,
    member: Client,
    collection: str,
    of_collection: dict[str, Any],
    of_app: dict[str, Any],
    startable: bool,
) -> None:
    """Where anybody may put or change something an app is only a text: it would run with rights in this workspace."""
    workspace = home(member.link.principal)
    shard = services.core.database.for_workspace(workspace)
    for alias, permissions in ((collection, of_collection), ("child", of_app)):
        await publish(services, workspace, alias, MANIFEST)
        await shard.execute(
            "UPDATE artifacts SET config = $3 WHERE workspace = $1 AND alias = $2",
            workspace, alias, json.dumps({"permissions": permissions}),
        )  # fmt: skip
    await shard.execute(
        """UPDATE artifacts a SET parent_id = p.id FROM artifacts p
           WHERE a.workspace = $1 AND a.alias = 'child' AND p.workspace = $1 AND p.alias = $2""",
        workspace, collection,
    )  # fmt: skip
    message = {"workspace": workspace, "app_id": "child", "user": member.link.principal.dump()}
    subject = role_verb("artifacts", partition_of(workspace), "application")
    assert (await gateway.bus.request(subject, message))["startable"] is startable
