from __future__ import annotations

import asyncio
from collections import defaultdict
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


class Counters:
    """
    Views and downloads of artifacts, added up here and written twice a second.

    Reading would wait for a write otherwise. What a replica has not written when it is killed is lost; nothing else is.

    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: dict[UUID, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def viewed(self, artifact: UUID, times: float = 1.0) -> None:
        self._pending[artifact][0] += times

    def downloaded(self, artifact: UUID, weight: float) -> None:
        if weight:
            self._pending[artifact][1] += weight

    def pending(self, artifact: UUID) -> tuple[float, float]:
        """Return the views and downloads that are not written yet, for answers that should tell of them."""
        views, downloads = self._pending.get(artifact, (0.0, 0.0))
        return views, downloads

    def forget(self, artifact: UUID) -> None:
        """Drop what is not written: the counters have been set."""
        self._pending.pop(artifact, None)

    async def run(self) -> None:
        """Write for as long as the process lasts."""
        while True:
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what is pending; what cannot be written stays."""
        pending, self._pending = self._pending, defaultdict(lambda: [0.0, 0.0])
        by_shard: dict[Shard, list[UUID]] = defaultdict(list)
        for artifact in pending:
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
