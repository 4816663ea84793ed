from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hypha_common.db import Database
from hypha_common.errors import NotFound, PermissionDenied, QuotaExceeded, Unavailable
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal
from hypha_common.wire import pack
from hypha_workspace.workspaces.record import auto_created, owner_names

from .gateways import LEASE_S

__all__ = ["Admission", "Admitted", "ConnectRequest"]

_ATTEMPTS = 3

# One round trip. `held` (or `locked`, where the workspace is not loaded) keeps whoever unloads or deletes the workspace
# waiting until this has committed; both are KEY SHARE, so that connections do not wait for each other. Generations come
# from the sequence after the row lock of the conflicting client, so a later owner always has the higher one.
# A workspace that does not outlive its clients need not wait for the disk: a crash takes its clients' rows as well.
_CONNECT = """
WITH held AS MATERIALIZED (
    SELECT workspace FROM loaded_workspaces WHERE workspace = $1 FOR KEY SHARE
), stored AS MATERIALIZED (
    SELECT id, owners FROM workspaces WHERE id = $1 AND EXISTS (SELECT FROM held)
), locked AS MATERIALIZED (
    SELECT id, owners FROM workspaces WHERE id = $1 AND NOT EXISTS (SELECT FROM held) FOR KEY SHARE
), created AS (
    INSERT INTO workspaces (id, name, description, persistent, owners, read_only, created_by)
    SELECT $1, $1, $10, $11, $12, $13, $14
    WHERE $9 AND NOT EXISTS (SELECT FROM stored) AND NOT EXISTS (SELECT FROM locked)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, owners, CASE WHEN NOT persistent THEN set_config('synchronous_commit', 'off', true) END
), target AS MATERIALIZED (
    SELECT id, owners, false AS made FROM stored
    UNION ALL SELECT id, owners, false FROM locked
    UNION ALL SELECT id, owners, true FROM created
), counted AS MATERIALIZED (
    SELECT
        (SELECT count(*) FROM (
            SELECT FROM clients WHERE workspace = $1 AND client_id <> $2 LIMIT $15
        ) AS others) AS in_workspace,
        (SELECT count(*) FROM (
            SELECT FROM clients WHERE user_id = $4 AND (workspace <> $1 OR client_id <> $2) LIMIT $16
        ) AS others) AS of_user
), admitted AS MATERIALIZED (
    SELECT id FROM target, counted
    WHERE ($8 OR owners && $7::text[]) AND in_workspace < $15 AND of_user < $16
), leased AS (
    INSERT INTO gateways (id, expires_at) SELECT $3, now() + $18::interval FROM admitted
    ON CONFLICT (id) DO NOTHING
), loaded AS (
    INSERT INTO loaded_workspaces AS l (workspace) SELECT id FROM admitted WHERE NOT EXISTS (SELECT FROM held)
    ON CONFLICT (workspace) DO UPDATE SET unload_at = NULL
    RETURNING (l.xmax = 0) AS fresh
), kept AS (
    UPDATE loaded_workspaces SET unload_at = NULL
    WHERE workspace = $1 AND unload_at IS NOT NULL
      AND EXISTS (SELECT FROM held) AND EXISTS (SELECT FROM admitted)
), joined AS (
    INSERT INTO clients AS c (workspace, client_id, generation, gateway, user_id, identity)
    SELECT $1, $2, nextval('generation'), $3, $4, CASE WHEN $8 THEN $5::bytea ELSE $6::bytea END FROM admitted
    ON CONFLICT (workspace, client_id) DO UPDATE
        SET generation = nextval('generation'), gateway = excluded.gateway, user_id = excluded.user_id,
            identity = excluded.identity, created_at = now(),
            previous_gateway = c.gateway, previous_generation = c.generation
        WHERE $17 OR NOT EXISTS (
            SELECT FROM services s WHERE s.provider = $1 || '/' || $2 AND s.service_id = 'built-in'
        )
    RETURNING generation, previous_gateway, previous_generation
)
SELECT t.id, t.owners, t.made, n.in_workspace, n.of_user, l.fresh,
       j.generation, j.previous_gateway, j.previous_generation
FROM counted n LEFT JOIN target t ON true LEFT JOIN loaded l ON true LEFT JOIN joined j ON true
"""
_FORGET = "DELETE FROM services WHERE provider = $1 || '/' || $2 AND generation < $3"


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A connection that wants to be ``workspace/client_id``; the gateway has verified who it is."""

    workspace: str
    client_id: str
    gateway: str
    principal: Principal


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted connection, and what it took the place of."""

    generation: int
    principal: Principal  # with the effective scope
    permission: Permission
    created: bool  # the workspace was made now,
    loaded: bool  # or it had no clients before
    previous_gateway: str | None
    previous_generation: int | None


