from __future__ import annotations

from enum import StrEnum
from typing import Any

__all__ = ["Leaf", "find_in_schema", "find_in_service", "is_function", "without_functions"]


class Leaf(StrEnum):
    """What a service's schema tells of a dotted path."""

    FUNCTION = "function"
    VALUE = "value"
    MISSING = "missing"
    UNKNOWN = "unknown"  # the service was registered without a schema


def find_in_schema(schema: object, path: str) -> Leaf:
    """Look ``a.b.f`` up in a ``service_schema``, which mirrors the service's tree (contract 01 §2.7)."""
    if not isinstance(schema, dict) or not schema:
        return Leaf.UNKNOWN
    node: Any = schema
    for name in path.split("."):
        if not isinstance(node, dict) or _describes_function(node) or name not in node:
            return Leaf.MISSING
        node = node[name]
    return Leaf.FUNCTION if _describes_function(node) else Leaf.VALUE


def _describes_function(node: object) -> bool:
    return isinstance(node, dict) and node.get("type") == "function"


def find_in_service(service: object, path: str) -> tuple[bool, Any]:
    """Return (found, value) for ``a.b.f`` in an encoded service, where functions are ``_rtype: method`` maps."""
    node: Any = service
    for name in path.split("."):
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, dict) and not is_function(node) and name in node:
            node = node[name]
        else:
            return False, None
    return True, node


def is_function(value: object) -> bool:
    """Tell whether a value of an encoded service is one of its functions."""
    return isinstance(value, dict) and value.get("_rtype") == "method"


def without_functions(value: Any) -> Any:
    """Return a value of a service with functions as ``{"type": "function", "function": schema}``."""
    if is_function(value):
        return {"type": "function", "function": value.get("_rschema")}
    if isinstance(value, dict):
        return {name: without_functions(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_functions(item) for item in value]
    return value
