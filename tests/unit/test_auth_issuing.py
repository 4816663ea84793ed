from __future__ import annotations

from typing import Any

import pytest

from hypha_auth.issuing import TokenConfig, issue, life_of
from hypha_common.errors import BadRequest, HyphaError, PermissionDenied
from hypha_common.principal import Permission, Principal, Scope, root_principal
from hypha_common.tokens import TokenCodec, VerifiedToken

CODEC = TokenCodec("a secret of at least thirty-two bytes")
HOME = "ws-user-alice"
ALICE = Principal(
    id="alice",
    roles=("user",),
    email="alice@example.org",
    scope=Scope({HOME: Permission.ADMIN, "ws-b": Permission.READ_WRITE}, current_workspace=HOME),
)


def child_of(caller: Principal, config: Any = None, *, workspace: str = HOME, owner: bool = False) -> VerifiedToken:
    parsed = TokenConfig.parse(config, workspace=workspace)
    return CODEC.verify(issue(CODEC, caller, parsed, owner=owner))


def test_default() -> None:
    """A child has a name of its own, a parent, and just what was asked for."""
    token = child_of(ALICE)
    child = token.principal
    assert child.id != "alice"
    assert (child.parent, child.roles, child.email) == ("alice", ("user",), "alice@example.org")
    assert child.scope.workspaces == {HOME: Permission.READ_WRITE}
    assert (token.workspace, token.client_id, token.extra_scopes) == (HOME, None, ())
    assert token.expires_at is not None


def test_config() -> None:
    config = {"permission": "read", "expires_in": 60, "client_id": "c1", "extra_scopes": ["file:download"], "other": 1}
    token = child_of(ALICE, config)
    assert token.principal.permission(HOME) is Permission.READ
    assert (token.client_id, token.extra_scopes) == ("c1", ("file:download",))


def test_grandchild() -> None:
    """The parent is always the person."""
    child = child_of(ALICE, {"permission": "admin"}).principal
    assert child_of(child).principal.parent == "alice"


def test_no_permission() -> None:
    with pytest.raises(PermissionDenied, match=r"^You do not have any permission for workspace: ws-c$"):
        child_of(ALICE, {"workspace": "ws-c"})


def test_not_admin() -> None:
    with pytest.raises(PermissionDenied, match=r"^Only admin can generate token\.$"):
        child_of(ALICE, {"workspace": "ws-b"})


def test_owner_who_acts_directly() -> None:
    """An owner whose token does not name the workspace may give tokens for it."""
    assert child_of(ALICE, {"workspace": "ws-c"}, owner=True).workspace == "ws-c"


@pytest.mark.parametrize("permission", ["read", "read_write"])
def test_child_does_not_become_its_parent(permission: str) -> None:
    """A limited child token mints nothing, though its parent owns the workspace (contract 01 §9 point 6)."""
    child = child_of(ALICE, {"permission": permission}).principal
    for owner in (False, True):
        with pytest.raises(PermissionDenied):
            child_of(child, {"permission": "admin"}, owner=owner)


def test_root_child_is_no_root() -> None:
    """A token that an administrator makes for a workspace is limited to it."""
    child = child_of(root_principal(), {"workspace": "ws-x", "permission": "read"}).principal
    assert child.permission("ws-x") is Permission.READ
    assert child.permission("ws-y") is Permission.NONE
    assert not child.is_admin


def test_email() -> None:
    """Only an administrator says who somebody is."""
    with pytest.raises(PermissionDenied):
        child_of(ALICE, {"email": "bob@example.org"})
    token = child_of(root_principal(), {"workspace": "ws-x", "email": "bob@example.org"})
    assert token.principal.email == "bob@example.org"


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("text", "TypeError: config must be a map"),
        ({"permission": "rw"}, "ValueError: Invalid permission: rw"),
        ({"permission": ["read"]}, "ValueError: Invalid permission"),
        ({"expires_in": 0}, "AssertionError: expires_in should be greater than 0"),
        ({"expires_in": -1}, "AssertionError: expires_in should be greater than 0"),
        ({"expires_in": "60"}, "ValueError: expires_in must be a number"),
        ({"expires_in": float("nan")}, "ValueError: expires_in must be a number"),
        ({"client_id": "a/b"}, "ValueError: Invalid client id"),
        ({"extra_scopes": ["ws:other#a"]}, "ValueError: Invalid extra scope"),
        ({"extra_scopes": "file:download"}, "ValueError: extra_scopes must be a list"),
        ({"workspace": 5}, "ValueError: workspace must be text"),
        ({"email": 5}, "ValueError: email must be text"),
    ],
)
def test_bad_config(config: Any, error: str) -> None:
    with pytest.raises(HyphaError) as caught:
        TokenConfig.parse(config, workspace=HOME)
    assert isinstance(caught.value, BadRequest)
    assert caught.value.rpc_text().startswith(error)


def test_life() -> None:
    """Absurd lives are cut, fractions count."""
    assert life_of(None) == 3600
    assert life_of(0.2) == 1
    assert life_of(float("inf")) == life_of(1e30)
    assert CODEC.sign(ALICE, life_s=life_of(1e30))
