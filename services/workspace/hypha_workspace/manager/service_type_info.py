"""
What a client may register as a service type (ServiceTypeInfo, contract 01 §3.1). Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypha_common.errors import BadRequest, PermissionDenied

from .bounds import MAX_RECORD_BYTES, check_size, check_text

__all__ = ["read_service_type"]


def read_service_type(given: Mapping[str, Any], workspace: str) -> dict[str, Any]:
    """Return a type completed, with its short id. Raises BadRequest, PermissionDenied or PayloadTooLarge."""
    type_id = check_text(given.get("id"), "Service type id")
    owner, slash, short = type_id.rpartition("/")
    if slash and owner != workspace:
        raise PermissionDenied(f"Service type {type_id} does not belong to workspace {workspace}")
    check_text(short, "Service type id")
    definition, config = given.get("definition") or {}, given.get("config") or {}
    if not isinstance(definition, Mapping) or not isinstance(config, Mapping):
        raise BadRequest("The definition and config of a service type must be maps")
    info = {
        "id": short,
        "name": given.get("name") or short,
        "definition": dict(definition),
        "description": given.get("description"),
        "config": dict(config),
        "docs": given.get("docs"),
    }
    checked: dict[str, Any] = check_size(info, f"Service type {short}", MAX_RECORD_BYTES)
    return checked
