from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from hypha_common.errors import Conflict

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_common.db import Shard

__all__ = ["Lease", "LeaseLost"]

_LIFE = timedelta(seconds=60)
_TAKE = """
    INSERT INTO artifact_leases AS l (name, holder, epoch, expires_at) VALUES ($1, $2, 1, now() + $3)
    ON CONFLICT (name) DO UPDATE SET holder = $2, epoch = l.epoch + 1, expires_at = now() + $3
    WHERE l.expires_at <= now() OR $4
    RETURNING epoch, progress
"""
_HOLD = "UPDATE artifact_leases SET expires_at = now() + $3 WHERE name = $1 AND epoch = $2 RETURNING epoch"
_SAVE = "UPDATE artifact_leases SET progress = $3 WHERE name = $1 AND epoch = $2"
_RELEASE = "UPDATE artifact_leases SET expires_at = now() WHERE name = $1 AND epoch = $2"


class LeaseLost(Conflict):
    """Somebody else does this work now; nothing of the transaction that met this has happened."""


class Lease:
    """
    The right to do one piece of work on one database, until it is released or not renewed for a minute.

    Whatever is written goes through :meth:`effect`, so that one who was held up and lost the lease writes nothing.

    """

    def __init__(self, shard: Shard, name: str, epoch: int, progress: str) -> None:
        self._shard = shard
        self._name = name
        self.epoch = epoch
        self.progress = progress  # what the last holder saved: where to go on

    @classmethod
    async def take(cls, shard: Shard, name: str, holder: str, *, seize: bool = False) -> Lease | None:
        """Return the lease, or None while somebody has it; ``seize`` takes it away from them."""
        row = await shard.fetchrow(_TAKE, name, holder, _LIFE, seize)
        return None if row is None else cls(shard, name, row["epoch"], row["progress"])

    @asynccontextmanager
    async def effect(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """Open a transaction that renews the lease. Raises LeaseLost."""
        async with self._shard.transaction() as connection:
            # The row stays locked until the end: a new holder's first effect waits for this one.
            if await connection.fetchval(_HOLD, self._name, self.epoch, _LIFE) is None:
                raise LeaseLost(f"Another process took over {self._name}")
            yield connection

    async def save(self, progress: str) -> None:
        """Note where the next holder goes on."""
        async with self.effect() as connection:
            await connection.execute(_SAVE, self._name, self.epoch, progress)
        self.progress = progress

    async def release(self) -> None:
        await self._shard.execute(_RELEASE, self._name, self.epoch)
