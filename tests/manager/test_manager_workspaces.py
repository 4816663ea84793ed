from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_common.principal import Permission, Principal, Scope, root_principal
from tests.manager.rig import Gateway, child, user


async def test_create_and_delete(gateway: Gateway) -> None:
    """The creator owns it, has a bookmark, and hears of it in his personal workspace."""
    a = await gateway.connect("a", user("cora"), "ws-user-cora")
    events = await a.events("workspace_loaded", "workspace_deleted")
    made = await a.manager.create_workspace({"name": "cora-lab", "description": "Lab", "persistent": True})
    assert made["id"] == made["name"] == "cora-lab"
    assert made["owners"] == ["cora"]
    assert made["persistent"] is True
    assert (await events.get())["data"]["id"] == "cora-lab"
    assert (await a.manager.get_workspace_info())["config"]["bookmarks"] == [
        {"bookmark_type": "workspace", "id": "cora-lab", "name": "cora-lab", "description": "Lab"}
    ]
    with pytest.raises(RemoteException, match="RuntimeError: Workspace already exists: cora-lab"):
        await a.manager.create_workspace({"id": "cora-lab"})
    again = await a.manager.create_workspace({"id": "cora-lab", "config": {"environs": {"A": 1}}}, overwrite=True)
    assert again["persistent"] is False
    member = await gateway.connect("m", user("cora"), "cora-lab")
    assert await member.manager.get_env("A") == 1
    listed = await a.manager.list_workspaces({"name": "cora-lab"})
    assert listed == [
        {
            "id": "cora-lab",
            "name": "cora-lab",
            "description": None,
            "read_only": False,
            "persistent": False,
            "owners": ["cora"],
        }
    ]
    await a.manager.delete_workspace("cora-lab")
    assert (await events.get())["data"]["id"] == "cora-lab"
    assert await asyncio.wait_for(member.link.kicked, 5) == (1001, "Workspace unloaded: cora-lab")
    assert (await a.manager.get_workspace_info())["config"]["bookmarks"] == []
    with pytest.raises(RemoteException, match="KeyError: 'Workspace not found: cora-lab'"):
        await a.manager.delete_workspace("cora-lab")


async def test_who_may_not_create(gateway: Gateway) -> None:
    anonymous = Principal(
        id="anonymouz-x",
        roles=("anonymous",),
        is_anonymous=True,
        scope=Scope({"ws-user-anonymouz-x": Permission.ADMIN}),
    )
    nobody = await gateway.connect("n", anonymous, "ws-user-anonymouz-x")
    with pytest.raises(RemoteException, match=r"Exception: Only registered user can create workspace."):
        await nobody.manager.create_workspace({"name": "a-b"})
    a = await gateway.connect("a", user("carl"), "ws-user-carl")
    for config, text in (
        ({"name": "plain"}, r"ValueError: Workspace name must contain at least one hyphen \(e.g. my-workspace\)."),
        ({"name": "A-b"}, "ValueError: Invalid workspace name: A-b, only lowercase letters, numbers and hyphens"),
        ({"name": "ws-user-victim"}, "PermissionError"),
        ({"name": "ws-anonymous"}, "PermissionError"),
        ({}, "AssertionError: Workspace id or name must be provided."),
    ):
        with pytest.raises(RemoteException, match=text):
            await a.manager.create_workspace(config)
    await a.manager.create_workspace({"name": "carl-0"})
    for number in range(1, 4):
        await a.manager.create_workspace({"name": f"carl-{number}"})
    with pytest.raises(RemoteException, match="RuntimeError: Workspace quota exceeded"):
        await a.manager.create_workspace({"name": "carl-9"})
    b = await gateway.connect("b", user("beth"), "ws-user-beth")
    with pytest.raises(RemoteException, match="PermissionError: Permission denied: user beth cannot overwrite"):
        await b.manager.create_workspace({"name": "carl-0"}, overwrite=True)


async def test_owner_by_email(gateway: Gateway) -> None:
    """A user named by e-mail address owns the workspace as well."""
    a = await gateway.connect("a", user("olga"), "ws-user-olga")
    await a.manager.create_workspace({"name": "olga-team", "owners": ["pia@example.org"]})
    pia = await gateway.connect("p", user("pia"), "olga-team")
    assert (await pia.manager.check_status())["user_permission"] == "a"
    assert "olga-team" in [w["id"] for w in await pia.manager.list_workspaces()]
    await pia.manager.delete_workspace("olga-team")


async def test_child_tokens_do_not_own(gateway: Gateway) -> None:
    """A token made for reading or writing cannot delete, overwrite or look into what its parent owns."""
    a = await gateway.connect("a", user("para"), "ws-user-para")
    await a.manager.create_workspace({"name": "para-lab"})
    await a.manager.create_workspace({"name": "para-else"})
    writer = await gateway.connect("w", child("para", "para-lab", Permission.READ_WRITE), "para-lab")
    for call in (
        writer.manager.delete_workspace("para-lab"),
        writer.manager.delete_workspace("para-else"),
        writer.manager.create_workspace({"name": "para-else"}, overwrite=True),
        writer.manager.get_workspace_info("para-else"),
        writer.manager.list_clients("para-else"),
        writer.manager.cleanup("para-lab"),
    ):
        with pytest.raises(RemoteException, match="PermissionError: Permission denied"):
            await call
    assert [w["id"] for w in await writer.manager.list_workspaces({"id": "para-else"})] == []
    made = await writer.manager.create_workspace({"name": "para-third"})
    assert made["owners"] == ["para"]
    owned = {w["id"] for w in await a.manager.list_workspaces()}
    assert {"para-lab", "para-else", "para-third"} <= owned


