from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from .errors import Conflict

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from .db import Shard

__all__ = ["Lease", "LeaseLost"]

_LIFE_S = 60.0
# The table is one that a migration of the service made: a constant of ours.
_TAKE = """
    INSERT INTO {table} AS l (name, holder, epoch, expires_at) VALUES ($1, $2, 1, now() + $3)
    ON CONFLICT (name) DO UPDATE SET holder = $2, epoch = l.epoch + 1, expires_at = now() + $3
    WHERE l.expires_at <= now() OR $4
    RETURNING epoch, progress
"""
_HOLD = "UPDATE {table} SET expires_at = now() + $3 WHERE name = $1 AND epoch = $2 RETURNING epoch"
_SAVE = "UPDATE {table} SET progress = $3 WHERE name = $1 AND epoch = $2"
_RELEASE = "UPDATE {table} SET expires_at = now() WHERE name = $1 AND epoch = $2"


class LeaseLost(Conflict):
    """Somebody else does this work now; nothing of the transaction that met this has happened."""


class Lease:
    """
    The right to do one piece of work on one database, until it is released or not renewed for ``life_s``.

    It is a row of ``table``: name (primary key), holder, epoch, expires_at, progress.

    Whatever is written goes through :meth:`effect`, so that one who was held up and lost the lease writes nothing.

    """

    def __init__(self, shard: Shard, table: str, name: str, epoch: int, progress: str, life_s: float) -> None:
        self._shard = shard
        self._table = table
        self._name = name
        self._life = timedelta(seconds=life_s)
        self.epoch = epoch
        self.progress = progress  # what the last holder saved: where to go on

    @classmethod
    async def take(
        cls, shard: Shard, table: str, name: str, holder: str, *, life_s: float = _LIFE_S, seize: bool = False
    ) -> Lease | None:
        """Return the lease, or None while somebody has it; ``seize`` takes it away from them."""
        row = await shard.fetchrow(_TAKE.format(table=table), name, holder, timedelta(seconds=life_s), seize)
        return None if row is None else cls(shard, table, name, row["epoch"], row["progress"], life_s)

    @asynccontextmanager
    async def effect(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """Open a transaction that renews the lease. Raises LeaseLost."""
        async with self._shard.transaction() as connection:
            # The row stays locked until the end: a new holder's first effect waits for this one.
            held = await connection.fetchval(_HOLD.format(table=self._table), self._name, self.epoch, self._life)
            if held is None:
                raise LeaseLost(f"Another process took over {self._name}")
            yield connection

    async def renew(self) -> None:
        """Keep it. Raises LeaseLost."""
        async with self.effect():
            pass

    async def save(self, progress: str) -> None:
        """Note where the next holder goes on."""
        async with self.effect() as connection:
            await connection.execute(_SAVE.format(table=self._table), self._name, self.epoch, progress)
        self.progress = progress

    async def release(self) -> None:
        await self._shard.execute(_RELEASE.format(table=self._table), self._name, self.epoch)
