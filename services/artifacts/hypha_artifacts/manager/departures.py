from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from hypha_artifacts.reference import first_uuid_now
from hypha_common.errors import BadRequest, HyphaError
from hypha_common.placement import ranges
from hypha_common.subjects import broadcast
from hypha_common.wire import unpack

from .deletions import Deletions

if TYPE_CHECKING:
    from uuid import UUID

    from hypha_artifacts.core import Core

__all__ = ["Departures"]

log = structlog.get_logger(__name__)

_DELETED = broadcast("workspace_deleted")
_MAX_WAITING = 10_000


class Departures:
    """
    Drops the artifacts of workspaces that are deleted.

    What is missed here, because a message was lost or the database was away, the sweep drops later.

    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._deletions = Deletions(core.rows)
        self._waiting: asyncio.Queue[tuple[str, UUID]] = asyncio.Queue(_MAX_WAITING)

    async def listen(self) -> None:
        """Take note of deletions: every replica forgets the workspace, one of them drops what is in it."""
        await self._core.bus.subscribe(_DELETED, self._forget)
        # One of those that serve the same partitions.
        group = f"artifacts-{ranges(self._core.database.served)}"
        await self._core.bus.subscribe(_DELETED, self._take, queue=group)

    async def run(self) -> None:
        """Drop until cancelled."""
        while True:
            workspace, before = await self._waiting.get()
            try:
                dropped = await self.drop(workspace, before)
            except HyphaError as error:
                log.warning("workspace_not_emptied", workspace=workspace, error=str(error))
            else:
                if dropped:
                    log.info("workspace_emptied", workspace=workspace, artifacts=dropped)

    async def drop(self, workspace: str, before: UUID) -> int:
        """Drop the artifacts of a workspace with smaller UUIDs: those of one made anew stay. Return how many."""
        dropped = 0
        while some := await self._deletions.some_of_workspace(workspace, before):
            await self._deletions.remove(some)
            dropped += len(some)
        return dropped

    def _forget(self, subject: str, reply: str, payload: bytes) -> None:
        workspace = _workspace_of(payload)
        if workspace:
            self._core.workspaces.forget(workspace)

    def _take(self, subject: str, reply: str, payload: bytes) -> None:
        workspace = _workspace_of(payload)
        if workspace and self._core.database.serves(workspace) and not self._waiting.full():
            self._waiting.put_nowait((workspace, first_uuid_now()))


def _workspace_of(payload: bytes) -> str:
    try:
        message: Any = unpack(payload)
    except BadRequest:
        return ""
    workspace = message.get("workspace") if isinstance(message, dict) else None
    return workspace if isinstance(workspace, str) else ""
