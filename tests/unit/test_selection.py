from __future__ import annotations

import math

import pytest

from hypha_common.errors import BadRequest
from hypha_common.selection import Mode, best, is_load_balanced, least_loaded, native_or_any, read_mode


@pytest.mark.parametrize(
    ("mode", "workspace", "expected"),
    [
        (None, "public", Mode("random")),
        (None, "ws-a", Mode("exact")),
        ("exact", "public", Mode("exact")),
        ("first", "ws-a", Mode("first")),
        ("last", "ws-a", Mode("last")),
        ("random", "ws-a", Mode("random")),
        ("min_load", "ws-a", Mode("min_load")),
        ("native:random", "ws-a", Mode("native:random")),
        ("select:min:get_load", "ws-a", Mode("select", "min", "get_load")),
        ("select:max:a.b", "ws-a", Mode("select", "max", "a.b")),
        ("select:first_success:f", "ws-a", Mode("select", "first_success", "f")),
    ],
)
def test_modes(mode: str | None, workspace: str, expected: Mode) -> None:
    """Each mode of contract 01 §3.8."""
    assert read_mode(mode, workspace=workspace) == expected


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("", "Invalid mode: "),
        (
            "best",
            "Invalid mode: best. Mode must be 'random', 'first', 'last', 'exact', 'min_load', 'native:random', or",
        ),
        (3, "Invalid mode: 3"),
        ("select:min", "Invalid select mode format"),
        ("select:min:f:g", "Invalid select mode format"),
        ("select:min:__class__", "Invalid select mode format"),
        ("select:min:a b", "Invalid select mode format"),
        ("select:avg:f", "Invalid selection criteria: avg"),
    ],
)
def test_invalid_modes(mode: object, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_mode(mode, workspace="ws-a")
    assert str(caught.value).startswith(text)
    assert caught.value.rpc_type == "ValueError"


def test_native_first() -> None:
    candidates = [("a", "g1"), ("b", "g2"), ("c", "g2")]
    assert {native_or_any(candidates, "g2") for _ in range(100)} == {"b", "c"}
    assert {native_or_any(candidates, "g9") for _ in range(100)} == {"a", "b", "c"}
    assert {native_or_any(candidates, "") for _ in range(100)} == {"a", "b", "c"}


def test_least_loaded() -> None:
    candidates = [("a", "w/a__rlb"), ("b", "w/b__rlb"), ("c", "w/c__rlb")]
    assert least_loaded(candidates, {"w/a__rlb": 3.0, "w/b__rlb": 1.0, "w/c__rlb": 2.0}) == "b"
    assert {least_loaded(candidates, {"w/a__rlb": 3.0}) for _ in range(100)} == {"b", "c"}
    assert is_load_balanced("a__rlb")
    assert not is_load_balanced("a")


def test_best() -> None:
    answers = [("a", 2), ("b", "1.5"), ("c", None), ("d", math.nan), ("e", 7.0), ("f", [1])]
    assert best(answers, "min") == "b"
    assert best(answers, "max") == "e"
    assert best(answers, "first_success") == "a"
    assert best([("c", None)], "min") is None
    assert best([], "first_success") is None