async def test_workspace_info_is_for_members(gateway: Gateway) -> None:
    """Strangers see nothing, readers no environment variables."""
    a = await gateway.connect("a", user("ina"), "ws-user-ina")
    await a.manager.set_env("SECRET", "s")
    assert (await a.manager.get_workspace_info())["config"]["environs"] == {"SECRET": "s"}
    reader = await gateway.connect("r", user("ray", ws_user_ina=Permission.READ), "ws-user-ray")
    assert "environs" not in (await reader.manager.get_workspace_info("ws-user-ina"))["config"]
    eve = await gateway.connect("x", user("eve"), "ws-user-eve")
    for workspace in ("ws-user-ina", "no-such-thing"):
        with pytest.raises(RemoteException, match="PermissionError: Permission denied for workspace"):
            await eve.manager.get_workspace_info(workspace)
    root = await gateway.connect("root", root_principal(), "ws-user-root")
    with pytest.raises(RemoteException, match="KeyError: 'Workspace not found: no-such-thing'"):
        await root.manager.get_workspace_info("no-such-thing")
    with pytest.raises(RemoteException, match=r"PermissionError: .*cannot be deleted"):
        await root.manager.delete_workspace("public")


async def test_list_limits(gateway: Gateway) -> None:
    a = await gateway.connect("a", user("lim"), "ws-user-lim")
    for wrong in ({"limit": 0}, {"limit": 257}, {"offset": -1}, {"match": {"nope": 1}}):
        with pytest.raises(RemoteException, match="ValueError"):
            await a.manager.list_workspaces(**wrong)
    assert [w["id"] for w in await a.manager.list_workspaces(limit=1)] == ["ws-user-lim"]


async def test_bookmarks(gateway: Gateway) -> None:
    a = await gateway.connect("a", user("bo"), "ws-user-bo")
    await a.rpc.register_service({"id": "svc", "description": "S", "config": {"visibility": "public"}})
    item = {"bookmark_type": "service", "id": "ws-user-bo/a:svc"}
    assert await a.manager.bookmark(item) is None
    await a.manager.bookmark(item)
    marks: list[dict[str, Any]] = (await a.manager.get_workspace_info())["config"]["bookmarks"]
    assert [(mark["bookmark_type"], mark["id"], mark["description"]) for mark in marks] == [
        ("service", "ws-user-bo/a:svc", "S")
    ]
    assert marks[0]["config"]["visibility"] == "public"
    await a.manager.unbookmark(item)
    assert (await a.manager.get_workspace_info())["config"]["bookmarks"] == []
    with pytest.raises(RemoteException, match=r"AssertionError: Bookmark type must be provided."):
        await a.manager.bookmark({"id": "x"})
    with pytest.raises(RemoteException, match="ValueError: Invalid bookmark type: app"):
        await a.manager.bookmark({"bookmark_type": "app", "id": "x"})
    with pytest.raises(RemoteException, match="PermissionError"):
        await a.manager.bookmark({"bookmark_type": "workspace", "id": "ws-user-root"})


async def test_clients(gateway: Gateway) -> None:
    """Pings never raise; clean-up removes who does not answer."""
    a = await gateway.connect("a", user("kim"), "ws-user-kim")
    b = await gateway.connect("b", user("kim"), "ws-user-kim")
    assert [c["id"] for c in await a.manager.list_clients()] == ["ws-user-kim/a", "ws-user-kim/b"]
    assert await a.manager.ping("b") == "pong"
    assert await a.manager.ping("ws-user-kim/b", 2) == "pong"
    assert (await a.manager.ping("nobody")).startswith("Failed to ping client ws-user-kim/nobody: Target peer")
    assert (await a.manager.ping("a/b/c")).startswith("Failed to ping client a/b/c: ")
    with pytest.raises(RemoteException, match="PermissionError"):
        await a.manager.ping("ws-user-root/x")
    b.link.silent = True
    assert (await a.manager.ping("b", 0.2)).startswith("Failed to ping client ws-user-kim/b: ")
    events = await a.events("client_disconnected")
    assert await a.manager.cleanup(timeout=0.3) == {"removed_clients": ["ws-user-kim/b"]}
    assert (await events.get())["data"] == {"id": "b", "workspace": "ws-user-kim"}
    code, _ = await asyncio.wait_for(b.link.kicked, 5)
    assert code == 1001
    assert await a.manager.cleanup() == {}


async def test_cleanup_of_an_empty_workspace(gateway: Gateway) -> None:
    """An owner elsewhere clears away a workspace whose clients have all gone silent."""
    a = await gateway.connect("a", user("mop"), "ws-user-mop")
    await a.manager.create_workspace({"name": "mop-temp"})
    gone = await gateway.connect("g", user("mop"), "mop-temp")
    await gone.leave()
    found = await a.manager.cleanup("mop-temp")
    assert found == {"removed_workspace": "mop-temp", "removed_clients": ["mop-temp/g"]}
    assert "mop-temp" not in [w["id"] for w in await a.manager.list_workspaces()]


async def test_subscriptions(gateway: Gateway) -> None:
    """Events arrive from the moment `subscribe` answers until `unsubscribe` does."""
    a = await gateway.connect("a", user("sub"), "ws-user-sub")
    b = await gateway.connect("b", user("sub"), "ws-user-sub")
    events = await a.events("service_added")
    await b.rpc.register_service({"id": "one"})
    assert (await events.get())["data"]["id"] == "ws-user-sub/b:one"
    assert await a.manager.unsubscribe("service_added") is True
    await b.rpc.register_service({"id": "two"})
    await asyncio.sleep(0.05)
    assert events.empty()
    text = "ValueError: Subscription to event 'ws-other/x' is forbidden"
    with pytest.raises(RemoteException, match=text):
        await a.manager.subscribe("ws-other/x")
