"""
The query of ``list_services`` (contract 01 §3.11), parsed. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.ids import PUBLIC_WORKSPACE

__all__ = ["ServiceQuery", "read_query"]

_KEYS = {"visibility", "workspace", "client_id", "service_id", "id", "type", "app_id"}
# Wider than the contract's set by `.`, which occurs in client ids and service names.
_PART = re.compile(r"[A-Za-z0-9\-_./|*]*")
MAX_PART_CHARACTERS = 255


@dataclass(frozen=True, slots=True)
class ServiceQuery:
    """Filters on the registry; ``*`` in a part matches any characters. ``workspace`` ``*`` means every workspace."""

    workspace: str
    client_id: str = "*"
    service_id: str = "*"
    type: str = "*"
    app_id: str = "*"
    visibility: str = "*"
    include_unlisted: bool = False

    @property
    def all_workspaces(self) -> bool:
        return self.workspace == "*"


def read_query(query: object, *, own_workspace: str, include_unlisted: bool = False) -> ServiceQuery:
    """Parse what a client sent. Raises BadRequest (ValueError, AssertionError) or PermissionDenied."""
    if query is None:
        parts: dict[str, str] = {}
    elif isinstance(query, str):
        parts = _read_text(query, own_workspace)
    elif isinstance(query, Mapping):
        parts = _read_map(query)
    else:
        raise BadRequest("The query must be a string or a map")
    for value in parts.values():
        if not _PART.fullmatch(value) or len(value) > MAX_PART_CHARACTERS:
            raise BadRequest(f"Invalid characters in query part: {value[:MAX_PART_CHARACTERS]}")
    workspace = parts.pop("workspace", own_workspace)
    if "*" in workspace and workspace != "*":
        raise BadRequest(f"Invalid characters in query part: {workspace}")
    if workspace == "*" and parts.get("visibility") in ("protected", "unlisted"):
        raise BadRequest("Cannot list protected or unlisted services in all workspaces.", rpc_type="AssertionError")
    if include_unlisted and workspace not in (own_workspace, PUBLIC_WORKSPACE):
        raise PermissionDenied("Cannot include unlisted services of another workspace")
    unlisted = include_unlisted and workspace == own_workspace
    if unlisted:
        parts.pop("visibility", None)  # all three visibilities are listed, whatever was asked for
    return ServiceQuery(workspace=workspace, include_unlisted=unlisted, **parts)


def _read_text(query: str, own_workspace: str) -> dict[str, str]:
    for separator in "/:@":
        if query.count(separator) > 1:
            raise BadRequest(f"Query must contain at most one '{separator}'", rpc_type="AssertionError")
    if "/" not in query and ":" not in query:
        return {"workspace": query}
    rest, at, app = query.partition("@")
    workspace, slash, local = rest.rpartition("/")
    client, colon, service = local.rpartition(":")
    parts = {"service_id": service}
    if slash and workspace == "*":
        parts |= {"workspace": own_workspace, "visibility": "public"}
    elif slash:
        parts["workspace"] = workspace
    if colon:
        parts["client_id"] = client
    if at:
        parts["app_id"] = app
    return parts


def _read_map(query: Mapping[Any, Any]) -> dict[str, str]:
    unknown = {str(key) for key in query if key not in _KEYS}
    if unknown:
        raise BadRequest(f"Invalid query keys: {unknown}")
    if "id" in query and "service_id" in query:
        raise BadRequest("Query must not contain both 'id' and 'service_id'", rpc_type="AssertionError")
    parts: dict[str, str] = {}
    for key, value in query.items():
        if value is None:
            continue
        if not isinstance(value, str):
            raise BadRequest(f"Invalid characters in query part: {value!r}")
        parts["service_id" if key == "id" else key] = value
    return _split_service(parts)


def _split_service(parts: dict[str, str]) -> dict[str, str]:
    """Take a full or partial service id apart: ``ws/client:svc@app`` in ``service_id`` fills the other filters."""
    service, at, app = parts.get("service_id", "").partition("@")
    if at:
        if parts.get("app_id", app) != app:
            raise BadRequest(f"App id mismatch: {app} != {parts['app_id']}", rpc_type="AssertionError")
        parts |= {"service_id": service, "app_id": app}
    for separator, key in (("/", "workspace"), (":", "client_id")):
        head, found, rest = parts.get("service_id", "").partition(separator)
        if found:
            if parts.get(key, head) != head:
                raise BadRequest(f"Query mismatch: {head} != {parts[key]}", rpc_type="AssertionError")
            parts |= {key: head, "service_id": rest}
    client = parts.get("client_id", "")
    if "/" in client:
        workspace, _, client = client.partition("/")
        if parts.get("workspace", workspace) != workspace:
            raise BadRequest(f"Query mismatch: {workspace} != {parts['workspace']}", rpc_type="AssertionError")
        parts |= {"workspace": workspace, "client_id": client}
    return parts
