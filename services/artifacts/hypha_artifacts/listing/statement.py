from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypha_artifacts.actor import Actor
from hypha_artifacts.record import Artifact

from .bindings import Bindings
from .columns import COLUMNS_OF
from .filters import Filters
from .options import Options
from .ordering import order_clause
from .visibility import in_collection, in_workspace, recipient_field

__all__ = ["Place", "Statement", "compile_listing"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where is looked: the children of ``parent``, or a workspace, with ``roots_only`` what has no parent there."""

    workspace: str
    parent: Artifact | None = None
    roots_only: bool = False
    wanted: str | None = None  # the workspace that the caller filters for: another one has nothing


@dataclass(frozen=True, slots=True)
class Statement:
    """``page`` selects the ids of a page in their order, ``total`` counts what all pages would have."""

    page: str
    page_values: tuple[object, ...]
    total: str
    total_values: tuple[object, ...]
    offset: int
    limit: int


def compile_listing(place: Place, options: Options, actor: Actor) -> Statement:
    """Return the SQL of a listing as somebody may see it. Pure. Raises BadRequest."""
    bindings, columns = Bindings(), COLUMNS_OF[options.stage]
    where, visible = [columns.listed], _visible(place, options, actor, bindings)
    if place.parent is not None:
        where.append(f"a.parent_id = {bindings.identifier(place.parent.id)}")
        if "alias" in options.filters:  # its index begins with the workspace, which is the parent's
            where.append(f"a.workspace = {bindings.text(place.workspace)}")
    else:
        where.append(f"a.workspace = {bindings.text(place.workspace)}")
        if place.roots_only:
            where.append("a.parent_id IS NULL")
    if place.wanted not in (None, place.workspace):
        where.append("false")
    where.extend(visible)
    filters = _asked(place, options, actor)
    where.append(Filters(columns, bindings).condition(options.keywords, filters, options.mode))
    rows = f"FROM artifacts a WHERE {' AND '.join(where)}"
    total_values = tuple(bindings.values)
    order = order_clause(options.order, columns, bindings)
    limit, offset = bindings.integer(options.limit), bindings.integer(options.offset)
    return Statement(
        f"SELECT a.id {rows} ORDER BY {order} LIMIT {limit} OFFSET {offset}",
        tuple(bindings.values),
        f"SELECT count(*) {rows}",
        total_values,
        options.offset,
        options.limit,
    )


def _visible(place: Place, options: Options, actor: Actor, bindings: Bindings) -> list[str]:
    columns = COLUMNS_OF[options.stage]
    if place.parent is not None:
        return in_collection(place.parent, actor, columns, bindings)
    return in_workspace(place.workspace, actor, columns, bindings, roots_only=place.roots_only)


def _asked(place: Place, options: Options, actor: Actor) -> dict[str, Any]:
    """Return the filters; in an inbox, who the recipient is cannot be asked for."""
    filters = dict(options.filters)
    field = None if place.parent is None else recipient_field(place.parent, actor)
    manifest = filters.get("manifest")
    if field is not None and isinstance(manifest, dict):
        filters["manifest"] = {key: value for key, value in manifest.items() if key != field}
    return filters
