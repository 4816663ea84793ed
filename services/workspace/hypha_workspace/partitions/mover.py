from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from hypha_common.db import driver_url
from hypha_common.errors import BadRequest, ConfigurationError, Conflict, Unavailable
from hypha_common.ids import new_id
from hypha_common.partition_keeper import MOVED, replica_name
from hypha_common.partition_map import Phase, Place
from hypha_common.roll_call import call_roll
from hypha_common.wire import pack

from .copying import copy, remove

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.placement import NamedDatabase
    from hypha_common.settings import Settings

    from .copying import Connection

__all__ = ["Mover"]

_LOCK = 0x6879_7068_6163  # any constant, another than those of migrations and sweeps
_CONNECT_TIMEOUT_S = 5.0
_NAME = "hypha-mover"
# What of ours is connected to a database, but those that have heard, and auth, which has nothing in partitions.
_END_OTHERS = """
    SELECT pid, pg_terminate_backend(pid, 5000) AS ended FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND application_name LIKE 'hypha-%' AND application_name NOT LIKE 'hypha-auth%'
      AND application_name <> ALL($1::text[])
"""
_FENCE = """
    INSERT INTO partition_fences AS f (partition, epoch) VALUES ($1, $2)
    ON CONFLICT (partition) DO UPDATE SET epoch = greatest(f.epoch, excluded.epoch)
"""
_ANNOUNCE = """
    INSERT INTO partition_places (partition, database, phase, other, epoch)
    VALUES ($1, $2, 'moving', $3, nextval('partition_epoch'))
    ON CONFLICT (partition) DO UPDATE
        SET database = excluded.database, phase = excluded.phase, other = excluded.other, epoch = excluded.epoch
    RETURNING epoch
"""
_SWITCH = """
    UPDATE partition_places
    SET database = other, other = database, phase = 'cleaning', epoch = nextval('partition_epoch')
    WHERE partition = $1 AND phase = 'moving' AND epoch = $2 RETURNING epoch
"""
_SETTLE = """
    UPDATE partition_places SET phase = 'here', other = NULL, epoch = nextval('partition_epoch')
    WHERE partition = $1 AND phase = $2
"""


