from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypha_common.subjects import broadcast
from hypha_common.wire import pack

from . import activity_rows
from .errands import Errands
from .rounds import Rounds

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.session import Session
    from hypha_apps.stopping import Stopper
    from hypha_common.db import Shard
    from hypha_common.lease import Lease

__all__ = ["ASKED", "IdleApps"]

ASKED = broadcast("app_activity_asked")  # gateways tell at once what they would tell within some seconds

_ANSWER_S = 0.3
_AT_ONCE = 200


class IdleApps:
    """
    Stops apps that nobody uses (contract 03 §1.7).

    An app is idle for as long as a gateway has seen it idle: time of which nobody tells does not count, so a gateway
    or a network that is away stops nothing. Where an instance is not connected at all nobody can be using it, and the
    clock decides.

    """

    def __init__(self, core: Core, stopper: Stopper) -> None:
        self._core = core
        self._stopper = stopper
        self._errands = Errands(_AT_ONCE)
        interval_s = core.settings.activity_check_interval
        self._rounds = Rounds(core.database, core.bus.instance, "idle", self.round, every_s=interval_s)

    async def run(self) -> None:
        """Run for the life of the replica."""
        try:
            await self._rounds.run()
        finally:
            await self._errands.close()

    async def round(self, shard: Shard, lease: Lease) -> None:
        """Begin to stop what is idle in one database."""
        if not self._errands.free or not await activity_rows.some_idle(shard):
            return
        # What was used since the last report must not be stopped: hear of it first.
        self._core.bus.publish(ASKED, pack({}))
        await asyncio.sleep(_ANSWER_S)
        gone = await self._gone(await activity_rows.silent(shard, _AT_ONCE))
        async with lease.effect() as connection:
            taken = await activity_rows.take_idle(
                connection, owner=self._core.bus.instance, gone=gone, limit=self._errands.free
            )
        for session in taken:
            self._core.feed.tell(session)
            self._errands.begin(self._stop(session), session=session.id)

    async def _stop(self, session: Session) -> None:
        await self._stopper.carry_out(session)

    async def _gone(self, silent: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those that are not connected. Raises Unavailable where nobody knows."""
        clients_of: dict[str, list[str]] = {}
        for workspace, client in silent:
            clients_of.setdefault(workspace, []).append(client)
        asked = [self._core.registry.instances(workspace, clients) for workspace, clients in clients_of.items()]
        connected = dict(zip(clients_of, await asyncio.gather(*asked), strict=True))
        return [(workspace, client) for workspace, client in silent if client not in connected[workspace]]
