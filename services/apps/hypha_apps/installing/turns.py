from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import Conflict, HyphaError
from hypha_common.lease import Lease

if TYPE_CHECKING:
    from hypha_common.db import Database

__all__ = ["Turns"]

log = structlog.get_logger(__name__)

_TABLE = "app_leases"
_LIFE_S = 15.0  # of a replica that died others take over after this time
_RENEW_EVERY_S = 4.0
_FORGET = "DELETE FROM app_leases WHERE name = $1 AND epoch = $2"


class Turns:
    """Lets one at a time install or commit an app: they would try, and throw away, each other's drafts."""

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self._holder = holder

    @asynccontextmanager
    async def take(self, workspace: str, app_id: str | None) -> AsyncIterator[None]:
        """Have an app for oneself; None: nobody else knows it yet. Raises Conflict where somebody is at it."""
        if app_id is None:
            yield
            return
        shard, name = self._database.for_workspace(workspace), f"install {workspace}/{app_id}"
        lease = await Lease.take(shard, _TABLE, name, self._holder, life_s=_LIFE_S)
        if lease is None:
            raise Conflict(f"App '{app_id}' is being installed or committed already")
        renewing = asyncio.create_task(_renew(lease, name))
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(HyphaError):
                await shard.execute(_FORGET, name, lease.epoch)


async def _renew(lease: Lease, name: str) -> None:
    while True:
        await asyncio.sleep(_RENEW_EVERY_S)
        try:
            await lease.renew()
        except HyphaError as error:
            log.warning("turn_not_renewed", name=name, error=str(error))
