from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hypha_common.errors import BadRequest, HyphaError, PayloadTooLarge, PermissionDenied
from hypha_common.principal import Permission, Principal, Scope, root_principal
from hypha_workspace.manager.access import home_of, is_owner
from hypha_workspace.manager.bounds import check_size, check_text
from hypha_workspace.manager.event_log import read_time
from hypha_workspace.manager.lookup import LookupOptions
from hypha_workspace.manager.providers import absolute_targets
from hypha_workspace.manager.subscriptions import read_event_types
from hypha_workspace.manager.workspace_config import read_workspace_config


def child(**grants: Permission) -> Principal:
    return Principal(id="child", parent="u1", scope=Scope({name.replace("_", "-"): p for name, p in grants.items()}))


def test_owner() -> None:
    """Owning is by id, e-mail or name of the workspace, and never through a parent."""
    user = Principal(id="u1", email="a@b")
    assert is_owner(user, "w-1", ("u1",))
    assert is_owner(user, "w-1", ("a@b",))
    assert is_owner(user, "ws-user-u1")
    assert not is_owner(user, "w-1", ("u2",))
    assert not is_owner(child(), "w-1", ("u1",))
    assert not is_owner(child(), "ws-user-u1")


def test_home_of_a_child() -> None:
    """A child token acts in its parent's personal workspace only where its scope lets it write."""
    assert home_of(Principal(id="u1")) == "ws-user-u1"
    assert home_of(child(ws_user_u1=Permission.READ_WRITE)) == "ws-user-u1"
    assert home_of(child(ws_user_u1=Permission.READ)) == "ws-user-child"


@pytest.mark.parametrize("value", ["", None, 3, "a\x00b", "\ud800", "x" * 300])
def test_text_that_cannot_be_stored(value: Any) -> None:
    """What the database would refuse is the caller's fault, not ours."""
    with pytest.raises(BadRequest):
        check_text(value, "Name")


def test_size() -> None:
    """Values are measured as they are stored."""
    assert check_size({"a": [1]}, "It", 10) == {"a": [1]}
    with pytest.raises(PayloadTooLarge):
        check_size("x" * 11, "It", 10)
    with pytest.raises(BadRequest):
        check_size(object(), "It", 10)


def test_times() -> None:
    """ISO times with and without a zone."""
    assert read_time(None, "start_time") is None
    assert read_time("2030-01-02T03:04:05", "start_time") == datetime(2030, 1, 2, 3, 4, 5)  # noqa: DTZ001 as given
    assert read_time("2030-01-02T03:04:05Z", "start_time") == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    for wrong in ("yesterday", 5):
        with pytest.raises(BadRequest, match="Invalid start_time"):
            read_time(wrong, "start_time")


@pytest.mark.parametrize("given", ["client_connected", "custom:a", "ws-own", "ws-own/x", "ws-own:x", ["a", "b"]])
def test_subscriptions_that_are_allowed(given: Any) -> None:
    """System types, custom names, and names of the own workspace."""
    assert read_event_types(given, "ws-own") == ([given] if isinstance(given, str) else given)


@pytest.mark.parametrize(
    "given", ["other/x", "ws-other", "ws-other/x", "ws-other:x", ["a", "ws-own2"], 3, [3], ["a"] * 101]
)
def test_subscriptions_that_are_forbidden(given: Any) -> None:
    """Names of another workspace are refused with the text that clients know."""
    with pytest.raises(BadRequest) as caught:
        read_event_types(given, "ws-own")
    if isinstance(given, str):
        assert str(caught.value).startswith(f"Subscription to event '{given}' is forbidden")


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({}, BadRequest, "AssertionError: Workspace id or name must be provided."),
        (
            {"name": "plain"},
            BadRequest,
            "ValueError: Workspace name must contain at least one hyphen (e.g. my-workspace).",
        ),
        (
            {"name": "My-Workspace"},
            BadRequest,
            (
                "ValueError: Invalid workspace name: My-Workspace, "
                "only lowercase letters, numbers and hyphens are allowed."
            ),
        ),
        ({"id": "ws-user-victim"}, PermissionDenied, None),
        ({"id": "ws-anonymous"}, PermissionDenied, None),
        ({"id": "public"}, PermissionDenied, None),
        ({"id": "a-b", "owners": "me"}, BadRequest, None),
        ({"id": "a-b", "owners": [3]}, BadRequest, None),
        ({"id": "a-b", "config": [1]}, BadRequest, None),
        ({"id": "a-b", "docs": "x" * 300_000}, PayloadTooLarge, None),
    ],
)
def test_workspaces_that_cannot_be_made(given: dict[str, Any], error: type[HyphaError], text: str | None) -> None:
    """Names are checked, and names of others are reserved."""
    with pytest.raises(error) as caught:
        read_workspace_config(given, owner="u1", is_root=False)
    if text is not None:
        assert caught.value.rpc_text() == text


def test_workspace_config() -> None:
    """The caller joins the owners; what has limits of its own is not taken from the config."""
    wanted = read_workspace_config(
        {"name": "a-b|c", "owners": ["a@b", "u1"], "config": {"x": 1, "environs": {"A": 1}}}, owner="u1", is_root=False
    )
    assert (wanted.id, wanted.name, wanted.owners, wanted.persistent) == ("a-b|c", "a-b|c", ("a@b", "u1"), False)
    assert wanted.config == {"x": 1}
    assert read_workspace_config({"id": "plain"}, owner="root", is_root=True).id == "plain"
    assert root_principal().is_admin


def test_lookup_options() -> None:
    """Unknown keys are ignored, wrong values are not."""
    assert LookupOptions.read(None) == LookupOptions()
    given = {"mode": "first", "timeout": 3, "new": 1, "read_app_manifest": True}
    assert LookupOptions.read(given) == LookupOptions(
        mode="first", timeout_s=3.0, start_timeout_s=3.0, read_app_manifest=True
    )
    for wrong in ({"mode": 1}, {"timeout": 0}, {"timeout": "soon"}, {"case_conversion": "x"}, {"select_timeout": True}):
        with pytest.raises(BadRequest):
            LookupOptions.read(wrong)


def test_relative_targets_become_absolute() -> None:
    """A service goes through the manager to another workspace: a bare client id would change its meaning."""
    bare = {"_rtype": "method", "_rtarget": "c", "_rmethod": "services.s.f"}
    full = {"_rtype": "method", "_rtarget": "other/c", "_rmethod": "services.s.g"}
    found = absolute_targets({"f": bare, "deep": [{"g": full}], "n": 1}, "ws")
    assert found["f"]["_rtarget"] == "ws/c"
    assert found["deep"][0]["g"] is full
    assert found["n"] == 1
