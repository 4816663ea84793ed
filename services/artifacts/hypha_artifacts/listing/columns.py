from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["COLUMNS_OF", "Columns", "Stage"]


class Stage(Enum):
    """Which artifacts are listed: with a committed version, with a draft, or all."""

    COMMITTED = "committed"
    DRAFTS = "drafts"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Columns:
    """SQL of what is listed, and of what filters see: the same as is shown afterwards (see ``shown``)."""

    listed: str
    manifest: str
    config: str
    type: str


def _staged(column: str) -> str:
    return f"COALESCE(a.staged_{column}, a.{column})"


def _never_published(column: str) -> str:
    return f"CASE WHEN a.version_count > 0 THEN a.{column} ELSE {_staged(column)} END"


COLUMNS_OF = {
    # Spelled as in the predicates of the partial indexes.
    Stage.COMMITTED: Columns("a.version_count > 0", "a.manifest", "a.config", "a.type"),
    Stage.DRAFTS: Columns("a.intent IS NOT NULL", _staged("manifest"), _staged("config"), _staged("type")),
    Stage.ALL: Columns("true", *(_never_published(column) for column in ("manifest", "config", "type"))),
}
