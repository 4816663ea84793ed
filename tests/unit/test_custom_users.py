"""Users as startup functions describe them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from hypha.core import ScopeInfo, UserInfo, create_scope
from hypha_common.custom_auth import CustomAuth, checked_user
from hypha_common.errors import BadRequest
from hypha_common.principal import Permission, root_principal


class Modelled:
    """As pydantic's models."""

    def model_dump(self) -> dict[str, Any]:
        return {"id": "alice", "email": "alice@example.org", "more": 1}


@dataclass
class Described:
    id: str = "alice"
    email: str = "alice@example.org"


@pytest.mark.parametrize(
    "given",
    [
        {"id": "alice", "email": "alice@example.org", "unknown": object()},
        UserInfo(id="alice", email="alice@example.org"),
        Modelled(),
        Described(),
        SimpleNamespace(id="alice", email="alice@example.org"),
    ],
)
def test_whatever_describes_a_user(given: object) -> None:
    user = checked_user(UserInfo.dump_of(given))
    assert (user.id, user.email, user.scope.workspaces) == (
        "alice",
        "alice@example.org",
        {"ws-user-alice": Permission.ADMIN},
    )


@pytest.mark.parametrize("given", [{}, "alice", 3, object()])
def test_what_describes_nobody(given: object) -> None:
    with pytest.raises(BadRequest, match="must be a map or a UserInfo"):
        UserInfo.dump_of(given)


@pytest.mark.parametrize(
    "user",
    [
        {"id": ""},
        {"id": 3},
        {"id": "a/b"},
        {"id": "a\x00"},
        {"id": "x" * 300},
        {"id": "\ud800"},
        {"id": "root"},
        {"id": "a", "roles": [1]},
        {"id": "a", "email": 1},
        {"id": "a", "expires_at": "soon"},
        {"id": "a", "expires_at": True},
        {"id": "a", "scope": {"workspaces": {"w": "everything"}}},
        {"id": "a", "scope": {"extra_scopes": ["ws:other#a"]}},
        {"id": "a", "scope": {"current_workspace": 1}},
        {"id": "a", "scope": "ws-user-a"},
    ],
)
def test_users_that_cannot_be(user: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        checked_user(user)


def test_grants() -> None:
    """As for tokens of the cluster: one bound elsewhere does not bring the personal workspace along."""
    bound = {"id": "a", "scope": {"workspaces": {"w": "r"}, "current_workspace": "w"}}
    assert checked_user(bound).scope.workspaces == {"w": Permission.READ}
    child = {"id": "child", "parent": "a", "scope": {"workspaces": {"w": "r"}}}
    assert checked_user(child).scope.workspaces == {"w": Permission.READ}
    admin = {"id": "a", "roles": ["admin"]}
    assert checked_user(admin).permission("any") is Permission.ADMIN


def test_scopes() -> None:
    assert create_scope("a#rw, b#r", "a") == ScopeInfo({"a": "rw", "b": "r"}, "a")
    assert create_scope({"a": "admin"}).workspaces == {"a": "a"}
    with pytest.raises(BadRequest, match="Invalid permission"):
        create_scope("a#everything")


def test_both_as_attributes_and_items() -> None:
    root = UserInfo.of(root_principal())
    assert root["id"] == root.id == "root"
    assert root.scope is not None and root.scope.workspaces == {"*": "a"}
    with pytest.raises(KeyError):
        root["nothing"]


def test_what_is_remembered() -> None:
    custom = CustomAuth("hypha", frozenset({"parse_token", "login"}))
    assert CustomAuth.load(custom.dump()) == custom
    assert str(custom.provider) == "public/hypha"
    assert CustomAuth.load(None) is None
