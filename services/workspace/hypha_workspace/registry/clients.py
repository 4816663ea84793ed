from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypha_common.db import Database, Shard
from hypha_common.wire import pack, unpack

__all__ = ["CLIENT_COLUMNS", "ClientRow", "Clients", "Restored"]

CLIENT_COLUMNS = """
    c.workspace, c.client_id, c.generation, c.gateway, c.identity, extract(epoch FROM c.created_at) AS connected_at,
    EXISTS (
        SELECT FROM services s
        WHERE s.provider = c.workspace || '/' || c.client_id AND s.service_id = 'built-in'
    ) AS registered
"""
_CONNECTED = f"""
    SELECT {CLIENT_COLUMNS} FROM clients c
    WHERE c.gateway NOT LIKE 'role:%' AND ($1::text IS NULL OR c.workspace = $1)
    ORDER BY c.workspace, c.client_id
"""  # noqa: S608 constants
_REMOVE_SERVICES = """
    WITH gone AS (
        DELETE FROM services WHERE provider = $1 || '/' || $2 AND generation <= $3
    )
    UPDATE loaded_workspaces SET unload_at = now() + $4::interval
    WHERE workspace = $1 AND unload_at IS NULL AND NOT EXISTS (SELECT FROM clients WHERE workspace = $1)
"""
_RESTORE = """
    WITH announced AS (
        SELECT a.* FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::bytea[])
            AS a (workspace, client_id, generation, user_id, identity)
        WHERE EXISTS (SELECT FROM workspaces w WHERE w.id = a.workspace)
        ORDER BY 1, 2
    ), loaded AS (
        INSERT INTO loaded_workspaces (workspace) SELECT DISTINCT workspace FROM announced ORDER BY 1
        ON CONFLICT (workspace) DO NOTHING
    )
    INSERT INTO clients AS c (workspace, client_id, generation, gateway, user_id, identity)
    SELECT workspace, client_id, generation, $1, user_id, identity FROM announced
    ON CONFLICT (workspace, client_id) DO UPDATE
        SET generation = excluded.generation, gateway = excluded.gateway,
            user_id = excluded.user_id, identity = excluded.identity
        WHERE c.generation < excluded.generation
    RETURNING c.workspace, c.client_id
"""
_PRESENT = "SELECT client_id FROM clients WHERE workspace = $1 AND client_id = ANY($2::text[])"
_CURRENT = """
    SELECT workspace, client_id, generation FROM clients
    WHERE (workspace, client_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A connected client. ``registered`` tells whether its built-in service is (contract 01 §1.11 "client exists")."""

    workspace: str
    client_id: str
    generation: int
    gateway: str
    registered: bool
    user: dict[str, Any]  # Principal.dump() of the connection
    connected_at: float  # Unix time

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ClientRow:
        return cls(
            row["workspace"], row["client_id"], row["generation"], row["gateway"], row["registered"],
            unpack(row["identity"]), float(row["connected_at"]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of announced connections, as (workspace, client, generation)."""

    intact: int
    restored: list[tuple[str, str, int]]  # their rows are back, their services are not
    superseded: list[tuple[str, str, int]]  # a newer connection has the id, or the workspace is gone


class Clients:
    """Connected clients, in the database of their workspace. How one is admitted is in ``admission.py``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, workspace: str, client_id: str) -> ClientRow | None:
        """Return the client that is connected under this id."""
        row = await self._database.for_workspace(workspace).fetchrow(
            f"SELECT {CLIENT_COLUMNS} FROM clients c WHERE c.workspace = $1 AND c.client_id = $2",  # noqa: S608
            workspace, client_id,
        )  # fmt: skip
        return None if row is None else ClientRow.from_row(row)

    async def present(self, workspace: str, client_ids: Iterable[str]) -> list[str]:
        """Return those of the clients that are connected."""
        rows = await self._database.for_workspace(workspace).fetch(_PRESENT, workspace, list(client_ids))
        return [row["client_id"] for row in rows]

    async def in_workspace(self, workspace: str) -> list[ClientRow]:
        """Return the connected clients of a workspace, oldest first; clients that stand for roles are among them."""
        rows = await self._database.for_workspace(workspace).fetch(
            f"SELECT {CLIENT_COLUMNS} FROM clients c WHERE c.workspace = $1 ORDER BY c.generation",  # noqa: S608
            workspace,
        )
        return [ClientRow.from_row(row) for row in rows]

    async def connected(self, workspace: str | None = None) -> list[ClientRow]:
        """Return the clients that gateways hold, of one workspace or of all; for operators."""
        shards = self._database.all() if workspace is None else [self._database.for_workspace(workspace)]
        rows = await self._database.gather(shards, _CONNECTED, workspace)
        return [ClientRow.from_row(row) for row in rows]

    async def remove(self, workspace: str, client_id: str, generation: int, *, grace_s: float) -> bool:
        """
        Remove what connection ``generation`` left behind and start the grace period of a workspace that is now empty.

        False where the client was removed or superseded already; a newer connection loses nothing.

        """
        shard = self._database.for_workspace(workspace)
        removed = await shard.execute(
            "DELETE FROM clients WHERE workspace = $1 AND client_id = $2 AND generation = $3",
            workspace, client_id, generation,
        )  # fmt: skip
        # A statement of its own: only now no registration of this generation can succeed any more, and the snapshot
        # shows those that just did.
        await shard.execute(_REMOVE_SERVICES, workspace, client_id, generation, timedelta(seconds=grace_s))
        return removed > 0

    async def restore(self, gateway: str, clients: Iterable[Mapping[str, Any]]) -> Restored:
        """Put back the rows of connections that a gateway announces, each in its own database."""
        by_shard: dict[Shard, list[Mapping[str, Any]]] = {}
        for client in clients:
            by_shard.setdefault(self._database.for_workspace(client["workspace"]), []).append(client)
        total = Restored(0, [], [])
        for shard, group in by_shard.items():
            part = await self._restore(shard, gateway, group)
            total = Restored(
                total.intact + part.intact, total.restored + part.restored, total.superseded + part.superseded
            )
        return total

    async def _restore(self, shard: Shard, gateway: str, clients: list[Mapping[str, Any]]) -> Restored:
        workspaces = [client["workspace"] for client in clients]
        ids = [client["client_id"] for client in clients]
        generations = [client["generation"] for client in clients]
        users = [client["user"]["id"] for client in clients]
        identities = [pack(client["user"]) for client in clients]
        async with shard.transaction() as connection:
            # The sequence is logged; should a crash have cost its last values all the same, they are skipped here.
            await connection.execute(
                "SELECT setval('generation', $1) WHERE $1 > (SELECT last_value FROM generation)", max(generations)
            )
            back = await connection.fetch(_RESTORE, gateway, workspaces, ids, generations, users, identities)
            rows = await connection.fetch(_CURRENT, workspaces, ids)
        current = {(row["workspace"], row["client_id"]): row["generation"] for row in rows}
        restored = {(row["workspace"], row["client_id"]) for row in back}
        outcome = Restored(0, [], [])
        intact = 0
        for key in zip(workspaces, ids, generations, strict=True):
            if current.get(key[:2]) != key[2]:
                outcome.superseded.append(key)
            elif key[:2] in restored:
                outcome.restored.append(key)
            else:
                intact += 1
        return Restored(intact, outcome.restored, outcome.superseded)
