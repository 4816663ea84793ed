"""
Who may do what with an artifact (contract 02 §1.6). Pure: everything that decides is passed in.

A permission map gives names a level, or a list of operations, taken literally. The first name that grants decides;
nothing denies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypha_common.principal import Permission, Principal

from .actor import Actor

__all__ = ["LEVELS", "READ_OPERATIONS", "expand", "grants", "holds", "levels_with", "names", "workspace_level"]

_R = ("read", "get_file", "list_files", "list", "search_vectors", "get_vector")
_RW = (
    "read", "get_file", "get_vector", "search_vectors", "list_files", "list_vectors", "list", "edit", "commit",
    "put_file", "add_vectors", "remove_file", "remove_vectors", "discard_changes", "detach", "mutate",
)  # fmt: skip
_RW_PLUS = (*_RW, "get_status", "draft", "attach")

LEVELS: dict[str, tuple[str, ...]] = {
    "n": (),
    "l": ("list",),
    "l+": ("list", "draft"),
    "lv": ("list", "list_vectors"),
    "lv+": ("list", "list_vectors", "draft", "attach", "add_vectors"),
    "lf": ("list", "list_files"),
    "lf+": ("list", "list_files", "draft", "attach", "put_file"),
    "r": _R,
    "r+": (*_R, "put_file", "draft", "attach", "add_vectors"),
    "rw": _RW,
    "rd+": (*(op for op in _RW if op not in ("commit", "detach", "mutate")), "get_status", "draft"),
    "rw+": _RW_PLUS,
    "*": (*_RW_PLUS, "create", "reset_stats", "publish", "delete"),
}

# What a parent may grant for its children, and must not refuse.
READ_OPERATIONS = frozenset(("read", "list", "get_file", "list_files", "get_vector", "list_vectors", "search_vectors"))

_WORKSPACE_LEVELS = {
    Permission.READ: (
        "list", "read", "get_vector", "get_file", "get_status", "list_files", "list_vectors", "search_vectors",
    ),
    Permission.READ_WRITE: (
        "create", "draft", "attach", "detach", "edit", "commit", "add_vectors", "put_file", "remove_vectors",
        "remove_file", "discard_changes", "set_secret", "set_download_weight", "mutate",
    ),
    Permission.ADMIN: ("delete", "reset_stats", "publish", "get_secret"),
}  # fmt: skip
_LEVEL_OF = {operation: level for level, operations in _WORKSPACE_LEVELS.items() for operation in operations}


def expand(level: object) -> list[str]:
    """Return the operations of one entry of a permission map; an unknown level has none."""
    if isinstance(level, str):
        return list(LEVELS.get(level, ()))
    if isinstance(level, (list, tuple)):
        return [operation for operation in level if isinstance(operation, str)]
    return []


def grants(permissions: Mapping[str, Any] | None, operation: str, actor: Actor) -> bool:
    """Tell whether a permission map lets somebody do ``operation``."""
    if not permissions:
        return False
    return any(name in permissions and operation in expand(permissions[name]) for name in names(actor))


def levels_with(operation: str) -> list[str]:
    """Return the levels that include an operation."""
    return [level for level, operations in LEVELS.items() if operation in operations]


def workspace_level(operation: str) -> Permission:
    """Return what somebody needs in the artifact's workspace to do ``operation`` whatever the map says."""
    return _LEVEL_OF[operation]


def holds(actor: Actor, needed: Permission, workspace: str) -> bool:
    """Tell whether somebody has a permission in a workspace by the token alone."""
    return actor.principal.permission(workspace) >= needed


def names(actor: Actor) -> Iterator[str]:
    """Yield the keys of a permission map that stand for an actor, in the order in which they are asked."""
    principal: Principal = actor.principal
    known = actor.own_names
    yield f"{actor.workspace}/*"
    if not principal.is_anonymous:
        yield f"{actor.workspace}/@"
    for name in known:
        yield f"{actor.workspace}/{name}"
    yield from known
    if not principal.is_anonymous:
        yield "@"
    yield "*"
