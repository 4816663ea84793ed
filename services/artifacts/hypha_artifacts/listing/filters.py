from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hypha_common.errors import BadRequest

from .bindings import Bindings
from .columns import Columns
from .manifest_filters import ManifestFilters, joined
from .patterns import keyword_pattern
from .values import check_text

__all__ = ["COUNTERS", "Filters"]

COUNTERS = ("view_count", "download_count")

_MAX_BIGINT = 2**63 - 1
_MAX_NUMBER = 1e300


class Filters:
    """
    Turns keywords and filters into one condition (contract 02 §2.4). Pure.

    What says *where* is looked (``parent_id``, ``workspace``, ``version``) is none of its business: it must hold in
    mode OR, too.

    """

    def __init__(self, columns: Columns, bindings: Bindings) -> None:
        self._columns = columns
        self._bindings = bindings
        self._by_key: dict[str, Callable[[Any], Iterator[str]]] = {
            "alias": lambda value: self._text("alias", "a.alias", value),
            "created_by": lambda value: self._text("created_by", "a.created_by", value),
            "type": self._type,
            "created_at": lambda value: self._times("created_at", "a.created_at", value),
            "last_modified": lambda value: self._times("last_modified", "a.last_modified", value),
            "view_count": lambda value: self._numbers("view_count", "a.view_count", value),
            "download_count": lambda value: self._numbers("download_count", "a.download_count", value),
            "manifest": lambda value: ManifestFilters(columns.manifest, bindings).conditions(value),
            "config": self._config,
        }

    def condition(self, keywords: list[str], filters: Mapping[str, Any], mode: str) -> str:
        """Return what an artifact must fulfil, ``true`` where nothing is asked for. Raises BadRequest."""
        conditions = [self._keyword(keyword) for keyword in keywords]
        for key, value in filters.items():
            compiler = self._by_key.get(key)
            if compiler is None:
                raise BadRequest(f"Invalid filter key: {key}")
            conditions.extend(compiler(value))
        return joined(conditions, mode) if conditions else "true"

    def _keyword(self, keyword: str) -> str:
        pattern = self._bindings.text(keyword_pattern(keyword))
        return f"artifact_words({self._columns.manifest}) LIKE artifact_lower({pattern})"

    def _text(self, name: str, column: str, value: object) -> Iterator[str]:
        yield f"{column} = {self._bindings.text(check_text(value, f'The filter {name!r}'))}"

    def _type(self, value: object) -> Iterator[str]:
        if value is None:
            yield f"{self._columns.type} IS NULL"
        else:
            yield from self._text("type", self._columns.type, value)

    def _times(self, name: str, column: str, value: object) -> Iterator[str]:
        """Whole seconds are compared as such, so that an index can be used."""
        low, high = _bounds(name, value)
        limits = []
        if low is not None:
            limits.append(f"{column} >= {self._bindings.integer(_as_bigint(math.ceil(low)))}")
        if high is not None:
            limits.append(f"{column} <= {self._bindings.integer(_as_bigint(math.floor(high)))}")
        yield joined(limits, "AND")

    def _numbers(self, name: str, column: str, value: object) -> Iterator[str]:
        low, high = _bounds(name, value)
        limits = []
        if low is not None:
            limits.append(f"{column} >= {self._bindings.number(low)}")
        if high is not None:
            limits.append(f"{column} <= {self._bindings.number(high)}")
        yield joined(limits, "AND")

    def _config(self, value: object) -> Iterator[str]:
        if not isinstance(value, dict):
            raise BadRequest(f"The filter 'config' must be a map, not {type(value).__name__}")
        for key, wanted in value.items():
            if key != "permissions":
                raise BadRequest(f"Invalid filter key: config.{key}")
            if not isinstance(wanted, dict):
                raise BadRequest(f"The filter 'config.permissions' must be a map, not {type(wanted).__name__}")
            for name, level in wanted.items():
                entry = f"{self._columns.config} -> 'permissions' -> {self._bindings.text(name)}"
                yield f"({entry}) = {self._bindings.json(level)}"


def _bounds(name: str, value: object) -> tuple[float | None, float | None]:
    """Read ``low`` or ``[low, high]``, each null for no bound."""
    bounds = list(value) if isinstance(value, (list, tuple)) else [value, None]
    if len(bounds) != 2:
        raise BadRequest(f"The filter {name!r} must be a number or [lowest, highest]")
    low, high = (_bound(name, bound) for bound in bounds)
    return low, high


def _bound(name: str, bound: object) -> float | None:
    if bound is None:
        return None
    if isinstance(bound, bool) or not isinstance(bound, (int, float)):
        raise BadRequest(f"The filter {name!r} must be a number or [lowest, highest], not {type(bound).__name__}")
    return max(-_MAX_NUMBER, min(bound, _MAX_NUMBER))


def _as_bigint(number: int) -> int:
    return max(-_MAX_BIGINT, min(number, _MAX_BIGINT))
