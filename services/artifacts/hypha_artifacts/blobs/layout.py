from __future__ import annotations

import re
from uuid import UUID

from hypha_common.errors import BadRequest
from hypha_common.ids import is_text

__all__ = ["ARTIFACTS_PREFIX", "MAX_PATH_BYTES", "blob_key", "check_path", "content_type_of"]

# Apart from the files of workspaces, under `<workspace>/`: no workspace can be called so, for want of a hyphen.
ARTIFACTS_PREFIX = "artifacts/"

MAX_PATH_BYTES = 800  # the whole key may have 1024
MAX_NAME_BYTES = 255  # of one part: stores that are folders cannot have longer ones

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_TYPES_OF_OURS = {
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zarr": "application/octet-stream",
}


def check_path(path: object, *, folder: bool = False) -> str:
    """
    Return a path inside an artifact or workspace, normalized: no leading slash, ``.``, ``..`` or empty part.

    ``a/../b`` is ``b``; with ``folder`` the root, ``""``, is a path, too. Raises BadRequest for what leaves the root,
    for control characters, and for what is too long.

    """
    if not isinstance(path, str) or _CONTROL.search(path) or not is_text(path):
        raise BadRequest(f"Invalid file path: {path!r}")
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise BadRequest(f"Illegal file path: `{path}`, it leads out of the root folder")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    normalized = "/".join(parts)
    if not normalized and not folder:
        raise BadRequest(f"Invalid file path: {path!r}")
    if not folder and path.endswith("/"):
        raise BadRequest(f"Invalid file path: {path!r}: it names a folder")
    if len(normalized.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise BadRequest(f"File path is too long: {MAX_PATH_BYTES} bytes at most, {MAX_NAME_BYTES} for each part of it")
    return normalized


def blob_key(workspace: str, alias: str, blob: UUID, path: str) -> str:
    """
    Return the key of an object: ``artifacts/<workspace>/<alias>/<object>/<path>``.

    People can read it, and the object's own folder keeps it from being the prefix of another key.

    """
    return f"{ARTIFACTS_PREFIX}{_plain(workspace)}/{_plain(alias)}/{blob}/{path}"


def content_type_of(path: str) -> str:
    """Guess a content type from a name; text is UTF-8."""
    import mimetypes

    suffix = "." + path.rpartition(".")[2].lower()
    found = _TYPES_OF_OURS.get(suffix) or mimetypes.guess_type(path, strict=False)[0] or "application/octet-stream"
    if found.startswith("text/") or found in ("application/json", "application/javascript"):
        return f"{found}; charset=utf-8"
    return found


def _plain(text: str) -> str:
    return _NOT_PLAIN.sub("_", text)[:64].strip(".") or "_"
