"""
Files as installers pass them: ``{name or path, content, format}`` (contract 03 §1.3). Nothing here does I/O.
"""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["check_path", "content_of", "file_entry", "merged", "read_files"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def check_path(path: object) -> str:
    """Return a path in an artifact in its one spelling. Raises BadRequest for what leads out of it, or nowhere."""
    if not isinstance(path, str) or _CONTROL.search(path):
        raise BadRequest(f"Invalid file path: {path!r:.200}")
    normal = posixpath.normpath(path.lstrip("/")) if path else ""
    if normal in ("", ".", "..") or normal.startswith("../"):
        raise BadRequest(f"Invalid file path: {path!r:.200}")
    return normal


def file_entry(path: str, content: Any, kind: str = "text") -> dict[str, Any]:
    """Return a file as workers' ``compile`` is given it."""
    return {"name": posixpath.basename(path), "path": path, "content": content, "format": kind}


def read_files(given: object) -> list[dict[str, Any]]:
    """
    Return files with both ``name`` and ``path``, each path once: the last one of a path is meant.

    Raises BadRequest; what is in them is looked at by :func:`content_of`.

    """
    if given is None:
        return []
    if not isinstance(given, (list, tuple)):
        raise BadRequest("files must be a list of {name, content, format}")
    return merged([], [_read(entry) for entry in given])


def merged(files: list[dict[str, Any]], more: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all files, those of ``more`` instead of those of the same path."""
    by_path = {file["path"]: file for file in files}
    for file in more:
        by_path[file["path"]] = file
    return list(by_path.values())


def content_of(file: Mapping[str, Any]) -> bytes:
    """Return what is stored for a file. Raises BadRequest."""
    path, content = file["path"], file.get("content")
    # What is extracted from tags was called `type` once.
    kind = file.get("format") or "text"
    if kind == "text":
        return _text(path, content)
    if kind == "json":
        return _json(path, content)
    if kind == "base64":
        return _base64(path, content)
    raise BadRequest(f"Unsupported file format: {kind!s:.40} of file '{path}'; it can be text, json or base64")


def _read(entry: object) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise BadRequest("Each file must be a map of name, content and format")
    name, path = entry.get("name"), entry.get("path")
    if not name and not path:
        raise BadRequest("Each file must have 'name' or 'path'")
    checked = check_path(path or name)
    return {**entry, "name": name or posixpath.basename(checked), "path": checked}


def _text(path: str, content: object) -> bytes:
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    if not isinstance(content, str):
        raise BadRequest(f"The content of file '{path}' must be text or bytes, not {type(content).__name__}")
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"The content of file '{path}' is no valid text") from None


def _json(path: str, content: object) -> bytes:
    try:
        if isinstance(content, str):
            json.loads(content)
            return content.encode()
        if isinstance(content, (dict, list)):
            return json.dumps(content, indent=2, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadRequest(f"The content of file '{path}' is not valid JSON: {error}") from None
    raise BadRequest(f"The content of file '{path}' must be a map, a list, or JSON text")


def _base64(path: str, content: object) -> bytes:
    if not isinstance(content, str):
        raise BadRequest(f"The content of file '{path}' must be base64 text")
    head = _DATA_URL.match(content)
    letters = "".join((content if head is None else content[head.end() :]).split())
    try:
        return base64.b64decode(letters, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"The content of file '{path}' is not valid base64: {error}") from None