class Admission:
    """Admits connections: looks up or makes the workspace, authorizes, and takes the client's next generation."""

    def __init__(self, database: Database, *, max_clients_per_workspace: int, max_connections_per_user: int) -> None:
        self._database = database
        self._max_clients = max_clients_per_workspace
        self._max_connections = max_connections_per_user

    async def admit(self, request: ConnectRequest, *, take_over: bool) -> Admitted | None:
        """
        Admit a connection in one statement.

        Without ``take_over``, returns None where a client with a registered built-in service has the id: somebody has
        to ask whether it is alive. Raises NotFound, PermissionDenied, QuotaExceeded with the contract's texts.

        """
        principal, workspace = request.principal, request.workspace
        granted = principal.permission(workspace)
        if not granted and workspace == personal_workspace(principal.id):
            granted = Permission.ADMIN
        as_granted = _effective(request, granted)
        as_owner = _effective(request, Permission.ADMIN)
        row = await self._ask(request, as_granted, as_owner, granted, take_over)
        if row["id"] is None:
            raise NotFound(f"Workspace {workspace} does not exist or is not accessible")
        owner = bool(set(owner_names(principal)) & set(row["owners"]))
        if granted < Permission.READ and not owner:
            raise PermissionDenied(f"Permission denied for workspace: {workspace}")
        self._check_limits(request, row)
        if row["generation"] is None:
            return None
        return Admitted(
            generation=row["generation"],
            principal=as_granted if granted else as_owner,
            permission=granted or Permission.ADMIN,
            created=row["made"],
            loaded=bool(row["fresh"]) and not row["made"],
            previous_gateway=row["previous_gateway"],
            previous_generation=row["previous_generation"],
        )

    async def forget_services(self, workspace: str, client_id: str, generation: int) -> None:
        """Remove what older connections of a client had registered."""
        await self._database.for_workspace(workspace).execute(_FORGET, workspace, client_id, generation)

    async def _ask(
        self, request: ConnectRequest, as_granted: Principal, as_owner: Principal, granted: Permission, take_over: bool
    ) -> Any:
        principal, workspace = request.principal, request.workspace
        record = auto_created(workspace, principal)
        new = (
            ()
            if record is None
            else (record.description, record.persistent, list(record.owners), record.read_only, record.created_by)
        )
        max_connections = 2**31 if principal.is_admin else self._max_connections
        for _ in range(_ATTEMPTS):
            row = await self._database.for_workspace(workspace).fetchrow(
                _CONNECT, workspace, request.client_id, request.gateway, principal.id,
                pack(as_granted.dump()), pack(as_owner.dump()), owner_names(principal), granted >= Permission.READ,
                record is not None, *(new or (None, False, [], False, principal.id)),
                self._max_clients, max_connections, take_over, timedelta(seconds=LEASE_S),
            )  # fmt: skip
            if row is None:
                raise Unavailable("The database gave no answer")
            # A workspace that another connection makes at this moment is there at the second look.
            if row["id"] is not None or record is None:
                break
        return row

    def _check_limits(self, request: ConnectRequest, row: Any) -> None:
        user, workspace = request.principal.id, request.workspace
        if row["of_user"] >= self._max_connections and not request.principal.is_admin:
            raise QuotaExceeded(
                f"Connection limit exceeded: user {user} has {row['of_user']}/{self._max_connections} connections"
            )
        if row["in_workspace"] >= self._max_clients:
            count = f"{row['in_workspace']}/{self._max_clients}"
            raise QuotaExceeded(f"Connection limit exceeded: workspace {workspace} has {count} clients")


def _effective(request: ConnectRequest, permission: Permission) -> Principal:
    """Return the principal as this connection acts (contract 01 §1.4 point 7)."""
    scope = request.principal.scope
    grants = scope.workspaces
    if permission > request.principal.permission(request.workspace):
        grants = {**grants, request.workspace: permission}
    return replace(
        request.principal,
        scope=replace(scope, workspaces=grants, current_workspace=request.workspace, client_id=request.client_id),
    )
