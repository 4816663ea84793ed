"""
How artifacts may be called (contract 02 §2.2). Nothing here does I/O.
"""

from __future__ import annotations

import re

from hypha_common.errors import BadRequest
from hypha_common.ids import is_text

from .documents import check_line

__all__ = ["MAX_ALIAS_CHARACTERS", "check_alias", "is_pattern", "read_target"]

MAX_ALIAS_CHARACTERS = 64
_MAX_BYTES = 255

_RESERVED = ("-", "~", "_")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_UUID = re.compile(r"\{?[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\}?", re.IGNORECASE)


def read_target(alias: object, artifact_id: object, workspace: object) -> tuple[str | None, str | None]:
    """
    Return the workspace and the alias (or pattern) that somebody wants for a new artifact; None where none is named.

    Raises BadRequest.

    """
    if workspace is not None:
        workspace = check_line(workspace, "Workspace")
    if artifact_id is not None:
        if alias is not None or workspace is not None:
            raise BadRequest(
                "Cannot specify both artifact_id and alias/workspace. Use either artifact_id='workspace/alias' "
                "or alias='alias' + workspace='workspace'."
            )
        if not isinstance(artifact_id, str) or artifact_id.count("/") != 1:
            raise BadRequest(f"artifact_id must be in format 'workspace/alias'. Got '{artifact_id!s:.200}'")
        alias = artifact_id
    if alias is None:
        return workspace, None
    if not isinstance(alias, str):
        raise BadRequest(f"Alias must be a string, not {type(alias).__name__}")
    named, slash, name = alias.rpartition("/")
    if slash:
        named = check_line(named, "Workspace of the alias")
        if "/" in named:
            raise BadRequest(f"Invalid alias: {alias[:200]!r}")
        if workspace not in (None, named):
            raise BadRequest("Workspace must match the alias workspace, if provided.")
        workspace = named
    return workspace, _check_length(name)


def check_alias(alias: str) -> str:
    """Return the alias of one artifact. Raises BadRequest."""
    if alias in _RESERVED:
        raise BadRequest(f"Alias '{alias}' is reserved and cannot be used. Please choose a different alias.")
    if _UUID.fullmatch(alias):
        raise BadRequest("Alias should be a human readable string, it cannot be a UUID.")
    check_expanded(alias)
    return alias


def check_expanded(alias: str) -> str:
    """Return what became of a pattern, which may be a UUID. Raises BadRequest."""
    strange = "/" in alias or _CONTROL.search(alias) or not is_text(alias)
    if not alias or strange or alias == "." or alias.startswith(".."):
        raise BadRequest(f"Invalid alias: {alias[:200]!r}")
    if alias != alias.strip():
        raise BadRequest(f"Invalid alias: {alias[:200]!r}: it begins or ends with a space")
    if len(alias.encode()) > _MAX_BYTES:
        raise BadRequest(f"Alias is too long: at most {_MAX_BYTES} bytes")
    return alias


def is_pattern(alias: str) -> bool:
    """Tell whether an alias has placeholders."""
    return "{" in alias and "}" in alias


def _check_length(alias: str) -> str:
    if len(alias) > MAX_ALIAS_CHARACTERS:
        raise BadRequest(
            f"Alias is too long ({len(alias)} characters); the maximum is {MAX_ALIAS_CHARACTERS}. "
            "Please choose a shorter alias."
        )
    return alias
