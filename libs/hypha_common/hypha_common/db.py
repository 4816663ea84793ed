from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from .db_metrics import METERS, Meter
from .errors import DeadlineExceeded, Unavailable
from .subjects import PARTITIONS, partition_of

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from .settings import Settings

__all__ = ["Database", "Shard", "driver_url"]

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

    """

    def __init__(self, url: str, *, application: str, pool_size: int) -> None:
        self.url = driver_url(url)
        self.meter = Meter(self.url)
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
        async with self._use() as connection:
            return _rows_of(await connection.execute(query, *args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """Run several statements as one; what the body raises rolls them back."""
        async with self._use() as connection, connection.transaction():
            yield connection

    def connections(self) -> tuple[int, int]:
        """Return how many connections there are: in use, idle."""
        idle: int = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
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
                yield connection
            finally:
                await self._pool.release(connection)
                meter.query_s.observe(time.perf_counter() - had)


class Database:
    """
    The databases of a cluster: workspace-scoped rows by partition, directory rows in ``home``.

    One pool for each distinct address; by default there is one.

    """

    def __init__(
        self, home: str, *, partitions: Iterable[tuple[int, int, str]] = (), application: str, pool_size: int = 8
    ) -> None:
        self._shards: dict[str, Shard] = {}
        self.home = self._shard(home, application, pool_size)
        self._by_partition = [self.home] * PARTITIONS
        for first, last, url in partitions:
            shard = self._shard(url, application, pool_size)
            self._by_partition[first : last + 1] = [shard] * (last + 1 - first)

    @classmethod
    def from_settings(cls, settings: Settings, application: str) -> Database:
        return cls(
            settings.database_url,
            partitions=[(run.first, run.last, run.url) for run in settings.partitions],
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
        """Raise Unavailable or DeadlineExceeded unless every database answers."""
        for shard in self._shards.values():
            await shard.ping()

    def for_workspace(self, workspace: str) -> Shard:
        """Return the database that owns the rows of a workspace."""
        return self._by_partition[partition_of(workspace)]

    def for_partition(self, partition: int) -> Shard:
        return self._by_partition[partition]

    def all(self) -> list[Shard]:
        """Return every database once that holds workspaces."""
        return list(dict.fromkeys(self._by_partition))

    def _shard(self, url: str, application: str, pool_size: int) -> Shard:
        key = driver_url(url)
        if key not in self._shards:
            self._shards[key] = Shard(key, application=application, pool_size=pool_size)
        return self._shards[key]


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
