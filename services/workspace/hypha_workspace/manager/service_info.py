"""
What a client may register (contract 01 §3.1 and §3.6), checked and completed. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypha_common.errors import BadRequest, PayloadTooLarge, PermissionDenied
from hypha_common.ids import ServiceId
from hypha_common.principal import Principal
from hypha_common.wire import pack

__all__ = ["BUILT_IN", "Registration", "ServiceInfo", "check_app", "read_registration", "visibility_of"]

ServiceInfo = dict[str, Any]

BUILT_IN = "built-in"
MAX_DESCRIPTION_CHARACTERS = 1024
MAX_SERVICE_INFO_BYTES = 1024 * 1024
MAX_SERVICE_PART_BYTES = 255

_VISIBILITIES = {"public": "public", "unlisted": "unlisted", "protected": "protected", "private": "protected"}
_FORBIDDEN = re.compile(r"[*?\[\]\x00-\x1f\x7f]")  # glob characters would make the registry match other services


@dataclass(frozen=True, slots=True)
class Registration:
    """A checked registration: where it goes and the ServiceInfo to store."""

    id: ServiceId
    info: ServiceInfo

    @property
    def is_built_in(self) -> bool:
        return self.id.service == BUILT_IN

    @property
    def singleton(self) -> bool:
        return bool(self.info["config"]["singleton"])


def read_registration(
    given: Mapping[str, Any], *, workspace: str, client_id: str, principal: Principal, instance_of: str | None = None
) -> Registration | None:
    """
    Check what a client sent and return it completed, or None where it must be dropped without a word.

    ``instance_of`` is the app that the client is known to be an instance of, whatever it says itself.
    Raises BadRequest, PermissionDenied or PayloadTooLarge, in the order of contract 01 §3.6.

    """
    service_id = _read_id(given.get("id"), workspace, client_id)
    config = given.get("config") or {}
    if not isinstance(config, Mapping):
        raise BadRequest("Service config must be a map")
    if service_id.service.startswith("_rintf_") or config.get("_local_only") is True:
        return None
    app = _read_app(given.get("app_id"), service_id.app) if instance_of is None else check_app(instance_of)
    service_id = ServiceId(service_id.workspace, service_id.client, service_id.service, app)
    is_built_in = service_id.service == BUILT_IN
    created_by = principal.dump() if is_built_in else {"id": principal.id}
    info: ServiceInfo = {
        "config": _read_config(config, workspace, created_by),
        "id": service_id.full,
        "name": _text(given, "name") or service_id.service,
        "type": _text(given, "type") or "generic",
        "description": _read_description(given),
        "docs": _text(given, "docs"),
        "app_id": app,
        "service_schema": _read_schema(given),
    }
    _check_size(info)
    return Registration(service_id, info)


def _read_id(given: object, workspace: str, client_id: str) -> ServiceId:
    if not isinstance(given, str):
        raise BadRequest("Service id must be a string", rpc_type="AssertionError")
    text = given if "/" in given else f"{workspace}/{given}"
    if ":" not in text:
        raise BadRequest("Service id info must contain ':'", rpc_type="AssertionError")
    service_id = ServiceId.parse(text, default_workspace=workspace)
    if service_id.workspace != workspace:
        raise PermissionDenied(
            f"Service ID workspace prefix '{service_id.workspace}' does not match the current workspace '{workspace}'. "
            "Cannot register services in other workspaces."
        )
    if service_id.client != client_id:
        raise PermissionDenied(
            f"Service ID client '{service_id.client}' does not match the current client '{client_id}'. "
            "Cannot register services of other clients."
        )
    name = service_id.service
    if _FORBIDDEN.search(name) or len(name.encode("utf-8", "replace")) > MAX_SERVICE_PART_BYTES:
        raise BadRequest(f"Invalid service id: {given[:MAX_SERVICE_PART_BYTES]}")
    return service_id


def _read_app(given: object, from_id: str) -> str:
    app = check_app(from_id if given is None else given)
    if "*" not in (from_id, app) and from_id != app:
        raise BadRequest(f"App id mismatch: {from_id} != {app}", rpc_type="AssertionError")
    return check_app(from_id) if app == "*" else app


def check_app(app: object) -> str:
    """Return an application id that a service may name, ``*`` for none, or raise BadRequest."""
    if not isinstance(app, str):
        raise BadRequest("App id must be a string", rpc_type="AssertionError")
    if "/" in app:
        raise BadRequest("App id info must not contain '/'", rpc_type="AssertionError")
    invalid = app != "*" and (_FORBIDDEN.search(app) or any(c in app for c in "@:"))
    if not app or invalid or len(app.encode("utf-8", "replace")) > MAX_SERVICE_PART_BYTES:
        raise BadRequest(f"Invalid app id: {app[:MAX_SERVICE_PART_BYTES]}")
    return app


def _read_config(given: Mapping[str, Any], workspace: str, created_by: dict[str, Any]) -> dict[str, Any]:
    visibility = given.get("visibility", "protected")
    authorized = given.get("authorized_workspaces")
    if authorized is not None:
        _check_authorized(authorized, visibility)
    if not isinstance(visibility, str) or visibility not in _VISIBILITIES:
        raise BadRequest(f"Invalid visibility: {visibility}. It must be 'public', 'protected' or 'unlisted'")
    require_context = given.get("require_context", False)
    if not isinstance(require_context, bool | list) and require_context is not None:
        raise BadRequest("require_context must be a boolean or a list of method names")
    flags = given.get("flags")
    if flags is not None and not isinstance(flags, list):
        raise BadRequest("flags must be a list")
    return {
        "visibility": _VISIBILITIES[visibility],
        "require_context": require_context or False,
        "workspace": workspace,
        "flags": flags or [],
        "singleton": bool(given.get("singleton", False)),
        "created_by": created_by,
        "service_embedding": None,
        "authorized_workspaces": authorized,
        **{key: value for key, value in given.items() if key not in _KNOWN_CONFIG},
    }


_KNOWN_CONFIG = frozenset(
    (
        "visibility",
        "require_context",
        "workspace",
        "flags",
        "singleton",
        "created_by",
        "service_embedding",
        "authorized_workspaces",
    )
)


def visibility_of(given: object) -> str:
    """Return who sees a service that nobody has registered: what is not known to be open is protected."""
    return _VISIBILITIES.get(given, "protected") if isinstance(given, str) else "protected"


def _check_authorized(authorized: object, visibility: object) -> None:
    if visibility not in ("protected", "private"):
        raise BadRequest(
            f"authorized_workspaces can only be set when visibility is 'protected', got visibility='{visibility}'"
        )
    if not isinstance(authorized, list) or not all(isinstance(name, str) and "\x00" not in name for name in authorized):
        raise BadRequest("authorized_workspaces must be a list of workspace ids")


def _read_description(given: Mapping[str, Any]) -> str | None:
    description = _text(given, "description")
    if description is not None and len(description) > MAX_DESCRIPTION_CHARACTERS:
        raise BadRequest(f"Service description must not be longer than {MAX_DESCRIPTION_CHARACTERS} characters")
    return description


def _read_schema(given: Mapping[str, Any]) -> dict[str, Any] | None:
    schema = given.get("service_schema")
    if schema is not None and not isinstance(schema, dict):
        raise BadRequest("service_schema must be a map")
    return schema


def _text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"Service {key} must be a string")
    if value is not None and "\x00" in value:
        raise BadRequest(f"Service {key} is not valid text")
    return value


def _check_size(info: ServiceInfo) -> None:
    try:
        size = len(pack(info))
    except (TypeError, ValueError, OverflowError) as error:
        raise BadRequest(f"Service info holds a value that cannot be stored: {error}") from None
    if size > MAX_SERVICE_INFO_BYTES:
        raise PayloadTooLarge(f"Service info is larger than {MAX_SERVICE_INFO_BYTES} bytes")
