from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg

from hypha_common.db import Database, Shard
from hypha_common.errors import BadRequest, Conflict, NotFound
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal
from hypha_common.wire import pack, unpack
from hypha_workspace.registry.clients import CLIENT_COLUMNS, ClientRow

from .record import Workspace, auto_created, owner_names

__all__ = ["Workspace", "Workspaces"]

_COLUMNS = """
    w.id, w.name, w.description, w.persistent, w.owners, w.read_only, w.extra, w.system, w.created_by,
    EXISTS (SELECT FROM loaded_workspaces l WHERE l.workspace = w.id) AS loaded
"""
_GET = f"SELECT {_COLUMNS} FROM workspaces w WHERE w.id = $1"  # noqa: S608 constants
_GET_FULL = f"""
    SELECT {_COLUMNS},
        ARRAY(SELECT e.key FROM environment e WHERE e.workspace = w.id ORDER BY e.key) AS env_keys,
        ARRAY(SELECT e.value FROM environment e WHERE e.workspace = w.id ORDER BY e.key) AS env_values,
        ARRAY(SELECT b.item FROM bookmarks b WHERE b.workspace = w.id ORDER BY b.created_at, b.item_id) AS bookmarks,
        ARRAY(SELECT t.info FROM service_types t WHERE t.workspace = w.id ORDER BY t.created_at, t.type_id) AS types
    FROM workspaces w WHERE w.id = $1
"""  # noqa: S608 constants
_INSERT = """
    INSERT INTO workspaces (id, name, description, persistent, owners, read_only, extra, created_by)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_REPLACE = """
    UPDATE workspaces
    SET name = $2, description = $3, persistent = $4, owners = $5, read_only = $6, extra = $7
    WHERE id = $1
"""
# Somebody who waits for a first client: nothing else would ever unload it.
_UNCLAIMED = """
    INSERT INTO loaded_workspaces (workspace, unload_at) VALUES ($1, now() + $2::interval) ON CONFLICT DO NOTHING
