from __future__ import annotations

import json
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["Bindings"]

_MAX_VALUES = 300


class Bindings:
    """
    The values of a statement, by number.

    What a caller wrote goes in here and nowhere else: the text of a statement is made of our own words, so that there
    is nothing to quote and nothing to inject.

    """

    def __init__(self) -> None:
        self.values: list[object] = []

    def text(self, value: str) -> str:
        return self._add(value, "text")

    def texts(self, values: list[str]) -> str:
        return self._add(values, "text[]")

    def number(self, value: float) -> str:
        return self._add(float(value), "float8")

    def integer(self, value: int) -> str:
        return self._add(value, "bigint")

    def identifier(self, value: object) -> str:
        return self._add(value, "uuid")

    def json(self, value: Any) -> str:
        return self._add(json.dumps(value, allow_nan=False), "jsonb")

    def _add(self, value: object, kind: str) -> str:
        if len(self.values) >= _MAX_VALUES:
            raise BadRequest("The filters have too many conditions")
        self.values.append(value)
        return f"${len(self.values)}::{kind}"
