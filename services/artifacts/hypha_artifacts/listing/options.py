from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypha_artifacts.addresses import as_switch
from hypha_common.errors import BadRequest

from .columns import Stage
from .ordering import Order, parse_order
from .values import check_json, check_text

__all__ = ["MAX_LIMIT", "Options"]

MAX_LIMIT = 10_000
_MAX_OFFSET = 2**31
_MAX_KEYWORDS = 50
_STAGES = {None: Stage.COMMITTED, False: Stage.COMMITTED, True: Stage.DRAFTS}
_VERSIONS = {"stage": Stage.DRAFTS, "latest": Stage.COMMITTED, "committed": Stage.COMMITTED}


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of a listing, checked; over HTTP everything arrives as text."""

    keywords: list[str]
    filters: Mapping[str, Any]
    mode: str
    offset: int
    limit: int
    order: Order
    pagination: bool
    stage: Stage

    @classmethod
    def of(
        cls,
        *,
        keywords: object = None,
        filters: object = None,
        mode: object = "AND",
        offset: object = 0,
        limit: object = 100,
        order_by: object = None,
        pagination: object = False,
        stage: object = False,
    ) -> Options:
        """Raises BadRequest."""
        wanted = _filters(filters)
        return cls(
            keywords=_keywords(keywords),
            filters={key: value for key, value in wanted.items() if key != "version"},
            mode=_mode(mode),
            offset=_bounded("offset", offset, _MAX_OFFSET),
            limit=_bounded("limit", limit, MAX_LIMIT),
            order=parse_order(order_by),
            pagination=bool(as_switch("pagination", pagination)),
            stage=_version(wanted["version"]) if "version" in wanted else _stage(stage),
        )


def _filters(filters: object) -> Mapping[str, Any]:
    if isinstance(filters, str):
        try:
            filters = json.loads(filters) if filters.strip() else None
        except (ValueError, RecursionError):
            raise BadRequest("filters must be a JSON object") from None
    if filters is None:
        return {}
    if not isinstance(filters, dict):
        raise BadRequest(f"filters must be a map, not {type(filters).__name__}")
    check_json(filters, "filters")
    return filters


def _keywords(keywords: object) -> list[str]:
    if keywords is None:
        return []
    if isinstance(keywords, str):
        keywords = keywords.split(",")
    if not isinstance(keywords, (list, tuple)) or len(keywords) > _MAX_KEYWORDS:
        raise BadRequest(f"keywords must be a list of at most {_MAX_KEYWORDS} texts")
    return [word for keyword in keywords if (word := check_text(keyword, "A keyword").strip())]


def _mode(mode: object) -> str:
    if not isinstance(mode, str) or mode.upper() not in ("AND", "OR"):
        raise BadRequest(f"mode must be 'AND' or 'OR', not {mode!r}")
    return mode.upper()


def _bounded(name: str, value: object, most: int) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        value = int(value) if len(value) < 20 else most + 1
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise BadRequest(f"{name} must be a number between 0 and {most}, not {value!r}")
    return value


def _stage(stage: object) -> Stage:
    if isinstance(stage, str) and stage.lower() == "all":
        return Stage.ALL
    return _STAGES[as_switch("stage", stage)]


def _version(version: object) -> Stage:
    if not isinstance(version, str) or version not in _VERSIONS:
        text = "Invalid version value, it should be 'stage', 'latest' or 'committed'."
        raise BadRequest(text, rpc_type="AssertionError")
    return _VERSIONS[version]
