from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import NotFound
from hypha_common.principal import root_principal
from hypha_common.subjects import partition_of, role_verb

from .errands import Errands
from .rounds import Rounds

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_common.db import Shard
    from hypha_common.lease import Lease

__all__ = ["DeletedWorkspaces"]

log = structlog.get_logger(__name__)

_EVERY_S = 600.0
_AT_ONCE = 200
_TABLES = ("app_daemons", "app_autoscaling", "disabled_workers")
_NEXT = """
    SELECT workspace FROM (
        SELECT workspace FROM app_daemons UNION SELECT workspace FROM app_autoscaling
        UNION SELECT workspace FROM disabled_workers
    ) w WHERE workspace > $1 ORDER BY workspace LIMIT $2
"""


class DeletedWorkspaces:
    """
    Forgets what workspaces that are deleted asked for: daemons, autoscaling, workers not to be used.

    That one is deleted is told once, and not always heard: now and then this asks which there are. One that is missed
    twice, ten minutes apart, is gone.

    """

    def __init__(self, core: Core, *, every_s: float = _EVERY_S) -> None:
        self._core = core
        self._missed: set[str] = set()
        self._errands = Errands(_AT_ONCE)
        self._rounds = Rounds(core.database, core.bus.instance, "deleted", self.round, every_s=every_s)

    async def run(self) -> None:
        """Run for the life of the replica."""
        self._core.feed.on_deleted.append(self._hear)
        try:
            await self._rounds.run()
        finally:
            await self._errands.close()

    async def forget(self, workspace: str) -> None:
        """Remove what is kept for a workspace."""
        shard = self._core.database.for_workspace(workspace)
        for table in _TABLES:
            await shard.execute(f"DELETE FROM {table} WHERE workspace = $1", workspace)  # noqa: S608 constants of ours

    async def round(self, shard: Shard, lease: Lease) -> None:
        """Ask for some workspaces, whether they are still there; the next round goes on after them."""
        some = [row["workspace"] for row in await shard.fetch(_NEXT, lease.progress, _AT_ONCE)]
        for workspace in some:
            await lease.renew()
            if await self._exists(workspace):
                self._missed.discard(workspace)
            elif workspace in self._missed:
                await self.forget(workspace)
                self._missed.discard(workspace)
                log.info("workspace_forgotten", workspace=workspace)
            else:
                self._missed.add(workspace)
        await lease.save(some[-1] if len(some) == _AT_ONCE else "")

    async def _exists(self, workspace: str) -> bool:
        subject = role_verb("workspace", partition_of(workspace), "info")
        try:
            await self._core.bus.request(
                subject, {"workspace": workspace, "user": root_principal().dump()}, timeout=2.0, attempts=2
            )
        except NotFound:
            return False
        return True

    def _hear(self, workspace: str) -> None:
        self._errands.begin(self.forget(workspace), workspace=workspace)
