from __future__ import annotations

from typing import Any

import pytest

from hypha_common.errors import BadRequest, HyphaError, PayloadTooLarge, PermissionDenied
from hypha_common.principal import Principal
from hypha_workspace.manager.service_info import MAX_SERVICE_INFO_BYTES, Registration, read_registration

PRINCIPAL = Principal(id="u1", email="u1@example.org")


def read(**given: Any) -> Registration | None:
    given.setdefault("id", "ws/c:svc")
    return read_registration(given, workspace="ws", client_id="c", principal=PRINCIPAL)


def stored(**given: Any) -> dict[str, Any]:
    registration = read(**given)
    assert registration is not None
    return registration.info


def test_defaults_are_filled_in() -> None:
    """The event of contract 01 §10.6 shows every field."""
    assert stored(unknown="dropped") == {
        "config": {
            "visibility": "protected",
            "require_context": False,
            "workspace": "ws",
            "flags": [],
            "singleton": False,
            "created_by": {"id": "u1"},
            "service_embedding": None,
            "authorized_workspaces": None,
        },
        "id": "ws/c:svc",
        "name": "svc",
        "type": "generic",
        "description": None,
        "docs": None,
        "app_id": "*",
        "service_schema": None,
    }


def test_extra_config_stays_and_identity_cannot_be_forged() -> None:
    """Extra configuration keys are kept; who registered, and where, is not the client's to say."""
    config = stored(config={"api_version": 3, "workspace": "elsewhere", "created_by": {"id": "root"}})["config"]
    assert config["api_version"] == 3
    assert config["workspace"] == "ws"
    assert config["created_by"] == {"id": "u1"}


@pytest.mark.parametrize("given", [{}, {"app_id": "other"}, {"id": "ws/c:svc@other"}, {"app_id": 5}])
def test_instance_belongs_to_its_app(given: dict[str, Any]) -> None:
    """Whatever it says itself."""
    registration = read_registration(
        {"id": "ws/c:svc", **given}, workspace="ws", client_id="c", principal=PRINCIPAL, instance_of="my-app"
    )
    assert registration is not None
    assert registration.id.app == registration.info["app_id"] == "my-app"


def test_built_in_keeps_the_whole_user() -> None:
    """list_clients shows the user of a client from its built-in service."""
    registration = read(id="c:built-in", type="built-in")
    assert registration is not None
    assert registration.is_built_in
    assert registration.info["config"]["created_by"] == PRINCIPAL.dump()
    assert registration.info["id"] == "ws/c:built-in"


def test_private_is_protected() -> None:
    """The getting-started text uses a visibility that clients no longer know."""
    assert (
        stored(config={"visibility": "private", "authorized_workspaces": ["b"]})["config"]["visibility"] == "protected"
    )


@pytest.mark.parametrize("given", [{"id": "ws/c:_rintf_1"}, {"config": {"_local_only": True}}])
def test_local_services_are_dropped(given: dict[str, Any]) -> None:
    """Callback interfaces must never be stored."""
    assert read(**given) is None


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"id": "svc"}, BadRequest, "AssertionError: Service id info must contain ':'"),
        ({"id": 5}, BadRequest, "AssertionError: Service id must be a string"),
        (
            {"id": "other/c:svc"},
            PermissionDenied,
            (
                "PermissionError: Service ID workspace prefix 'other' does not match the current workspace 'ws'. "
                "Cannot register services in other workspaces."
            ),
        ),
        (
            {"id": "ws/d:svc"},
            PermissionDenied,
            (
                "PermissionError: Service ID client 'd' does not match the current client 'c'. "
                "Cannot register services of other clients."
            ),
        ),
        ({"id": "ws/c:a*"}, BadRequest, "ValueError: Invalid service id: ws/c:a*"),
        ({"app_id": "a/b"}, BadRequest, "AssertionError: App id info must not contain '/'"),
        (
            {"config": {"authorized_workspaces": ["x"], "visibility": "public"}},
            BadRequest,
            "ValueError: authorized_workspaces can only be set when visibility is 'protected', got visibility='public'",
        ),
        (
            {"config": {"visibility": "secret"}},
            BadRequest,
            "ValueError: Invalid visibility: secret. It must be 'public', 'protected' or 'unlisted'",
        ),
        ({"config": {"visibility": ["public"]}}, BadRequest, None),
        (
            {"description": "x" * 1025},
            BadRequest,
            "ValueError: Service description must not be longer than 1024 characters",
        ),
        ({"docs": "x" * MAX_SERVICE_INFO_BYTES}, PayloadTooLarge, None),
        ({"config": {"f": print}}, BadRequest, None),
        ({"config": [1]}, BadRequest, None),
        ({"name": 3}, BadRequest, "ValueError: Service name must be a string"),
    ],
)
def test_refusals(given: dict[str, Any], error: type[HyphaError], text: str | None) -> None:
    """Each refusal is typed and says what clients match on."""
    with pytest.raises(error) as caught:
        read(**given)
    if text is not None:
        assert caught.value.rpc_text() == text


def test_app_id() -> None:
    """A null app is ``*``; one in the id is taken over."""
    assert stored(app_id=None)["app_id"] == "*"
    assert stored(app_id="a")["app_id"] == "a"
    assert stored(id="ws/c:svc@a", app_id="*")["app_id"] == "a"
    assert stored(id="ws/c:svc@a")["id"] == "ws/c:svc"
    with pytest.raises(BadRequest, match="App id mismatch"):
        read(id="ws/c:svc@a", app_id="b")
