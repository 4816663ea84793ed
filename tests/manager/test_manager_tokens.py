from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_auth.main import Auth
from hypha_common.principal import Permission
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec
from tests.manager.rig import Gateway, child, user


@pytest.fixture
async def codec(stack: Settings) -> AsyncIterator[TokenCodec]:
    """Run an auth service; return what reads its tokens."""
    auth = Auth(stack, on_fatal=pytest.fail)
    await auth.start()
    yield auth.security.codec
    await auth.stop()


async def test_generate_and_use(gateway: Gateway, codec: TokenCodec) -> None:
    """A token lets another client into the workspace, with no more than was asked for."""
    a = await gateway.connect("a", user("tom"), "ws-user-tom")
    token = await a.manager.generate_token()
    verified = codec.verify(token)
    assert verified.principal.parent == "tom"
    assert verified.workspace == "ws-user-tom"
    assert verified.principal.permission("ws-user-tom") is Permission.READ_WRITE
    parsed = await a.manager.parse_token(token)
    assert parsed["id"] == verified.principal.id
    reader = codec.verify(await a.manager.generate_token({"permission": "read", "expires_in": 60}))
    assert reader.principal.permission("ws-user-tom") is Permission.READ
    b = await gateway.connect("b", verified.principal, "ws-user-tom")
    with pytest.raises(RemoteException, match=r"PermissionError: Only admin can generate token."):
        await b.manager.generate_token({"permission": "admin"})


async def test_owner_of_another_workspace(gateway: Gateway, codec: TokenCodec) -> None:
    """Owning is enough, for a user acting directly; a child token does not inherit it."""
    a = await gateway.connect("a", user("own"), "ws-user-own")
    await a.manager.create_workspace({"name": "own-lab"})
    verified = codec.verify(await a.manager.generate_token(config={"workspace": "own-lab", "permission": "admin"}))
    assert verified.principal.permission("own-lab") is Permission.ADMIN
    with pytest.raises(RemoteException, match="PermissionError: You do not have any permission for workspace: ws-x"):
        await a.manager.generate_token({"workspace": "ws-x"})
    low = await gateway.connect("low", child("own", "ws-user-own", Permission.READ), "ws-user-own")
    for workspace in ("ws-user-own", "own-lab"):
        with pytest.raises(RemoteException, match="PermissionError"):
            await low.manager.generate_token({"workspace": workspace, "permission": "admin"})


async def test_wrong_configurations(gateway: Gateway, codec: TokenCodec) -> None:
    a = await gateway.connect("a", user("wes"), "ws-user-wes")
    with pytest.raises(RemoteException, match="AssertionError: expires_in should be greater than 0"):
        await a.manager.generate_token({"expires_in": 0})
    with pytest.raises(RemoteException, match="ValueError"):
        await a.manager.generate_token({"permission": "all"})
    with pytest.raises(RemoteException, match="PermissionError"):
        await a.manager.generate_token({"email": "somebody@else"})


async def test_parse_and_revoke(gateway: Gateway, codec: TokenCodec) -> None:
    a = await gateway.connect("a", user("rev"), "ws-user-rev")
    token = await a.manager.generate_token()
    b = await gateway.connect("b", user("ben"), "ws-user-ben")
    with pytest.raises(RemoteException, match="Token is not authorized for workspace 'ws-user-ben'"):
        await b.manager.parse_token(token)
    assert await a.manager.revoke_token(token) is None
    assert await a.manager.revoke_token(token) is None
    with pytest.raises(RemoteException, match="Token has been revoked"):
        await a.manager.parse_token(token)
    with pytest.raises(RemoteException, match="ValueError: Invalid token"):
        await a.manager.revoke_token("nonsense")


async def test_without_auth_service(gateway: Gateway) -> None:
    """Nobody waits for a service that is away."""
    a = await gateway.connect("a", user("out"), "ws-user-out")
    with pytest.raises(RemoteException, match="ConnectionError"):
        await a.manager.generate_token()


async def test_a_service_of_a_role(gateway: Gateway, codec: TokenCodec) -> None:
    """What the cluster itself provides is found and called like anybody's service."""
    a = await gateway.connect("a", user("log"), "ws-user-log")
    assert codec
    for _ in range(50):
        if await a.manager.list_services({"workspace": "public", "service_id": "hypha-login"}):
            break
        await asyncio.sleep(0.1)
    login = await a.manager.get_service("public/hypha-login")
    assert login["id"] == "public/hypha-auth:hypha-login"
    started = await login["start"]()
    assert await login["check"](started["key"], timeout=0) is None
