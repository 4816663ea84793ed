from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from hypha_common.errors import ConfigurationError, InternalError
from hypha_common.subjects import partition_of
from hypha_workspace.registry.gateways import LEASE_S

from .tables import TABLES, Table

if TYPE_CHECKING:
    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

__all__ = ["copy", "remove", "tables_there", "workspaces_of"]

_BUFFERED = 16  # pieces of a table on their way
_COLUMNS = """
    SELECT column_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name = $1 AND is_generated = 'NEVER' AND column_name <> $2
    ORDER BY ordinal_position
"""
# Connected clients stay so: their gateways are known to the other database before they renew their leases there.
_GATEWAYS = """
    SELECT id, connections, load FROM gateways
    WHERE id IN (SELECT gateway FROM clients WHERE workspace = ANY($1::text[]))
"""
_KNOW_GATEWAY = """
    INSERT INTO gateways AS g (id, expires_at, connections, load, announced)
    VALUES ($1, now() + $2::interval, $3, $4, true)
    ON CONFLICT (id) DO UPDATE SET expires_at = greatest(g.expires_at, excluded.expires_at)
"""

# What is numbered next is newer than what has moved, in the other database as well: connections, and tasks of a queue.
_GOING_ON = ("generation", "queue_tasks_id_seq")


async def tables_there(connection: Connection) -> list[Table]:
    """Return those of our tables that a database has: a cluster may do without apps, or files."""
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    names = {row["tablename"] for row in rows}
    return [table for table in TABLES if table.name in names]


async def workspaces_of(connection: Connection, partition: int, tables: Sequence[Table]) -> list[str]:
    """Return the workspaces of a partition that a database has any rows of."""
    found: set[str] = set()
    for table in tables:
        if table.workspaces:
            found.update(row[0] for row in await connection.fetch(table.workspaces))
    return sorted(workspace for workspace in found if partition_of(workspace) == partition)


async def remove(connection: Connection, partition: int) -> int:
    """Remove the rows of a partition from a database, in one transaction; return how many there were."""
    async with connection.transaction():
        return await _remove(connection, partition)


async def copy(source: Connection, target: Connection, partition: int) -> int:
    """
    Copy the rows of a partition, all in one transaction at each side; what the other database had of it is replaced.

    Nobody else may work on the partition meanwhile. Returns how many rows there are. Raises ConfigurationError where
    the schemas differ.

    """
    async with source.transaction(isolation="repeatable_read", readonly=True), target.transaction():
        await _remove(target, partition)
        tables = await tables_there(source)
        workspaces = await workspaces_of(source, partition, tables)
        rows = 0
        for table in tables:
            if table.name == "loose_blobs":
                # Of every object that came in, a trigger has made a note; those that were there are what counts.
                await _delete(target, table, workspaces, partition)
            rows += await _copy(source, target, table, workspaces, partition)
        for row in await source.fetch(_GATEWAYS, workspaces):
            await target.execute(_KNOW_GATEWAY, row["id"], timedelta(seconds=LEASE_S), row["connections"], row["load"])
        for sequence in _GOING_ON:
            last = await source.fetchval(f"SELECT last_value FROM {sequence}")  # noqa: S608 names of ours
            query = f"SELECT setval('{sequence}', $1) WHERE $1 > (SELECT last_value FROM {sequence})"  # noqa: S608
            await target.execute(query, last)
        return rows


async def _remove(connection: Connection, partition: int) -> int:
    tables = await tables_there(connection)
    workspaces = await workspaces_of(connection, partition, tables)
    removed = 0
    # Triggers make notes for the sweep of what goes away: those tables come once more, when that is over.
    for table in [*reversed(tables), *(table for table in tables if table.name in ("dead_objects", "loose_blobs"))]:
        removed += await _delete(connection, table, workspaces, partition)
    return removed


async def _delete(connection: Connection, table: Table, workspaces: list[str], partition: int) -> int:
    query, values = _with_values(f"DELETE FROM {table.name} WHERE {table.condition}", workspaces, partition)  # noqa: S608
    status = await connection.execute(query, *values)
    return int(status.rpartition(" ")[2])


async def _copy(source: Connection, target: Connection, table: Table, workspaces: list[str], partition: int) -> int:
    sides = [[row[0] for row in await side.fetch(_COLUMNS, table.name, table.numbered)] for side in (source, target)]
    columns = sides[0]
    if set(columns) != set(sides[1]):
        raise ConfigurationError(f"The databases differ in table {table.name}; run the migrations of all services")
    names = ", ".join(f'"{column}"' for column in columns)
    order = f" ORDER BY {table.numbered}" if table.numbered else ""
    select = f"SELECT {names} FROM {table.name} WHERE {table.condition}{order}"  # noqa: S608 names of ours
    query, values = _with_values(select, workspaces, partition)
    pipe: asyncio.Queue[bytes | None] = asyncio.Queue(_BUFFERED)

    async def read() -> str:
        try:
            status: str = await source.copy_from_query(query, *values, output=pipe.put, format="binary")
            return status
        finally:
            await pipe.put(None)

    async def pieces() -> AsyncIterator[bytes]:
        while (piece := await pipe.get()) is not None:
            yield piece

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        writing = group.create_task(target.copy_to_table(table.name, source=pieces(), columns=columns, format="binary"))
    sent, stored = (int(task.result().rpartition(" ")[2]) for task in (reading, writing))
    if sent != stored:
        raise InternalError(f"Of {sent} rows of table {table.name} {stored} arrived")
    return stored


def _with_values(query: str, workspaces: list[str], partition: int) -> tuple[str, list[object]]:
    """Number the parameters that a query has: PostgreSQL wants to know the type of each."""
    if "$2" in query:
        return query.replace("$2", "$1"), [partition]
    return query, [workspaces]
