from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hypha_apps.background import Background

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.stopping import Stopper

    from .upkeep import Upkeep

__all__ = ["WorkspaceEnds"]

log = structlog.get_logger(__name__)


class WorkspaceEnds:
    """
    Stops what runs in a workspace that is unloaded or deleted.

    What starts in one that is unloaded goes on: it is unloaded because nobody is in it, and its instance comes. Where
    the message of a deletion is lost the instances leave all the same, with the workspace, and are found gone.

    """

    def __init__(self, core: Core, upkeep: Upkeep, stopper: Stopper) -> None:
        self._stopper = stopper
        self._upkeep = upkeep
        self._background = Background()
        core.feed.on_unloaded.append(self._hear_unloaded)
        core.feed.on_deleted.append(self._hear_deleted)

    async def close(self) -> None:
        await self._background.close()

    def _hear_unloaded(self, workspace: str) -> None:
        self._background.run(self._unloaded(workspace))

    def _hear_deleted(self, workspace: str) -> None:
        self._background.run(self._deleted(workspace))

    async def _unloaded(self, workspace: str) -> None:
        stopped = await self._stopper.stop_workspace(
            workspace, reason=f"workspace {workspace} was unloaded", starting=False
        )
        if stopped:
            log.info("apps_of_workspace_stopped", workspace=workspace, sessions=stopped, why="unloaded")

    async def _deleted(self, workspace: str) -> None:
        stopped = await self._stopper.stop_workspace(workspace, reason=f"workspace {workspace} was deleted")
        await self._upkeep.forget_workspace(workspace)
        if stopped:
            log.info("apps_of_workspace_stopped", workspace=workspace, sessions=stopped, why="deleted")
