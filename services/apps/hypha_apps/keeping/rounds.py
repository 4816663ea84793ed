from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

import structlog

from hypha_apps import metrics
from hypha_common.errors import HyphaError
from hypha_common.lease import Lease, LeaseLost

if TYPE_CHECKING:
    from hypha_common.db import Database, Shard

__all__ = ["LEASES", "Rounds"]

log = structlog.get_logger(__name__)

LEASES = "app_leases"  # the table
_LIFE_S = 5.0  # of a replica that was killed at it, others take over after this time

Round: TypeAlias = Callable[["Shard", "Lease"], Awaitable[None]]


class Rounds:
    """
    Does a task for every database, again and again; of several replicas one at a time does it for a database.

    What a round decides it writes by the lease (:meth:`Lease.effect`), which is over within moments; whatever takes
    longer goes on by itself afterwards. Nothing breaks where two believe that it is their turn.

    """

    def __init__(self, database: Database, holder: str, task: str, work: Round, *, every_s: float) -> None:
        self._database = database
        self._holder = holder
        self._task = task
        self._work = work
        self._every_s = every_s

    async def run(self) -> None:
        """Run for the life of the replica. What is away is tried again in the next round."""
        while True:
            await asyncio.sleep(self._every_s * random.uniform(0.8, 1.0))
            for shard in self._database.mine():
                await self.once(shard)

    async def once(self, shard: Shard) -> None:
        """Do one round for a database, unless somebody else is at it."""
        try:
            outcome = "done" if await self._in_turn(shard) else "idle"
        except LeaseLost as error:
            log.info("round_lost", task=self._task, error=str(error))
            outcome = "lost"
        except HyphaError as error:
            log.warning("round_failed", task=self._task, error=str(error))
            outcome = "failed"
        except Exception:  # the edge of this task: a round that fails must not be the last one
            log.exception("round_failed", task=self._task)
            outcome = "failed"
        metrics.ROUNDS.labels(self._task, outcome).inc()

    async def _in_turn(self, shard: Shard) -> bool:
        lease = await Lease.take(shard, LEASES, self._task, self._holder, life_s=_LIFE_S)
        if lease is None:
            return False
        try:
            await self._work(shard, lease)
        finally:
            with suppress(HyphaError):  # it expires by itself
                await lease.release()
        return True
