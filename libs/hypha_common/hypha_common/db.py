from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog

from .db_metrics import METERS, Meter
from .errors import DeadlineExceeded, HyphaError, Unavailable
from .partition_gate import Gate, read_fences
from .partition_map import PartitionMap
from .placement import NamedDatabase, default_name
from .subjects import PARTITIONS, partition_of

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from .settings import Settings

__all__ = ["Database", "Shard", "driver_url"]

log = structlog.get_logger(__name__)

_ACQUIRE_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_COMMAND_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 5.0
_IDLE_LIFE_S = 1800.0
_STATEMENT_CACHE = 256

# The server is away, not yet up, full, or no longer the primary: trying again may help.
_AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server has ended the connection, and that has been read only in part
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)


def driver_url(url: str) -> str:
    """Return an address that asyncpg understands; SQLAlchemy's driver suffix is dropped."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


class Shard:
    """
    One database: a pool whose connection failures are errors of ours.

    Raises Unavailable where the server cannot be reached, DeadlineExceeded where it does not answer in time. Other
    asyncpg errors (constraints, mistakes in SQL) pass through.

    With a ``gate`` a shard is the whole of a database, or by :meth:`at` one partition of it, and what is not here or
    is just being moved is refused, with Unavailable.

    """

    def __init__(self, url: str, *, application: str, pool_size: int, name: str = "", gated: bool = False) -> None:
        self.url = driver_url(url)
        self.meter = Meter(self.url)
        self.name = name  # as ``database_partitions`` has it
        self.partition: int | None = None  # the whole database
        self.gate = Gate(name) if gated else None
        # With no minimum, creating the pool does not need a server, and one that comes back is found by itself.
        self._pool = asyncpg.create_pool(
            self.url,
            min_size=0,
            max_size=pool_size,
            max_inactive_connection_lifetime=_IDLE_LIFE_S,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_COMMAND_TIMEOUT_S,
            statement_cache_size=_STATEMENT_CACHE,
            max_cached_statement_lifetime=0,
            reset=_leave_clean,
            init=None if self.gate is None else partial(read_fences, self.gate),
            server_settings={
                "application_name": application,
                "jit": "off",
                # Our statements find rows by index whatever the values are: planning each execution is wasted, and a
                # plan that was made while a table was small must do when it is not.
                "plan_cache_mode": "force_generic_plan",
                "enable_seqscan": "off",
                "statement_timeout": str(int(_COMMAND_TIMEOUT_S * 1000)),
                # A process that hangs in a transaction must not hold its locks for ever.
                "idle_in_transaction_session_timeout": str(int(_COMMAND_TIMEOUT_S * 1000)),
                "timezone": "UTC",
            },
        )

    async def open(self) -> None:
        with _translated(self.meter):
            await self._pool
        METERS.add(self)

    async def close(self) -> None:
        """Give running queries a moment, then cut the connections."""
        METERS.discard(self)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def ping(self) -> None:
        """Raise Unavailable or DeadlineExceeded unless the server answers."""
        await self.fetchval("SELECT 1")

    def at(self, partition: int) -> Shard:
        """Return the same database as the place of one partition."""
        place = copy.copy(self)
        place.partition = partition
        return place

    async def fetch(self, query: str, *args: Any) -> list[Record]:
        async with self._use() as connection:
            rows: list[Record] = await connection.fetch(query, *args)
            return rows

    async def fetchrow(self, query: str, *args: Any) -> Record | None:
        async with self._use() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        async with self._use() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> int:
        """Run a statement and return how many rows it touched."""
        async with self._use(changes=True) as connection:
            return _rows_of(await connection.execute(query, *args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """Run several statements as one; what the body raises rolls them back."""
        async with self._use(changes=True) as connection, connection.transaction():
            yield connection

    def connections(self) -> tuple[int, int]:
        """Return how many connections there are: in use, idle."""
        idle: int = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle

    @asynccontextmanager
    async def _use(self, *, changes: bool = False) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """Lend a connection, and measure: how long it was waited for, how long it was used, what failed."""
        meter = self.meter
        with _translated(meter):
            asked = time.perf_counter()
            meter.waiting += 1
            try:
                connection = await self._pool.acquire(timeout=_ACQUIRE_TIMEOUT_S)
            finally:
                meter.waiting -= 1
            had = time.perf_counter()
            meter.wait_s.observe(had - asked)
            try:
                if self.gate is None:
                    yield connection
                else:
                    # Only now: a new connection has read what is fenced off in this database.
                    with self.gate.passing(self.partition, changes=changes):
                        yield connection
            finally:
                await self._pool.release(connection)
                meter.query_s.observe(time.perf_counter() - had)


class Database:
    """
    The databases of a cluster: workspace-scoped rows by partition, directory rows in ``home``.

    One pool for each distinct address; by default there is one. Where a partition is says the :attr:`map`: by default
    what ``partitions`` says, as (first, last, address).

    """

    def __init__(
        self,
        home: str,
        *,
        partitions: Iterable[tuple[int, int, str]] = (),
        databases: Iterable[NamedDatabase] = (),
        served: Iterable[int] = range(PARTITIONS),
        application: str,
        pool_size: int = 8,
    ) -> None:
        runs = list(partitions) or [(0, PARTITIONS - 1, home)]
        named = {database.url: database.name for database in databases}
        urls = list(dict.fromkeys([*named, *(url for _, _, url in runs)]))
        several = len(set(map(driver_url, urls))) > 1
        self.served = frozenset(served)
        self.away: dict[str, str] = {}  # what was last heard of databases that do not answer, by name
        self._shards: dict[str, Shard] = {}
        for url in urls:
            name = named.get(url) or default_name(url)
            self._add(url, application=application, pool_size=pool_size, name=name, gated=several)
        self._by_name = {shard.name: shard for shard in self._shards.values()}
        configured = {
            p: self._shards[driver_url(url)].name for first, last, url in runs for p in range(first, last + 1)
        }
        self.home = self._add(home, application=application, pool_size=pool_size)
        self._handles: dict[tuple[str, int], Shard] = {}
        self._by_partition: list[Shard | None] = []
        self.map = PartitionMap(configured)
        self.apply(self.map)

    @classmethod
    def from_settings(cls, settings: Settings, application: str) -> Database:
        return cls(
            settings.database_url,
            partitions=[(run.first, run.last, run.url) for run in settings.partitions],
            databases=settings.databases,
            served=settings.served_partitions,
            application=application,
            pool_size=settings.database_pool_size,
        )

    async def connect(self) -> None:
        """Open the pools. They connect when they are first used: an absent server is no error yet."""
        for shard in self._shards.values():
            await shard.open()

    async def close(self) -> None:
        for shard in self._shards.values():
            await shard.close()

    async def ping(self) -> None:
        """
        Raise Unavailable or DeadlineExceeded unless a database with partitions that this process serves answers.

        One that is away is no reason to take from use what serves the others: see :attr:`away`.

        """
        shards = self.mine()
        lost = await asyncio.gather(*(_silence(shard) for shard in shards))
        self.away = {shard.name: str(error) for shard, error in zip(shards, lost, strict=True) if error is not None}
        if shards and all(lost):
            raise next(error for error in lost if error is not None)

    def apply(self, partition_map: PartitionMap) -> None:
        """Find every partition where a map says it is, from now on."""
        self.map = partition_map
        self._by_partition = [self._place(partition) for partition in range(PARTITIONS)]
        for name, shard in self._by_name.items():
            if shard.gate is not None:
                shard.gate.set(
                    partition_map.opened(name),
                    epoch=partition_map.epoch,
                    changing=name in partition_map.disturbed,
                )

    async def settled(self) -> None:
        """Wait for the end of what the map does not allow any more."""
        await asyncio.gather(*(shard.gate.settled() for shard in self._by_name.values() if shard.gate is not None))

    @property
    def unreachable(self) -> list[int]:
        """The partitions that this process serves whose database did not answer when it was last asked."""
        return [p for p in sorted(self.served) if self.map.place(p) in self.away or self._by_partition[p] is None]

    def for_workspace(self, workspace: str) -> Shard:
        """Return the database that owns the rows of a workspace. Raises Unavailable where it is not configured."""
        return self.for_partition(partition_of(workspace))

    def for_partition(self, partition: int) -> Shard:
        """Return the database that owns a partition. Raises Unavailable where it is not configured."""
        shard = self._by_partition[partition]
        if shard is None:
            place = self.map.place(partition)
            raise Unavailable(f"Partition {partition} is in database {place}, which database_partitions does not name")
        return shard

    def whole(self, partition: int) -> Shard:
        """Return the database that owns a partition, for what concerns all of it. Raises Unavailable likewise."""
        return self._by_name[self.for_partition(partition).name]

    def named(self, name: str) -> Shard | None:
        """Return the database of a name."""
        return self._by_name.get(name)

    @property
    def configuration(self) -> list[str]:
        """The names of the databases that may hold workspaces."""
        return list(self._by_name)

    def all(self) -> list[Shard]:
        """Return every database once that holds workspaces."""
        return self._holding(range(PARTITIONS))

    def mine(self) -> list[Shard]:
        """Return every database once that holds partitions which this process serves: what it looks after."""
        return self._holding(sorted(self.served))

    def serves(self, workspace: str) -> bool:
        """Tell whether this process serves the partition of a workspace."""
        return partition_of(workspace) in self.served

    def owns(self, shard: Shard, workspace: str) -> bool:
        """
        Tell whether rows of a workspace that were found in a database are the ones that count.

        Those of a partition that is being moved, and of workspaces that every database has, may be elsewhere as well.

        """
        return self.map.place(partition_of(workspace)) == shard.name

    async def gather(self, shards: Iterable[Shard], query: str, *args: Any) -> list[Record]:
        """
        Return the rows of several databases that count, as :meth:`owns` says; they have the column ``workspace``.

        Raises Unavailable or DeadlineExceeded where one of them does not answer.

        """
        asked = list(shards)
        answers = await asyncio.gather(*(shard.fetch(query, *args) for shard in asked))
        return [
            row
            for shard, rows in zip(asked, answers, strict=True)
            for row in rows
            if shard.gate is None or self.owns(shard, row["workspace"])
        ]

    async def gather_there(self, shards: Iterable[Shard], query: str, *args: Any) -> list[Record]:
        """Return what :meth:`gather` does of those that answer: where something is better than nothing."""
        found: list[Record] = []
        for shard in shards:
            try:
                found += await self.gather([shard], query, *args)
            except HyphaError as error:
                log.info("database_passed_over", database=shard.name, error=str(error))
        return found

    def _holding(self, partitions: Iterable[int]) -> list[Shard]:
        names = dict.fromkeys(self.map.place(partition) for partition in partitions)
        return [self._by_name[name] for name in names if name in self._by_name]

    def _place(self, partition: int) -> Shard | None:
        name = self.map.place(partition)
        shard = self._by_name.get(name)
        if shard is None or shard.gate is None:
            return shard
        return self._handles.setdefault((name, partition), shard.at(partition))

    def _add(self, url: str, *, application: str, pool_size: int, name: str = "", gated: bool = False) -> Shard:
        key = driver_url(url)
        if key not in self._shards:
            self._shards[key] = Shard(key, application=application, pool_size=pool_size, name=name, gated=gated)
        return self._shards[key]


async def _silence(shard: Shard) -> HyphaError | None:
    """Return why a database does not answer, None where it does."""
    try:
        await shard.ping()
    except HyphaError as error:
        return error
    return None


async def _leave_clean(connection: PoolConnectionProxy[Record]) -> None:
    """
    Make a connection fit for its next user.

    asyncpg's own reset is a round trip after every statement; ours leave nothing behind but, when cut short, a
    transaction.

    """
    if connection.is_in_transaction():
        await connection.reset()


def _rows_of(status: str) -> int:
    """Return the count at the end of a command tag: ``DELETE 3``."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


@contextmanager
def _translated(meter: Meter) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, asyncpg.QueryCanceledError):
        meter.failed("timeout")
        raise DeadlineExceeded("The database did not answer in time") from None
    except _AWAY as error:
        if isinstance(error, ValueError):  # asyncpg.DataError: a value that does not fit its parameter
            raise
        meter.failed("away")
        raise Unavailable(f"The database is not available: {type(error).__name__}") from error
