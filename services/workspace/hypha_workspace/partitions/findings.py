from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hypha_common.partition_map import Phase
from hypha_common.placement import ranges
from hypha_common.subjects import PARTITIONS

if TYPE_CHECKING:
    from .survey import Survey

__all__ = ["findings"]

_NAMED = 3  # workspaces in one sentence


def findings(found: Survey) -> list[str]:
    """Return what is wrong with partitions, each with what to do; pure."""
    return [*_databases(found), *_moves(found), *_strays(found), *_unserved(found), *_disagreement(found)]


def _databases(found: Survey) -> Iterator[str]:
    for name, held in found.held.items():
        if held.lost:
            yield f"database {name}: {held.lost}"
            continue
        for service, revision in held.schemas.items():
            newest = max((other.schemas.get(service) or "" for other in found.held.values()), default="")
            if (revision or "") < newest or (revision is None and service == "workspace"):
                has = revision or "none"
                yield f"database {name} has schema {has} of {service}: run `hypha-{service} migrate`"
    for partition, place in found.database.map.places.items():
        if place.database not in found.held:
            yield (
                f"partition {partition} is in database {place.database}, which database_partitions does not name: "
                "put it back, under that name"
            )


def _moves(found: Survey) -> Iterator[str]:
    for partition, place in found.database.map.places.items():
        if place.phase is Phase.MOVING:
            yield (
                f"partition {partition} is on its way from {place.database} to {place.other} and closed: finish it "
                f"with `hypha-workspace partitions move {partition} --to {place.other}`, or undo it with --abort"
            )
        elif place.phase is Phase.CLEANING:
            yield (
                f"partition {partition} has moved to {place.database}, and {place.other} still has its rows: finish "
                f"it with `hypha-workspace partitions move {partition} --to {place.database}`"
            )


def _strays(found: Survey) -> Iterator[str]:
    """Rows where nobody looks for them. What a move that is not over has left is told by that."""
    where = found.database.map
    for name, held in found.held.items():
        for partition, rows in sorted(held.rows.items()):
            place = where.places.get(partition)
            if where.place(partition) == name or (place is not None and place.other == name):
                continue
            names = sorted(held.workspaces.get(partition, ()))
            shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
            owner = where.place(partition)
            yield (
                f"database {name} has {rows} rows of partition {partition} ({shown or 'no workspace'}), which "
                f"belongs to {owner}: look which ones count before you remove the others"
            )


def _unserved(found: Survey) -> Iterator[str]:
    for role in sorted({"workspace", *(replica.role for replica in found.replicas)}):
        served = frozenset[int]().union(*(one.serves for one in found.replicas if one.role == role))
        missing = set(range(PARTITIONS)) - served
        if missing:
            yield f"no replica of role {role} serves partitions {ranges(missing)}: start one that does"


def _disagreement(found: Survey) -> Iterator[str]:
    ours = tuple(found.database.configuration)
    for replica in found.replicas:
        if set(replica.databases) != set(ours):
            yield (
                f"{replica.role} {replica.id} knows databases {', '.join(replica.databases)}, not {', '.join(ours)}: "
                "start it with the same database_partitions"
            )
        elif replica.epoch != found.database.map.epoch:
            yield (
                f"{replica.role} {replica.id} lives by epoch {replica.epoch} of the map, not {found.database.map.epoch}"
                ": it does not reach the home database, or waits for something that runs"
            )
