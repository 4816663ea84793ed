from __future__ import annotations

from typing import Any

import pytest

from hypha_common.service_tree import Leaf, find_in_schema, find_in_service, without_functions

SCHEMA = {
    "hello": {"type": "function", "function": {"name": "hello"}},
    "bare": {"type": "function"},
    "version": {"type": "string"},
    "type": {"type": "string"},
    "nested": {"deep": {"f": {"type": "function"}}},
}
METHOD = {"_rtype": "method", "_rmethod": "services.s.f", "_rschema": {"name": "f"}}
SERVICE = {"id": "a/b:s", "f": METHOD, "items": [1, METHOD], "nested": {"g": METHOD, "n": None}}


@pytest.mark.parametrize(
    ("path", "leaf"),
    [
        ("hello", Leaf.FUNCTION),
        ("bare", Leaf.FUNCTION),
        ("nested.deep.f", Leaf.FUNCTION),
        ("version", Leaf.VALUE),
        ("type", Leaf.VALUE),
        ("nested", Leaf.VALUE),
        ("nested.deep", Leaf.VALUE),
        ("nope", Leaf.MISSING),
        ("nested.deep.g", Leaf.MISSING),
        ("hello.function", Leaf.MISSING),
        ("hello.name", Leaf.MISSING),
        ("", Leaf.MISSING),
        ("..", Leaf.MISSING),
    ],
)
def test_schema(path: str, leaf: Leaf) -> None:
    """The schema tells functions from values without asking the provider."""
    assert find_in_schema(SCHEMA, path) is leaf


@pytest.mark.parametrize("schema", [None, {}, [], "x"])
def test_no_schema(schema: Any) -> None:
    """Without a schema nothing is known."""
    assert find_in_schema(schema, "hello") is Leaf.UNKNOWN


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("f", (True, METHOD)),
        ("nested.g", (True, METHOD)),
        ("nested.n", (True, None)),
        ("items.0", (True, 1)),
        ("items.7", (False, None)),
        ("f._rmethod", (False, None)),
        ("id.x", (False, None)),
        ("zzz", (False, None)),
    ],
)
def test_service(path: str, found: tuple[bool, Any]) -> None:
    """The fetched service tells what stands at a path; the inside of a function is not part of it."""
    assert find_in_service(SERVICE, path) == found


def test_functions_in_values() -> None:
    """A value is shown with its functions described."""
    assert without_functions(SERVICE["items"]) == [1, {"type": "function", "function": {"name": "f"}}]