class Mover:
    """
    Moves one partition from its database to another one, step by step.

    Each step is one that can be done again; where a mover was killed, the next one goes on, or :meth:`abort` undoes
    what was done until the switch. Of several movers one works at a time.

    """

    def __init__(self, settings: Settings, bus: Bus, *, patience_s: float) -> None:
        self._settings = settings
        self._bus = bus
        self._patience_s = patience_s  # that replicas are given to finish what they are at
        self._name = f"{_NAME} {new_id(6)}"
        self.rows = 0  # that were copied
        self.ended = 0  # connections of replicas that did not hear

    def database(self, wanted: str) -> NamedDatabase:
        """Return a database by its name, or by its number, from 1. Raises BadRequest."""
        databases = self._settings.databases
        for number, database in enumerate(databases, 1):
            if wanted in (database.name, str(number)):
                return database
        there = ", ".join(f"{number} {database.name}" for number, database in enumerate(databases, 1))
        raise BadRequest(f"There is no database {wanted!r} in database_partitions; there are: {there}")

    async def move(self, partition: int, target: NamedDatabase) -> AsyncIterator[str]:
        """
        Move a partition; yields after each step what has been done. Nothing where it is there already.

        Raises Conflict where another move is not over, Unavailable where a database is away, ConfigurationError.

        """
        async with self._alone() as home:
            place = await self._place(home, partition)
            if place.phase is Phase.HERE and place.database == target.name:
                return
            if place.phase is Phase.CLEANING:
                if place.database != target.name:
                    raise _has_moved(place)
            else:
                if place.phase is Phase.MOVING and place.other != target.name:
                    raise Conflict(f"Partition {partition} is on its way to {place.other}: finish that, or --abort it")
                async for step in self._bring(home, partition, place, target):
                    yield step
            left = await self._left(home, partition)
            async with self._connect(self._named(left)) as source:
                await remove(source, partition)
            await home.execute(_SETTLE, partition, str(Phase.CLEANING))
            self._tell()
            yield f"rows removed from {left}"

    async def abort(self, partition: int) -> AsyncIterator[str]:
        """Undo a move that has not come to the switch. Raises Conflict where it has, or where there is none."""
        async with self._alone() as home:
            place = await self._place(home, partition)
            if place.phase is Phase.HERE:
                raise Conflict(f"Partition {partition} is not being moved")
            if place.phase is Phase.CLEANING:
                raise _has_moved(place)
            assert place.other is not None  # the table's own check
            # Before the partition is open again: nobody looks after rows there that do not count.
            async with self._connect(self._named(place.other)) as target:
                await remove(target, partition)
            yield f"rows removed from {place.other}"
            await home.execute(_SETTLE, partition, str(Phase.MOVING))
            self._tell()
            yield f"open in {place.database} again"

    async def _bring(self, home: Connection, partition: int, place: Place, to: NamedDatabase) -> AsyncIterator[str]:
        async with AsyncExitStack() as stack:
            source = await stack.enter_async_context(self._connect(self._named(place.database)))
            target = await stack.enter_async_context(self._connect(to))
            for side, name in ((source, place.database), (target, to.name)):
                if await side.fetchval("SELECT to_regclass('partition_fences')") is None:
                    raise _without_schema(f"Database {name}")
            epoch = await home.fetchval(_ANNOUNCE, partition, place.database, to.name)
            self._tell()
            yield "announced"
            for side in (source, target):
                await side.execute(_FENCE, partition, epoch)
            self._tell()
            yield "fenced"
            heard = await self._heard(epoch)
            for side in (source, target):
                # It waits until they are gone: what they were at is either stored by then or never will be.
                self.ended += len(await side.fetch(_END_OTHERS, [*heard, self._name]))
            yield "quiet"
            self.rows = await copy(source, target, partition)
            yield "copied"
            if await home.fetchval(_SWITCH, partition, epoch) is None:
                raise Conflict(f"Somebody else has changed the place of partition {partition} meanwhile")
            self._tell()
            yield f"open in {to.name}"

    async def _heard(self, epoch: int) -> list[str]:
        """Wait until every replica lives by this epoch; return the names of those that do when patience ends."""
        deadline = asyncio.get_running_loop().time() + self._patience_s
        while True:
            there = [one for one in await call_roll(self._bus) if "epoch" in one]
            heard = [one for one in there if one["epoch"] >= epoch]
            if len(heard) == len(there) or asyncio.get_running_loop().time() >= deadline:
                return [replica_name(one["role"], one["id"]) for one in heard]

    def _tell(self) -> None:
        """Whoever does not hear looks by itself within seconds."""
        self._bus.publish(MOVED, pack({}))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection]:
        """Open the home database for the only mover there is. Raises Conflict."""
        async with self._open(self._settings.database_url, "the home database") as home:
            if not await home.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                raise Conflict("Another move runs at this moment")
            yield home

    async def _place(self, home: Connection, partition: int) -> Place:
        if await home.fetchval("SELECT to_regclass('partition_places')") is None:
            raise _without_schema("The home database")
        rows = await home.fetch("SELECT partition, database, phase, other, epoch FROM partition_places")
        places = {row["partition"]: Place(row[0], row[1], Phase(row[2]), row[3], row[4]) for row in rows}
        for other in places.values():
            if other.phase is not Phase.HERE and other.partition != partition:
                raise Conflict(f"The move of partition {other.partition} is not over: finish that first, or --abort it")
        if partition in places:
            return places[partition]
        url = next(run.url for run in self._settings.partitions if run.first <= partition <= run.last)
        name = next(database.name for database in self._settings.databases if database.url == url)
        return Place(partition, name, Phase.HERE, None, 0)

    async def _left(self, home: Connection, partition: int) -> str:
        name: str = await home.fetchval("SELECT other FROM partition_places WHERE partition = $1", partition)
        return name

    def _named(self, name: str) -> NamedDatabase:
        for database in self._settings.databases:
            if database.name == name:
                return database
        raise ConfigurationError(f"Database {name} is not in database_partitions, and has rows that are needed")

    def _connect(self, database: NamedDatabase) -> Any:
        return self._open(database.url, f"database {database.name}")

    @asynccontextmanager
    async def _open(self, url: str, what: str) -> AsyncIterator[Connection]:
        try:
            connection: Connection = await asyncpg.connect(
                driver_url(url),
                timeout=_CONNECT_TIMEOUT_S,
                server_settings={"application_name": self._name, "timezone": "UTC"},
            )
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise Unavailable(f"Cannot reach {what}: {error or type(error).__name__}") from None
        try:
            yield connection
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
            raise Unavailable(f"The connection to {what} was lost: {type(error).__name__}") from error
        finally:
            # Politely, so that its locks are free when this returns.
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=_CONNECT_TIMEOUT_S)


def _has_moved(place: Place) -> Conflict:
    return Conflict(
        f"Partition {place.partition} has moved to {place.database}: finish that with --to {place.database}"
    )


def _without_schema(what: str) -> ConfigurationError:
    return ConfigurationError(f"{what} has not the current schema; run `hypha-workspace migrate`")
