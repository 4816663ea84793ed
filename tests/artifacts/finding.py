"""Finding artifacts without a client: rows by SQL, and the finder on the real database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from hypha_artifacts.actor import Actor
from hypha_artifacts.core import Core
from hypha_artifacts.listing.finder import Finder
from hypha_artifacts.listing.options import Options
from hypha_artifacts.reference import new_uuid
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.principal import root_principal
from hypha_common.settings import Settings

__all__ = ["Row", "add_rows", "find_aliases", "make_core", "owner_of"]

_INSERT = """
    INSERT INTO artifacts (id, workspace, alias, parent_id, type, manifest, config, version_count, intent, created_at,
                           last_modified, created_by, view_count, download_count)
    SELECT n.id, $1, n.alias, n.parent_id, n.type, n.manifest::jsonb, n.config::jsonb, 1, NULL, n.created_at,
           n.created_at, n.created_by, n.views, n.views / 2
    FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[],
                $10::float8[]) AS n (id, alias, parent_id, type, manifest, config, created_at, created_by, views)
"""


@dataclass
class Row:
    """A committed artifact to be made."""

    alias: str
    parent: Row | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    type: str | None = "model"
    created_at: int = 1000
    created_by: str = "somebody"
    views: float = 0.0
    id: UUID | None = None


def make_core(settings: Settings, database: Database) -> Core:
    """Return what the finder needs; there is no need for anybody on the bus."""
    bus = Bus.from_settings(settings, "artifacts", on_fatal=lambda reason: None)
    return Core.of(settings, bus, database)


async def add_rows(core: Core, workspace: str, rows: Iterable[Row]) -> None:
    """Insert artifacts, parents before their children."""
    listed = list(rows)
    for row, identifier in zip(listed, sorted(new_uuid(workspace) for _ in listed), strict=True):
        row.id = identifier  # in the order of their making, although that takes no millisecond
    columns = zip(
        *(
            (
                row.id, row.alias, row.parent and row.parent.id, row.type, json.dumps(row.manifest),
                json.dumps(row.config), row.created_at, row.created_by, row.views,
            )
            for row in listed
        ),
        strict=True,
    )  # fmt: skip
    await core.database.for_workspace(workspace).execute(_INSERT, workspace, *map(list, columns))


async def find_aliases(core: Core, actor: Actor, *, parent: Row | None = None, **asked: Any) -> list[str]:
    """Return the aliases that a search finds; the total must be their number."""
    options = Options.of(**{"limit": 10_000, "pagination": True, **asked})
    found = await Finder(core).find(actor, options, parent_id=parent and str(parent.id))
    aliases = [artifact["alias"] for artifact in found["items"]]
    assert found["total"] == len(aliases)
    return aliases


def owner_of(workspace: str) -> Actor:
    return Actor(root_principal(), workspace)
