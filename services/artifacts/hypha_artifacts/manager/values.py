from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["Values", "dump_json", "unix_now"]


@dataclass(frozen=True, slots=True)
class Values:
    """What somebody says of an artifact, checked; None: nothing."""

    type: str | None = None
    manifest: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    secrets: dict[str, Any] | None = None


def dump_json(value: object | None) -> str | None:
    """Write a JSON column, which the driver takes as text."""
    return None if value is None else json.dumps(value, ensure_ascii=False)


def unix_now() -> int:
    """Return the time as artifacts tell it: Unix time, whole seconds."""
    return int(time.time())