"""
_DELETE_CLIENTS = f"DELETE FROM clients c WHERE workspace = $1 RETURNING {CLIENT_COLUMNS}"  # noqa: S608 constants
_MATCHABLE = {"id", "name", "description", "read_only", "persistent", "owners"}


class Workspaces:
    """
    Workspace records: SQL, without permission checks and events.

    Deletion with both is in ``lifetime.py``, creation by connecting in ``registry/admission.py``.

    """

    def __init__(self, database: Database, *, unclaimed_s: float = 86400.0) -> None:
        self._database = database
        self._unclaimed = timedelta(seconds=unclaimed_s)

    async def get(self, workspace: str) -> Workspace | None:
        """Return the record alone."""
        row = await self._database.for_workspace(workspace).fetchrow(_GET, workspace)
        return None if row is None else Workspace.from_row(row)

    async def get_full(self, workspace: str) -> Workspace | None:
        """Return the record with environment, bookmarks and service types."""
        row = await self._database.for_workspace(workspace).fetchrow(_GET_FULL, workspace)
        if row is None:
            return None
        types = [unpack(info) for info in row["types"]]
        return Workspace.from_row(
            row,
            environs={key: unpack(value) for key, value in zip(row["env_keys"], row["env_values"], strict=True)},
            bookmarks=[unpack(item) for item in row["bookmarks"]],
            service_types={info["id"]: info for info in types},
        )

    async def ensure(self, workspace: str, principal: Principal) -> tuple[Workspace, bool]:
        """
        Return the workspace and whether it was made now, by the rules of :func:`auto_created`.

        Raises NotFound ``Workspace X does not exist or is not accessible``.

        """
        found = await self.get(workspace)
        if found is not None:
            return found, False
        record = auto_created(workspace, principal)
        if record is None:
            raise NotFound(f"Workspace {workspace} does not exist or is not accessible")
        try:
            return await self.create(record), True
        except Conflict:  # somebody else made it meanwhile
            return await self.get(workspace) or record, False

    async def create(self, workspace: Workspace, *, overwrite: bool = False) -> Workspace:
        """
        Store a new record, or replace one fully, its environment, bookmarks and service types included.

        Raises Conflict ``Workspace already exists: X``.

        """
        workspace = replace(workspace, name=workspace.name or workspace.id)
        values = (
            workspace.id, workspace.name, workspace.description, workspace.persistent,
            list(workspace.owners), workspace.read_only, workspace.pack_extra(),
        )  # fmt: skip
        async with self._database.for_workspace(workspace.id).transaction() as connection:
            replaced = overwrite and (await connection.execute(_REPLACE, *values)) == "UPDATE 1"
            if replaced:
                for table in ("environment", "bookmarks", "service_types"):
                    await connection.execute(f"DELETE FROM {table} WHERE workspace = $1", workspace.id)  # noqa: S608
            else:
                try:
                    await connection.execute(_INSERT, *values, workspace.created_by)
                except asyncpg.UniqueViolationError:
                    raise Conflict(f"Workspace already exists: {workspace.id}") from None
                await connection.execute(_UNCLAIMED, workspace.id, self._unclaimed)
            await connection.executemany(
                "INSERT INTO environment (workspace, key, value) VALUES ($1, $2, $3)",
                [(workspace.id, key, pack(value)) for key, value in (workspace.environs or {}).items()],
            )
            await connection.executemany(
                "INSERT INTO bookmarks (workspace, bookmark_type, item_id, item) VALUES ($1, $2, $3, $4)",
                [(workspace.id, b["bookmark_type"], b["id"], pack(b)) for b in workspace.bookmarks or []],
            )
            await connection.executemany(
                "INSERT INTO service_types (workspace, type_id, info) VALUES ($1, $2, $3)",
                [(workspace.id, key, pack(info)) for key, info in (workspace.service_types or {}).items()],
            )
        return workspace

    async def list_visible(
        self, principal: Principal, *, match: dict[str, Any] | None = None, offset: int = 0, limit: int = 256
    ) -> list[Workspace]:
        """
        Return workspaces that the principal may read or owns, by id.

        ``match`` demands exact equality of record fields; BadRequest for others.

        """
        conditions, values = _match(match or {})
        if principal.permission("*") < Permission.READ:
            names = owner_names(principal)
            readable = [name for name, level in principal.scope.workspaces.items() if level >= Permission.READ]
            readable.append(personal_workspace(principal.id))
            values += [readable, names]
            conditions.append(f"(w.id = ANY(${len(values) - 1}::text[]) OR w.owners && ${len(values)}::text[])")
        where = " AND ".join([*conditions, f"w.id > ${len(values) + 1}"])
        query = (
            f"SELECT {_COLUMNS}, w.id AS workspace FROM workspaces w WHERE {where}"  # noqa: S608 constants
            f" ORDER BY w.id LIMIT {offset + limit:d}"
        )
        parts = await asyncio.gather(
            *(self._first(shard, query, values, offset + limit) for shard in self._database.all())
        )
        found = [Workspace.from_row(row) for rows in parts for row in rows]
        return sorted(found, key=lambda workspace: workspace.id)[offset : offset + limit]

    async def _first(self, shard: Shard, query: str, values: list[Any], wanted: int) -> list[Any]:
        """Return the first rows of a database that count: some that it has may be owned by another one."""
        found: list[Any] = []
        after = ""
        while wanted:
            rows = await shard.fetch(query, *values, after)
            found += [row for row in rows if self._database.owns(shard, row["id"])]
            if len(rows) < wanted or len(found) >= wanted:
                break
            after = rows[-1]["id"]
        return found

    async def count_owned(self, user_id: str) -> int:
        """Return how many workspaces name this user among their owners, over all databases."""
        query = "SELECT id AS workspace FROM workspaces WHERE owners @> ARRAY[$1::text] AND NOT system"
        return len(await self._database.gather(self._database.all(), query, user_id))

    async def unload(self, workspace: str) -> list[ClientRow] | None:
        """Forget who is in a workspace; one that is not persistent is deleted. Returns what :meth:`delete` does."""
        return await self._empty(workspace, delete="NOT persistent")

    async def delete(self, workspace: str) -> list[ClientRow] | None:
        """Delete the record and every row of the workspace; return the clients that were connected, None if unknown."""
        return await self._empty(workspace, delete="true")

    async def _empty(self, workspace: str, *, delete: str) -> list[ClientRow] | None:
        async with self._database.for_workspace(workspace).transaction() as connection:
            # Both are locked first, so that a client that is just being admitted is seen by the statements below.
            await connection.execute("SELECT FROM loaded_workspaces WHERE workspace = $1 FOR UPDATE", workspace)
            if not await connection.fetch("SELECT FROM workspaces WHERE id = $1 AND NOT system FOR UPDATE", workspace):
                return None
            rows = await connection.fetch(_DELETE_CLIENTS, workspace)
            await connection.execute("DELETE FROM services WHERE workspace = $1", workspace)
            await connection.execute("DELETE FROM loaded_workspaces WHERE workspace = $1", workspace)
            await connection.execute(f"DELETE FROM workspaces WHERE id = $1 AND {delete}", workspace)  # noqa: S608
        return [ClientRow.from_row(row) for row in rows]


def _match(match: dict[str, Any]) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for key, value in match.items():
        if key not in _MATCHABLE:
            raise BadRequest(f"Invalid match key: {key}")
        values.append(_checked(key, value))
        conditions.append(f"w.{key} IS NOT DISTINCT FROM ${len(values)}")
    return conditions, values


def _checked(key: str, value: Any) -> Any:
    kind = {"read_only": bool, "persistent": bool, "owners": list}.get(key, str)
    if value is not None and not isinstance(value, kind):
        raise BadRequest(f"Invalid match value for {key}: {value!r}")
    return value
