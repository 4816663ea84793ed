from __future__ import annotations

from typing import Any

import pytest

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect


def _name() -> str:
    return f"lab-{new_id(10).lower()}"


async def test_anonymous_user(connect: Connect) -> None:
    """Nobody in particular has a workspace of their own, and makes no others."""
    server = await connect()
    assert server.config.workspace == "ws-user-" + server.config.user["id"]
    assert server.config.user["is_anonymous"]
    assert (await server.check_status())["user_permission"] == "a"
    with pytest.raises(Exception, match="Only registered user can create workspace"):
        await server.create_workspace({"name": _name()})


async def test_create_use_delete(cluster: RunningCluster, connect: Connect) -> None:
    token = cluster.user_token()
    user = await connect(token=token)
    name = _name()
    made = await user.create_workspace({"name": name, "description": "A lab", "persistent": True})
    assert (made["id"], made["persistent"], made["owners"]) == (name, True, [user.config.user["id"]])
    with pytest.raises(Exception, match=f"Workspace already exists: {name}"):
        await user.create_workspace({"name": name})
    assert name in [workspace["id"] for workspace in await user.list_workspaces()]
    assert [workspace["id"] for workspace in await user.list_workspaces({"name": name})] == [name]

    member = await connect(token=await user.generate_token({"workspace": name}), workspace=name)
    await member.set_env("A", 1)
    assert (await member.get_workspace_info()).description == "A lab"
    with pytest.raises(Exception, match="Permission denied"):
        await member.delete_workspace(name)

    await user.delete_workspace(name)
    with pytest.raises(ConnectionAbortedError, match="does not exist or is not accessible"):
        await connect(token=token, workspace=name)
    assert name not in [workspace["id"] for workspace in await user.list_workspaces()]


async def test_names(cluster: RunningCluster, connect: Connect) -> None:
    user = await connect(token=cluster.user_token())
    for name, error in [
        ("nohyphen", "must contain at least one hyphen"),
        ("Capital-letters", "only lowercase letters, numbers and hyphens are allowed"),
        ("ws-user-somebody", "."),
    ]:
        with pytest.raises(Exception, match=error):
            await user.create_workspace({"name": name})


async def test_owners(cluster: RunningCluster, connect: Connect) -> None:
    """By name or e-mail address an owner has all rights; a stranger has none."""
    name = _name()
    user = await connect(token=cluster.user_token())
    await user.create_workspace({"name": name, "owners": ["olga", "paul@example.org"], "persistent": True})
    for owner in ("olga", "paul"):
        client = await connect(token=cluster.user_token(owner), workspace=name)
        assert (await client.check_status())["user_permission"] == "a"
    with pytest.raises(ConnectionAbortedError, match=f"Permission denied for workspace: {name}"):
        await connect(token=cluster.user_token("quentin"), workspace=name)
    stranger = await connect(token=cluster.user_token("quentin"))
    for attempt in (stranger.get_workspace_info, stranger.list_clients, stranger.delete_workspace):
        with pytest.raises(Exception, match="Permission denied"):
            await attempt(name)


async def test_root(cluster: RunningCluster, connect: Connect) -> None:
    """The root token sees and does everything."""
    root = await connect(token=cluster.root_token)
    assert root.config.workspace == "ws-user-root"
    name = _name()
    await root.create_workspace({"name": name, "persistent": True})
    assert {name, "public", "ws-user-root"} <= {workspace["id"] for workspace in await root.list_workspaces()}
    token = await root.generate_token({"workspace": name, "permission": "admin"})
    admin = await connect(token=token, workspace=name)
    assert (await admin.check_status())["user_permission"] == "a"
    assert [client["id"] for client in await root.list_clients(name)] == [f"{name}/{admin.config.client_id}"]
    await root.delete_workspace(name)


async def test_not_everybody_is_let_in(cluster: RunningCluster, connect: Connect) -> None:
    server = await connect()
    for config, error in [
        ({"token": "nonsense"}, "Error decoding token headers"),
        ({"token": cluster.user_token()[:-4] + "AAAA"}, "Signature verification failed"),
        ({"workspace": "ws-nowhere"}, "does not exist or is not accessible"),
        ({"workspace": server.config.workspace}, "Permission denied for workspace"),
        ({"client_id": "a/b"}, "Invalid client id: a/b"),
    ]:
        with pytest.raises(Exception, match=error):
            await connect(**config)


class TestTokens:
    @pytest.fixture
    async def owner(self, cluster: RunningCluster, connect: Connect) -> Any:
        return await connect(token=cluster.user_token())

    async def test_generate_and_parse(self, owner: Any, connect: Connect) -> None:
        token = await owner.generate_token({"expires_in": 60, "permission": "read", "client_id": "only-me"})
        parsed = await owner.parse_token(token)
        workspace = owner.config.workspace
        assert parsed["scope"]["workspaces"] == {workspace: "r"}
        assert (parsed["parent"], parsed["scope"]["client_id"]) == (owner.config.user["id"], "only-me")
        reader = await connect(token=token, client_id="only-me")
        assert (await reader.check_status())["user_permission"] == "r"
        with pytest.raises(ConnectionAbortedError, match="Client id mismatch"):
            await connect(token=token, client_id="somebody")

    async def test_read_only_client(self, owner: Any, connect: Connect) -> None:
        """It calls services but offers none, tells the others nothing and makes no tokens."""
        await owner.register_service({"id": "s", "f": lambda: 1})
        reader = await connect(token=await owner.generate_token({"permission": "read"}))
        assert await (await reader.get_service("s")).f() == 1
        for attempt in (
            reader.register_service({"id": "t"}),
            reader.set_env("A", "1"),
            reader.generate_token(),
            reader.log("x"),
        ):
            with pytest.raises(Exception, match=r"Permission denied|Only admin"):
                await attempt

    async def test_bad_wishes(self, owner: Any) -> None:
        for config, error in [
            ({"workspace": "public"}, "You do not have any permission for workspace: public|Only admin"),
            ({"expires_in": -1}, "expires_in should be greater than 0"),
            ({"permission": "everything"}, "permission"),
            ({"email": "other@example.org"}, "PermissionError"),
        ]:
            with pytest.raises(Exception, match=error):
                await owner.generate_token(config)

    async def test_revoke(self, owner: Any, connect: Connect) -> None:
        token = await owner.generate_token()
        await (await connect(token=token)).disconnect()
        await owner.revoke_token(token)
        await owner.revoke_token(token)
        with pytest.raises(ConnectionAbortedError, match="Token has been revoked"):
            await connect(token=token)
        with pytest.raises(Exception, match="Invalid token"):
            await owner.revoke_token("nonsense")

    async def test_foreign_token(self, owner: Any, connect: Connect) -> None:
        token = await (await connect()).generate_token()
        with pytest.raises(Exception, match="Token is not authorized for workspace"):
            await owner.parse_token(token)
