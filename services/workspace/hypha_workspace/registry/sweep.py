from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from hypha_common.db import Shard
from hypha_workspace.workspaces.record import Workspace

__all__ = ["Removed", "Unloaded", "audit", "count_rows", "count_states", "sweep_gateways", "unload_idle"]

_AUDIT_LOCK = 0x6879_7068_6162  # any constant, another than that of the migrations
_AT_ONCE = 20

_DEAD = "SELECT id FROM gateways WHERE expires_at <= now() ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED"
_CLIENTS_OF = """
    DELETE FROM clients WHERE gateway = ANY($1::text[]) RETURNING workspace, client_id, generation
"""
_SERVICES_OF = """
    DELETE FROM services s USING unnest($1::text[], $2::text[], $3::bigint[]) AS gone (workspace, client_id, generation)
    WHERE s.provider = gone.workspace || '/' || gone.client_id AND s.generation <= gone.generation
"""
_START_GRACE = """
    UPDATE loaded_workspaces l SET unload_at = now() + $1::interval
    WHERE l.unload_at IS NULL AND ($2::text[] IS NULL OR l.workspace = ANY($2))
      AND NOT EXISTS (SELECT FROM clients c WHERE c.workspace = l.workspace)
"""
_DUE = """
    SELECT workspace FROM loaded_workspaces WHERE unload_at <= now() ORDER BY unload_at LIMIT $1
    FOR UPDATE SKIP LOCKED
"""
_IN_USE = """
    UPDATE loaded_workspaces l SET unload_at = NULL
    WHERE workspace = ANY($1::text[]) AND EXISTS (SELECT FROM clients c WHERE c.workspace = l.workspace)
    RETURNING workspace
"""
_IDLE = """
    SELECT id, name, description, persistent, owners, read_only, extra, system, created_by, false AS loaded
    FROM workspaces WHERE id = ANY($1::text[]) FOR UPDATE
"""
_ORPHANS = """
    DELETE FROM clients c WHERE NOT EXISTS (SELECT FROM gateways g WHERE g.id = c.gateway)
    RETURNING workspace, client_id, generation
"""
_GHOSTS = """
    DELETE FROM services s WHERE NOT EXISTS (
        SELECT FROM clients c
        WHERE c.workspace = s.workspace AND c.client_id = s.client_id AND (
            c.generation = s.generation
            -- It has moved from a gateway that drains, and is about to register them again.
            OR c.generation > s.generation AND c.created_at > now() - interval '10 s'
        )
    )
"""
_FORGOTTEN = """
    INSERT INTO loaded_workspaces (workspace, unload_at)
    SELECT id, now() + $1::interval FROM workspaces w
    WHERE NOT persistent AND NOT system
      AND NOT EXISTS (SELECT FROM loaded_workspaces l WHERE l.workspace = w.id)
    ON CONFLICT (workspace) DO NOTHING
"""
_COUNT = """
    SELECT (SELECT count(*) FROM gateways) AS gateways, (SELECT count(*) FROM clients) AS clients,
           (SELECT count(*) FROM services) AS services, (SELECT count(*) FROM loaded_workspaces) AS workspaces
"""
# Clients whose gateway has not been heard of in time are about to be swept: more than a few, for long, are ghosts.
_COUNT_STATES = """
    SELECT count(*) FILTER (WHERE g.expires_at > now()) AS live,
           count(*) FILTER (WHERE g.expires_at IS NULL OR g.expires_at <= now()) AS lapsed
    FROM clients c LEFT JOIN gateways g ON g.id = c.gateway
"""


@dataclass(frozen=True, slots=True)
class Removed:
    """What a pass removed: (workspace, client) of connections, and how many gateways and stray services."""

    clients: list[tuple[str, str]] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)
    services: int = 0


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A workspace that nobody was in; ``deleted`` where it was not persistent."""

    workspace: Workspace
    deleted: bool


async def sweep_gateways(shard: Shard, *, grace_s: float) -> Removed:
    """
    Remove gateways whose lease ran out, with their clients and services.

    The rows of the gateways stay locked meanwhile: of several sweepers one gets each, and a gateway that wakes up
    finds its lease either whole or gone.

    """
    async with shard.transaction() as connection:
        dead = [row["id"] for row in await connection.fetch(_DEAD)]
        if not dead:
            return Removed()
        rows = await connection.fetch(_CLIENTS_OF, dead)
        columns = [[row[name] for row in rows] for name in ("workspace", "client_id", "generation")]
        await connection.execute(_SERVICES_OF, *columns)
        await connection.execute(_START_GRACE, timedelta(seconds=grace_s), list(set(columns[0])))
        await connection.execute("DELETE FROM gateways WHERE id = ANY($1::text[])", dead)
    return Removed([(row["workspace"], row["client_id"]) for row in rows], dead)


async def unload_idle(shard: Shard) -> list[Unloaded]:
    """Unload workspaces whose grace period is over; delete those that are not persistent."""
    async with shard.transaction() as connection:
        due = [row["workspace"] for row in await connection.fetch(_DUE, _AT_ONCE)]
        if not due:
            return []
        # With the rows locked, a new statement sees every client that was admitted before.
        used = {row["workspace"] for row in await connection.fetch(_IN_USE, due)}
        idle = [workspace for workspace in due if workspace not in used]
        records = [Workspace.from_row(row) for row in await connection.fetch(_IDLE, idle)]
        doomed = [record.id for record in records if not record.persistent and not record.system]
        await connection.execute("DELETE FROM workspaces WHERE id = ANY($1::text[])", doomed)
        await connection.execute("DELETE FROM loaded_workspaces WHERE workspace = ANY($1::text[])", idle)
    return [Unloaded(record, record.id in doomed) for record in records]


async def audit(shard: Shard, *, grace_s: float, forgotten_grace_s: float) -> Removed | None:
    """
    Repair what a crash between two statements, or of PostgreSQL, may have left. None while another replica does.

    Connections without a gateway, services without a connection, workspaces without clients that were not marked, and
    transient workspaces that nobody remembers to unload.

    """
    async with shard.transaction() as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _AUDIT_LOCK):
            return None
        orphans = await connection.fetch(_ORPHANS)
        ghosts = await connection.execute(_GHOSTS)
        await connection.execute(_START_GRACE, timedelta(seconds=grace_s), None)
        await connection.execute(_FORGOTTEN, timedelta(seconds=forgotten_grace_s))
    clients = [(row["workspace"], row["client_id"]) for row in orphans]
    return Removed(clients, services=int(ghosts.rpartition(" ")[2]))


async def count_states(shard: Shard) -> dict[str, int]:
    """Return how many clients are ``live``, and ``lapsed``: their gateway's lease is over, or there is none."""
    row = await shard.fetchrow(_COUNT_STATES)
    return dict(row) if row is not None else {}


async def count_rows(shard: Shard) -> dict[str, int]:
    """Return how many gateways, clients, services and loaded workspaces there are."""
    row = await shard.fetchrow(_COUNT)
    return dict(row) if row is not None else {}
