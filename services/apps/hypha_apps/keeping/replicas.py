from __future__ import annotations

import asyncio
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import structlog

from hypha_apps.background import Background
from hypha_apps.session import Status
from hypha_common.errors import HyphaError

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import Starter
    from hypha_apps.stopping import Stopper
    from hypha_common.db import Shard

    from .upkeep import Upkeep

__all__ = ["Replicas"]

log = structlog.get_logger(__name__)

_INTERVAL_S = 1.0
_FORGET_EVERY = 15  # turns


class Replicas:
    """Says that this replica lives, and takes over what those were doing that no longer say so."""

    def __init__(self, core: Core, upkeep: Upkeep, starter: Starter, stopper: Stopper) -> None:
        self._core = core
        self._upkeep = upkeep
        self._starter = starter
        self._stopper = stopper
        self._background = Background()

    async def announce(self) -> None:
        """
        Say that this replica lives, before it begins anything that would else count as left behind.

        A database that is away begins nothing. Raises Unavailable where all are.

        """
        lost: list[HyphaError] = []
        shards = self._core.database.all()
        for shard in shards:
            try:
                await self._upkeep.renew(shard, self._core.bus.instance)
            except HyphaError as error:
                lost.append(error)
        if len(lost) == len(shards):
            raise lost[0]

    async def run(self) -> None:
        """Run for the life of the replica."""
        for turn in count():
            # Each database by itself: one that does not answer must not make this replica look dead in the others.
            await asyncio.gather(
                *(self._keep(shard, forget=turn % _FORGET_EVERY == 0) for shard in self._core.database.all())
            )
            await asyncio.sleep(_INTERVAL_S)

    async def close(self) -> None:
        """Let others take over at once."""
        await self._background.close()
        with suppress(HyphaError):
            await self._upkeep.resign(self._core.bus.instance)

    async def _keep(self, shard: Shard, *, forget: bool) -> None:
        try:
            # Everywhere: who is asked for an app may have to start it in a workspace of another replica's range.
            await self._upkeep.renew(shard, self._core.bus.instance)
            if shard not in self._core.database.mine():
                return
            for session in await self._upkeep.adopt(shard, self._core.bus.instance):
                log.warning("session_adopted", session=session.id, status=str(session.status))
                if session.status is Status.STARTING:
                    self._starter.take_over(session)
                else:
                    self._background.run(self._stopper.carry_out(session))
            if forget:
                await self._upkeep.forget(shard)
        except HyphaError as error:
            log.warning("sessions_not_kept", error=str(error))
