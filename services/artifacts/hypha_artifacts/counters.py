from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from hypha_common.errors import HyphaError

from .reference import partition_in

if TYPE_CHECKING:
    from hypha_common.db import Database, Shard

__all__ = ["Counters"]

log = structlog.get_logger(__name__)

_FLUSH_INTERVAL_S = 0.5
_ADD = """
    UPDATE artifacts a SET view_count = a.view_count + n.views, download_count = a.download_count + n.downloads
    FROM unnest($1::uuid[], $2::float8[], $3::float8[]) AS n (id, views, downloads) WHERE a.id = n.id
"""
_RESET = "UPDATE artifacts SET view_count = 0, download_count = 0 WHERE id = $1"


class Counters:
    """
    Views and downloads of artifacts, added up here and written twice a second.

    Reading would wait for a write otherwise. What a replica has not written when it is killed is lost; nothing else is.

    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: dict[UUID, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._flushing = asyncio.Lock()
        self.flushes = 0  # where it changed while a row was read, pending() may not go with that row
        self._writing: dict[UUID, list[float]] = {}  # on their way: neither pending nor known to be written

    def viewed(self, artifact: UUID, times: float = 1.0) -> None:
        self._pending[artifact][0] += times

    def downloaded(self, artifact: UUID, weight: float) -> None:
        if weight:
            self._pending[artifact][1] += weight

    def pending(self, artifact: UUID) -> tuple[float, float]:
        """Return the views and downloads that are not written yet, for answers that should tell of them."""
        views, downloads = self._pending.get(artifact, (0.0, 0.0))
        more_views, more_downloads = self._writing.get(artifact, (0.0, 0.0))
        return views + more_views, downloads + more_downloads

    async def reset(self, artifact: UUID) -> None:
        """Begin to count anew."""
        async with self.setting(artifact):
            await self._database.for_partition(partition_in(artifact)).execute(_RESET, artifact)

    @asynccontextmanager
    async def setting(self, artifact: UUID) -> AsyncIterator[None]:
        """
        Let the body set the counters of an artifact: what was counted before does not arrive afterwards.

        To be entered before the row is locked, which the writing of counts may wait for.

        """
        async with self._flushing:
            yield
            self._pending.pop(artifact, None)

    async def run(self) -> None:
        """Write for as long as the process lasts."""
        while True:
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is pending; what cannot be written stays."""
        async with self._flushing:
            pending, self._pending = self._pending, defaultdict(lambda: [0.0, 0.0])
            self._writing = pending
            try:
                await self._write(pending)
            finally:
                self._writing = {}
                self.flushes += bool(pending)

    async def _write(self, pending: dict[UUID, list[float]]) -> None:
        by_shard: dict[Shard, list[UUID]] = defaultdict(list)
        for artifact in sorted(pending):  # so that replicas never wait for each other's rows in a circle
            by_shard[self._database.for_partition(partition_in(artifact))].append(artifact)
        for shard, artifacts in by_shard.items():
            views, downloads = zip(*(pending[artifact] for artifact in artifacts), strict=True)
            try:
                await shard.execute(_ADD, artifacts, list(views), list(downloads))
            except HyphaError as error:
                log.info("counts_not_written", error=str(error))
                for artifact in artifacts:
                    self._pending[artifact][0] += pending[artifact][0]
                    self._pending[artifact][1] += pending[artifact][1]
