from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from hypha_common.db import driver_url
from hypha_common.errors import HyphaError, Unavailable
from hypha_common.placement import partition_range
from hypha_common.roll_call import call_roll
from hypha_common.subjects import partition_of

from .tables import TABLES

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.db import Database
    from hypha_common.placement import NamedDatabase
    from hypha_common.settings import Settings

    from .copying import Connection

__all__ = ["Held", "Replica", "Survey", "survey"]

_TIMEOUT_S = 60.0
_SERVICES = ("workspace", "artifacts", "apps")
# Every database has a row for each of these; it counts where the partition is.
_SYSTEM = "SELECT id FROM workspaces WHERE system"


@dataclass(frozen=True, slots=True)
class Replica:
    """What a replica says of itself."""

    role: str
    id: str
    serves: frozenset[int]
    epoch: int
    databases: tuple[str, ...]


@dataclass(slots=True)
class Held:
    """What one database has; ``lost`` says why that is not known."""

    lost: str = ""
    schemas: dict[str, str | None] = field(default_factory=dict)  # revision by service
    rows: Counter[int] = field(default_factory=Counter)  # by partition
    workspaces: dict[int, set[str]] = field(default_factory=dict)  # that it has rows of, by partition


@dataclass(frozen=True, slots=True)
class Survey:
    """Partitions as the databases, the map and the replicas have them."""

    database: Database  # with the map
    held: dict[str, Held]  # by the name of the database
    replicas: list[Replica]


async def survey(settings: Settings, database: Database, bus: Bus) -> Survey:
    """Look at every database and ask every replica."""
    held = {named.name: await _look(named) for named in settings.databases}
    replicas = [_replica(one) for one in await call_roll(bus) if "serves" in one]
    return Survey(database, held, replicas)


def _replica(about: dict[str, Any]) -> Replica:
    serves = frozenset(number for word in about["serves"].split(",") if word for number in partition_range(word))
    return Replica(about["role"], about["id"], serves, about["epoch"], tuple(about["databases"]))


async def _look(named: NamedDatabase) -> Held:
    try:
        async with _connected(named) as connection:
            return await _held(connection)
    except HyphaError as error:
        return Held(lost=str(error))


async def _held(connection: Connection) -> Held:
    held = Held()
    for service in _SERVICES:
        versions = f"{service}_schema"
        there = await connection.fetchval("SELECT to_regclass($1)", versions)
        query = f"SELECT version_num FROM {versions}"  # noqa: S608 constants of ours
        held.schemas[service] = None if there is None else await connection.fetchval(query)
    if held.schemas["workspace"] is None:
        return held
    names = {row["tablename"] for row in await connection.fetch("SELECT tablename FROM pg_tables")}
    system = {row["id"] for row in await connection.fetch(_SYSTEM)}
    for table in TABLES:
        if table.name not in names:
            continue
        owner = table.partition or f"({table.workspace})"
        query = f"SELECT {owner} AS owner, count(*) AS rows FROM {table.name} WHERE {table.counted} GROUP BY 1"  # noqa: S608
        for row in await connection.fetch(query):
            if table.partition:
                held.rows[row["owner"]] += row["rows"]
                continue
            workspace = row["owner"]
            if table.name == "workspaces" and workspace in system:
                continue
            held.rows[partition_of(workspace)] += row["rows"]
            held.workspaces.setdefault(partition_of(workspace), set()).add(workspace)
    return held


@asynccontextmanager
async def _connected(named: NamedDatabase) -> AsyncIterator[Connection]:
    try:
        connection: Connection = await asyncpg.connect(
            driver_url(named.url),
            timeout=5,
            command_timeout=_TIMEOUT_S,
            server_settings={"application_name": "hypha-survey", "timezone": "UTC"},
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"it cannot be reached: {error or type(error).__name__}") from None
    try:
        yield connection
    finally:
        await connection.close()
