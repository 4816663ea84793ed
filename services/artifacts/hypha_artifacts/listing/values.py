from __future__ import annotations

import math
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["check_json", "check_text"]

_MAX_DEPTH = 16
_MAX_NODES = 5000
_MAX_TEXT = 65_536
_MAX_INTEGER = 10**100


def check_text(text: object, what: str) -> str:
    """Return a text that the database can hold. Raises BadRequest."""
    if not isinstance(text, str):
        raise BadRequest(f"{what} must be text, not {type(text).__name__}")
    if len(text) > _MAX_TEXT:
        raise BadRequest(f"{what} is too long")
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRequest(f"{what} has characters that no artifact can have")
    return text


def check_json(value: Any, what: str) -> None:
    """Raise BadRequest unless a value is JSON of reasonable size that the database can compare with."""
    nodes, rest = 0, [(value, 0)]
    while rest:
        node, depth = rest.pop()
        nodes += 1
        if depth > _MAX_DEPTH or nodes > _MAX_NODES:
            raise BadRequest(f"{what} is too large")
        if isinstance(node, dict):
            for key in node:
                check_text(key, f"A key in {what}")
            rest.extend((child, depth + 1) for child in node.values())
        elif isinstance(node, (list, tuple)):
            rest.extend((child, depth + 1) for child in node)
        else:
            _check_scalar(node, what)


def _check_scalar(value: object, what: str) -> None:
    if isinstance(value, str):
        check_text(value, f"A text in {what}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadRequest(f"{what} must be finite numbers")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise BadRequest(f"A number in {what} is too large")
    elif value is not None and not isinstance(value, (int, float)):  # a bool is an int
        raise BadRequest(f"{what} must be JSON, not {type(value).__name__}")
