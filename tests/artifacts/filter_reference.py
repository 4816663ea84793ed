"""What filters on manifests mean, in Python (contract 02 §2.4), and filters and manifests by chance."""

from __future__ import annotations

import re
from random import Random
from typing import Any

__all__ = ["fits", "some_filter", "some_manifest"]

KEYS = ("k", "l", "a.b", "ö")
SCALARS: tuple[Any, ...] = ("x", "xy", "X", "x%", "_", "", 1, 2.5, 1.0, 0, -1, True, False, None)


def fits(manifest: dict[str, Any], wanted: dict[str, Any]) -> bool:
    for key, value in wanted.items():
        if key == "$and":
            passed = all(fits(manifest, each) for each in value)
        elif key == "$or":
            passed = any(fits(manifest, each) for each in value)
        else:
            passed = value_fits(manifest.get(key), value, missing=key not in manifest)
        if not passed:
            return False
    return True


def value_fits(value: Any, wanted: Any, *, missing: bool) -> bool:
    if isinstance(wanted, dict) and any(key.startswith("$") for key in wanted):
        return all(operator_fits(value, name, items, missing=missing) for name, items in wanted.items())
    if isinstance(wanted, str) and "*" in wanted:
        return isinstance(value, str) and like(value, wanted, {"*": ".*"})
    if isinstance(wanted, list):
        return isinstance(value, list) and all(any(same(one, other) for other in value) for one in wanted)
    return same(value, wanted) and (not missing or wanted is None)


def operator_fits(value: Any, name: str, items: Any, *, missing: bool) -> bool:
    if name == "$like":
        return isinstance(value, str) and like(value, items, {"*": ".*", "%": ".*", "_": "."})
    if name == "$in":
        return any(
            value_fits(value, item, missing=missing)
            if not isinstance(value, list)
            else value_fits(value, [item], missing=False)
            for item in items
        )
    if name == "$all":
        return value_fits(value, items, missing=missing)
    passed = [value_fits(value, item, missing=missing) for item in items]
    return all(passed) if name == "$and" else any(passed)


def same(one: Any, other: Any) -> bool:
    """JSON has booleans that are no numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def like(text: str, pattern: str, special: dict[str, str]) -> bool:
    expression = "".join(special.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def some_manifest(chance: Random) -> dict[str, Any]:
    def value() -> Any:
        kind = chance.random()
        if kind < 0.6:
            return chance.choice(SCALARS)
        if kind < 0.9:
            return [chance.choice(SCALARS) for _ in range(chance.randrange(4))]
        return {"x": chance.choice(SCALARS)}

    return {key: value() for key in KEYS if chance.random() < 0.7}


def some_filter(chance: Random, depth: int = 0) -> dict[str, Any]:
    wanted: dict[str, Any] = {chance.choice(KEYS): some_wanted(chance) for _ in range(chance.choice((1, 1, 2)))}
    if depth < 2 and chance.random() < 0.4:
        items = [some_filter(chance, depth + 1) for _ in range(chance.randrange(4))]
        return {chance.choice(("$and", "$or")): items, **(wanted if chance.random() < 0.3 else {})}
    return wanted


def some_wanted(chance: Random) -> Any:
    items = [chance.choice(SCALARS) for _ in range(chance.randrange(3))]
    patterns = ("x*", "*", "*y", "*%", "_*", "x")
    return chance.choice(
        (
            chance.choice(SCALARS), chance.choice(SCALARS), items, chance.choice(patterns),
            {"x": chance.choice(SCALARS)}, {"$in": items}, {"$all": items}, {"$or": items},
            {"$like": chance.choice((*patterns, "_", "x%", "_%"))}, {"$and": [chance.choice(patterns), {"$in": items}]},
        )
    )  # fmt: skip
