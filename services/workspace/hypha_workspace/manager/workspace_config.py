"""
What a caller may ask for with ``create_workspace`` (contract 01 §3.2), checked. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.ids import ANONYMOUS_WORKSPACE, PUBLIC_WORKSPACE, ROOT_WORKSPACE

from .bounds import (
    MAX_ENV_BYTES,
    MAX_ENV_VARIABLES,
    MAX_NAME_BYTES,
    MAX_RECORD_BYTES,
    MAX_SERVICE_TYPES,
    check_size,
    check_text,
)
from .service_type_info import read_service_type

__all__ = ["WorkspaceConfig", "read_workspace_config"]

_SYSTEM_WORKSPACES = frozenset((PUBLIC_WORKSPACE, ROOT_WORKSPACE, ANONYMOUS_WORKSPACE))
MAX_OWNERS = 100

_NAME = re.compile(r"[a-z0-9\-|]*")
_NOT_CONFIG = ("environs", "bookmarks")  # they are kept beside the record; bookmarks have methods of their own


@dataclass(frozen=True, slots=True)
class WorkspaceConfig:
    """A checked request for a workspace."""

    id: str
    name: str
    description: str | None
    persistent: bool
    owners: tuple[str, ...]
    read_only: bool
    icon: str | None
    covers: Any
    docs: Any
    config: dict[str, Any]
    environs: dict[str, Any]
    service_types: dict[str, dict[str, Any]]


def read_workspace_config(given: Mapping[str, Any], *, owner: str, is_root: bool) -> WorkspaceConfig:
    """Check what a client sent; ``owner`` joins the owners. Raises BadRequest, PermissionDenied or PayloadTooLarge."""
    workspace = given.get("id") or given.get("name")
    if not workspace:
        raise BadRequest("Workspace id or name must be provided.", rpc_type="AssertionError")
    workspace = check_text(workspace, "Workspace id")
    if not is_root:
        _check_id(workspace)
    elif "/" in workspace or ":" in workspace or "*" in workspace or "@" in workspace:
        raise BadRequest(f"Invalid workspace name: {workspace}")
    config = given.get("config") or {}
    if not isinstance(config, Mapping):
        raise BadRequest("The config of a workspace must be a map")
    kept = {key: value for key, value in config.items() if key not in _NOT_CONFIG}
    details = {key: given.get(key) for key in ("description", "icon", "covers", "docs")}
    check_size([kept, details], f"Workspace {workspace}", MAX_RECORD_BYTES)
    name = given.get("name") or workspace
    return WorkspaceConfig(
        id=workspace,
        name=check_text(name, "Workspace name"),
        description=_optional_text(details["description"], "description"),
        persistent=bool(given.get("persistent", False)),
        owners=_read_owners(given.get("owners"), owner),
        read_only=bool(given.get("read_only", False)),
        icon=_optional_text(details["icon"], "icon"),
        covers=details["covers"],
        docs=details["docs"],
        config=kept,
        environs=_read_environs(config.get("environs")),
        service_types=_read_types(given.get("service_types"), workspace),
    )


def _check_id(workspace: str) -> None:
    if "-" not in workspace and workspace != PUBLIC_WORKSPACE:
        raise BadRequest("Workspace name must contain at least one hyphen (e.g. my-workspace).")
    if not _NAME.fullmatch(workspace) or len(workspace) > MAX_NAME_BYTES:
        raise BadRequest(
            f"Invalid workspace name: {workspace}, only lowercase letters, numbers and hyphens are allowed."
        )
    # Whoever made `ws-user-<other>` would own what that user stores there later.
    if workspace in _SYSTEM_WORKSPACES or workspace.startswith("ws-user-"):
        raise PermissionDenied(f"Permission denied: workspace name {workspace} is reserved")


def _read_owners(given: object, owner: str) -> tuple[str, ...]:
    owners = given or []
    if not isinstance(owners, list) or len(owners) > MAX_OWNERS:
        raise BadRequest(f"owners must be a list of at most {MAX_OWNERS} user ids or e-mail addresses")
    checked = [check_text(name, "Owner") for name in owners]
    return tuple(dict.fromkeys([*checked, owner]))


def _read_environs(given: object) -> dict[str, Any]:
    environs = given or {}
    if not isinstance(environs, Mapping) or len(environs) > MAX_ENV_VARIABLES:
        raise BadRequest(f"environs must be a map of at most {MAX_ENV_VARIABLES} variables")
    return {
        check_text(key, "Environment variable name"): check_size(value, f"Environment variable '{key}'", MAX_ENV_BYTES)
        for key, value in environs.items()
        if value is not None
    }


def _read_types(given: object, workspace: str) -> dict[str, dict[str, Any]]:
    types = given or {}
    if not isinstance(types, Mapping) or len(types) > MAX_SERVICE_TYPES:
        raise BadRequest(f"service_types must be a map of at most {MAX_SERVICE_TYPES} types")
    infos = []
    for key, info in types.items():
        if not isinstance(info, Mapping):
            raise BadRequest(f"Service type {key} must be a map")
        infos.append(read_service_type({"id": key, **info}, workspace))
    return {info["id"]: info for info in infos}


def _optional_text(value: Any, what: str) -> str | None:
    if value is not None and (not isinstance(value, str) or "\x00" in value):
        raise BadRequest(f"The {what} of a workspace must be a string")
    text: str | None = value
    return text
