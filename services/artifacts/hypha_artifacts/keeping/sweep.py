from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import HyphaError, Unavailable
from hypha_common.ids import new_id
from hypha_common.lease import Lease, LeaseLost

from . import loose, metrics
from .departed import drop_departed
from .loose import DeadObject

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore
    from hypha_artifacts.core import Core
    from hypha_common.db import Shard

__all__ = ["LEASE", "LEASES", "Sweep"]

log = structlog.get_logger(__name__)

LEASES = "artifact_leases"  # the table
LEASE = "sweep"
_EXPIRY_SLACK = timedelta(seconds=60)  # whoever completes an upload at the last moment is not cut off


class Sweep:
    """
    Removes what nothing refers to: rows first, then objects, then the note that these are to go.

    Every step is one transaction, or a removal that can be repeated; killed anywhere, the next pass finishes. Of
    several replicas one does a database at a time, and nothing breaks where two believe they do.

    """

    def __init__(self, core: Core, *, grace_s: float | None = None) -> None:
        self._core = core
        self._departure_grace = timedelta(seconds=core.settings.s3_grace_period)
        self.grace = self._departure_grace if grace_s is None else timedelta(seconds=grace_s)
        self.slack = min(_EXPIRY_SLACK, self.grace)
        self.holder = new_id()

    async def run(self) -> None:
        """Sweep until cancelled. What is away is tried again at the next pass."""
        period_s = self._core.settings.s3_cleanup_period
        while True:
            await asyncio.sleep(period_s * random.uniform(0.8, 1.0))
            for shard in self._core.database.mine():
                await self._safely(shard)

    async def _safely(self, shard: Shard) -> None:
        try:
            with metrics.SWEEP_SECONDS.time():
                swept = await self.sweep(shard)
            metrics.SWEEPS.labels("idle" if swept is None else "done").inc()
        except LeaseLost as error:
            metrics.SWEEPS.labels("lost").inc()
            log.info("sweep_lost", error=str(error))
        except HyphaError as error:
            metrics.SWEEPS.labels("failed").inc()
            log.warning("sweep_failed", error=str(error))
        except Exception:  # the edge of this task: a pass that fails must not be the last one
            metrics.SWEEPS.labels("failed").inc()
            log.exception("sweep_failed")

    async def sweep(self, shard: Shard, *, seize: bool = False) -> Counter[str] | None:
        """
        Do one pass over a database; returns what was done by kind, None where somebody else is at it.

        With ``seize`` whoever is at it, or was killed at it, does not matter: they stop at their next step.

        Kinds: ``artifact``, ``upload``, ``object`` were removed, ``in_use`` is referred to, ``stuck`` is still stored.

        """
        lease = await Lease.take(shard, LEASES, LEASE, self.holder, seize=seize)
        if lease is None:
            return None
        swept: Counter[str] = Counter()
        try:
            await self._pass(shard, lease, swept)
        finally:
            with suppress(HyphaError):  # it expires by itself
                await lease.release()
            for kind, number in swept.items():
                metrics.SWEPT.labels(kind).inc(number)
            if swept:
                log.info("swept", **swept)
        return swept

    async def _pass(self, shard: Shard, lease: Lease, swept: Counter[str]) -> None:
        try:
            swept["artifact"] += await drop_departed(shard, lease, self._core.workspaces, grace=self._departure_grace)
        except Unavailable as error:  # nobody tells which workspaces there are; the rest does not need to know
            log.info("workspaces_not_asked", error=str(error))
        while expired := await loose.expire_uploads(lease, slack=self.slack):
            swept["upload"] += expired
        while buried := await loose.bury(lease, grace=self.grace):
            swept["in_use"] += buried.in_use
        while dead := await loose.dead_objects(shard):
            removed = await self._remove(lease, dead)
            await loose.forget(lease, removed)
            swept["object"] += sum(1 for one in removed if not one.store_upload_id)
            swept["stuck"] += len(dead) - len(removed)
            if len(removed) < len(dead):
                break  # those are at the end of the queue now, for the next pass
        for kind in [kind for kind, number in swept.items() if not number]:
            del swept[kind]

    async def _remove(self, lease: Lease, dead: list[DeadObject]) -> list[DeadObject]:
        """Remove objects; what the store does not let go is put off. Raises Unavailable where it is away."""
        try:
            await _remove_all(self._core.store, dead)
        except HyphaError:
            await self._core.store.ping()
        else:
            return dead
        removed = []
        for one in dead:
            try:
                await _remove_all(self._core.store, [one])
                removed.append(one)
            except HyphaError as error:
                await self._core.store.ping()
                log.warning("object_stuck", key=one.key, error=str(error))
                await loose.put_off(lease, one)
        return removed


async def _remove_all(store: BlobStore, dead: list[DeadObject]) -> None:
    await store.delete([one.key for one in dead if not one.store_upload_id])
    for one in dead:
        if one.store_upload_id:
            await store.abort_upload(one.key, one.store_upload_id)
