from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import HyphaError

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.stopping import Stopper

__all__ = ["Replicas"]

log = structlog.get_logger(__name__)

_INTERVAL_S = 1.0


class Replicas:
    """Says that this replica lives, and ends what those were doing that no longer say so."""

    def __init__(self, core: Core, stopper: Stopper) -> None:
        self._core = core
        self._stopper = stopper

    async def run(self) -> None:
        """Run for the life of the replica."""
        while True:
            for shard in self._core.database.all():
                try:
                    await self._core.sessions.renew(shard, self._core.bus.instance)
                    for session in await self._core.sessions.adopt(shard, self._core.bus.instance):
                        log.warning("session_adopted", session=session.id, status=str(session.status))
                        await self._stopper.abandon(session)
                    await self._core.sessions.forget(shard)
                except HyphaError as error:
                    log.warning("sessions_not_kept", error=str(error))
            await asyncio.sleep(_INTERVAL_S)
