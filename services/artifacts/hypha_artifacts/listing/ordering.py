from __future__ import annotations

import re
from dataclasses import dataclass

from hypha_common.errors import BadRequest

from .bindings import Bindings
from .columns import Columns

__all__ = ["Order", "order_clause", "parse_order"]

# Counters come with a coarse rank, which has an index, before the exact value: see migration 0002.
_BY_COLUMN = {
    "id": ("a.id",),
    "created_at": ("a.created_at", "a.id"),
    "last_modified": ("a.last_modified", "a.id"),
    "view_count": ("a.view_rank", "a.view_count", "a.id"),
    "download_count": ("a.download_rank", "a.download_count", "a.id"),
}
_JSON_KEY = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Order:
    """``field`` is a column, or ``manifest`` or ``config`` with a ``key`` in it."""

    field: str = "id"
    key: str | None = None
    descending: bool = False


def parse_order(text: object) -> Order:
    """
    Read ``field``, ``field<``, ``field>`` or ``-field``; what is unknown is the id. Raises BadRequest.
    """
    if text is None:
        return Order()
    if not isinstance(text, str):
        raise BadRequest(f"order_by must be text, not {type(text).__name__}")
    name = text.strip()
    descending = name.endswith(">") or (name.startswith("-") and not name.endswith("<"))
    name = name.removeprefix("-").rstrip("<>")
    field, dot, key = name.partition(".")
    if dot and field in ("manifest", "config"):
        if not _JSON_KEY.fullmatch(key):
            raise BadRequest(f"Invalid order_by field '{name}': a key has letters, digits, '_', '.' and '-' only")
        return Order(field, key, descending)
    return Order(name if name in _BY_COLUMN else "id", None, descending)


def order_clause(order: Order, columns: Columns, bindings: Bindings) -> str:
    """Return what comes after ORDER BY. No two artifacts are equal, so that pages do not overlap."""
    direction = "DESC" if order.descending else "ASC"
    if order.key is None:
        return ", ".join(f"{column} {direction}" for column in _BY_COLUMN[order.field])
    document = columns.manifest if order.field == "manifest" else columns.config
    value = _value(document, order.key, bindings)
    type_of = f"COALESCE(jsonb_typeof({value}), 'null')"
    kind = f"CASE {type_of} WHEN 'number' THEN 0 WHEN 'string' THEN 1 WHEN 'null' THEN 3 ELSE 2 END"
    return f"{kind}, {value} {direction}, a.id"


def _value(document: str, key: str, bindings: Bindings) -> str:
    """A key with dots is that key, or where there is none the path that it spells."""
    name = bindings.text(key)
    if "." not in key:
        return f"({document} -> {name})"
    return f"COALESCE({document} -> {name}, {document} #> {bindings.texts(key.split('.'))})"
