from __future__ import annotations

import math
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["check_task"]

MAX_DEPTH = 64


def check_task(task: dict[str, Any]) -> dict[str, Any]:
    """Return a map that JSON can hold. Raises BadRequest: whoever pops it may come by HTTP."""
    _check(task, "task", MAX_DEPTH)
    return task


def _check(value: Any, where: str, depth: int) -> None:
    if depth == 0:
        raise BadRequest(f"A task must not be nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise BadRequest(f"A task must be a map of JSON values: {where} has the key {key!r:.40}")
            _check(item, f"{where}.{key:.40}", depth - 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadRequest(f"A task must be a map of JSON values: {where} is {value}")
    elif value is not None and not isinstance(value, str | int):
        raise BadRequest(f"A task must be a map of JSON values: {where} is of type {type(value).__name__}")
