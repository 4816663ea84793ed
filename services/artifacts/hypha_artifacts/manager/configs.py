"""
What the config of an artifact may say (contract 02 §1.4). Nothing here does I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hypha_common.errors import BadRequest, NotSupported

from .documents import read_map
from .manifests import COLLECTION
from .schemas import check_schema

__all__ = ["complete_config", "inherited_config", "read_config"]

# What `read` adds to an answer, and clients send back.
_COMPUTED = ("child_count", "vector_count")
OWNER_LEVEL = "*"


def read_config(given: object) -> dict[str, Any]:
    """Return a config as it is kept. Raises BadRequest, NotSupported, PayloadTooLarge."""
    config = {key: value for key, value in read_map(given, "Config").items() if key not in _COMPUTED}
    _check_permissions(config.get("permissions"))
    _check_storage(config.get("storage"))
    _check_list_fields(config.get("list_fields"))
    _check_weights(config.get("download_weights"))
    id_parts = config.get("id_parts")
    if id_parts is not None and not (isinstance(id_parts, dict) and all(map(_is_id_part, id_parts.values()))):
        raise BadRequest("config.id_parts must be a map of strings and lists of strings")
    view = config.get("view_config")
    if view is not None and view != "disabled" and not isinstance(view, dict):
        raise BadRequest("config.view_config must be a map or 'disabled'")
    check_schema(config.get("collection_schema"))
    return config


def complete_config(config: Mapping[str, Any], kind: str | None, *, creator: str) -> dict[str, Any]:
    """Return the config of an artifact that somebody creates: the creator may do everything with it."""
    permissions = {**(config.get("permissions") or {}), creator: OWNER_LEVEL}
    completed = {**config, "permissions": permissions}
    if kind == COLLECTION:
        completed["is_collection"] = True
    return completed


def inherited_config(config: Mapping[str, Any], before: Mapping[str, Any], kind: str | None) -> dict[str, Any]:
    """Return a config that replaces ``before``: what has children stays a collection."""
    if kind == COLLECTION or before.get("is_collection"):
        return {**config, "is_collection": True}
    return dict(config)


def _check_permissions(permissions: object) -> None:
    if permissions is None:
        return
    if not isinstance(permissions, dict):
        raise BadRequest("config.permissions must be a map of names and levels")
    for name, level in permissions.items():
        is_list = isinstance(level, list) and all(isinstance(operation, str) for operation in level)
        if not isinstance(level, str) and not is_list:
            raise BadRequest(f"Invalid permission for '{name:.80}': it must be a level or a list of operations")


def _check_storage(storage: object) -> None:
    if storage == "git":
        raise NotSupported("Git storage is not supported by this server; leave out config.storage.")
    if storage not in (None, "raw"):
        raise BadRequest(f"config.storage must be 'raw', not {storage!r:.80}")


def _check_list_fields(fields: object) -> None:
    if fields is None:
        return
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        raise BadRequest("config.list_fields must be a list of names")
    if "secrets" in fields:
        raise BadRequest("Secrets cannot be included in list_fields.")


def _check_weights(weights: object) -> None:
    if weights is None:
        return
    if not isinstance(weights, dict):
        raise BadRequest("config.download_weights must be a map of paths and numbers")
    for path, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
            raise BadRequest(f"Download weight of '{path:.80}' must be a number")
        if weight < 0:
            raise BadRequest(f"Download weight must be non-negative, got: {weight}")


def _is_id_part(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
