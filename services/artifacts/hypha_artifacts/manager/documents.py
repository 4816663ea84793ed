"""
JSON that clients give us to keep: checked, so that the database can hold it and every client can read it again.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hypha_common.errors import BadRequest, PayloadTooLarge
from hypha_common.ids import is_text

__all__ = ["MAX_DOCUMENT_BYTES", "check_line", "check_text", "read_map"]

MAX_DOCUMENT_BYTES = 1024 * 1024
_MAX_DEPTH = 64
_PLAIN = (str, int, bool, type(None))


def read_map(value: object, what: str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> dict[str, Any]:
    """
    Return a map as JSON holds it: keys are text, and numbers that JSON lacks are ``NaN``, ``Infinity``, ``-Infinity``.

    Raises BadRequest where something else is in it, PayloadTooLarge.

    """
    if not isinstance(value, dict):
        raise BadRequest(f"{what} must be a map, not {type(value).__name__}")
    plain: dict[str, Any] = _plain(value, what, _MAX_DEPTH)
    text = json.dumps(plain, ensure_ascii=False)
    if not is_text(text):
        raise BadRequest(f"{what} is not valid text")
    if len(text) > max_bytes or len(text.encode()) > max_bytes:
        raise PayloadTooLarge(f"{what} is larger than {max_bytes} bytes")
    return plain


def check_line(value: object, what: str, *, max_bytes: int = 255) -> str:
    """Return a short text that is not empty. Raises BadRequest."""
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{what} must be a string that is not empty")
    if "\x00" in value or not is_text(value):
        raise BadRequest(f"{what} is not valid text")
    if len(value.encode()) > max_bytes:
        raise BadRequest(f"{what} is longer than {max_bytes} bytes")
    return value


def check_text(value: object, what: str, *, max_bytes: int = 4096) -> str:
    """Return a text, of several lines perhaps, or none. Raises BadRequest."""
    return "" if value == "" else check_line(value, what, max_bytes=max_bytes)


def _plain(value: object, what: str, depth: int) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else _name_of(value)
    if isinstance(value, _PLAIN):
        if isinstance(value, str) and "\x00" in value:
            raise BadRequest(f"{what} holds a NUL character, which cannot be stored")
        return value
    if depth == 0:
        raise BadRequest(f"{what} is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {_key(key, what): _plain(item, what, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, what, depth - 1) for item in value]
    raise BadRequest(f"{what} holds a value that is no JSON: {type(value).__name__}")


def _key(key: object, what: str) -> str:
    if not isinstance(key, str):
        raise BadRequest(f"{what} has a key that is no string: {key!r}"[:200])
    if "\x00" in key:
        raise BadRequest(f"{what} holds a NUL character, which cannot be stored")
    return key


def _name_of(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
