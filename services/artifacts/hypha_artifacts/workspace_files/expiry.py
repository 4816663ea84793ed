from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import HyphaError, NotFound
from hypha_common.subjects import broadcast
from hypha_common.wire import unpack

from .repository import EndedWorkspaces, workspace_of

if TYPE_CHECKING:
    from datetime import datetime

    from hypha_artifacts.core import Core
    from hypha_artifacts.s3.credentials import CredentialRows
    from hypha_common.db import Shard

    from .objects import WorkspaceObjects
    from .uploads import Uploads

__all__ = ["Expiry"]

log = structlog.get_logger(__name__)

_DELETED = broadcast("workspace_deleted")
_AT_ONCE = 500
_UPLOADS_AT_ONCE = 50


class Expiry:
    """
    Removes files whose time is over, uploads that nobody completed, and what deleted workspaces leave.

    Every replica does: rows are taken for a minute by one of them, and what it did not finish is done by another.

    """

    def __init__(self, core: Core, objects: WorkspaceObjects, uploads: Uploads, credentials: CredentialRows) -> None:
        self._core = core
        self._objects = objects
        self._uploads = uploads
        self._credentials = credentials
        self._ended = EndedWorkspaces(core.database)
        self._notes: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """
        Listen which workspaces are deleted, and sweep, until cancelled.

        What one replica takes note of any of them does. What is away is tried again at the next pass.

        """
        await self._core.bus.subscribe(_DELETED, self._on_deleted)
        period_s = self._core.settings.s3_cleanup_period
        while True:
            try:
                async with asyncio.timeout(period_s * random.uniform(0.8, 1.0)):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()
            for shard in self._core.database.mine():
                try:
                    await self.sweep(shard)
                except HyphaError as error:
                    log.warning("workspace_files_not_swept", error=str(error))
                except Exception:  # the edge of this task: a pass that fails must not be the last one
                    log.exception("workspace_files_not_swept")

    async def sweep(self, shard: Shard) -> None:
        """Do one pass over a database."""
        while taken := await self._objects.rows.take_expired(shard, _AT_ONCE):
            await self._remove(shard, taken)
        while uploads := await self._uploads.expired(shard, _UPLOADS_AT_ONCE):
            for upload in uploads:
                await self._uploads.abort(upload)
        while ended := await self._ended.take(shard):
            await self._remove_workspace(*ended)

    async def ended(self, workspace: str) -> None:
        """Note that a workspace was deleted: its credentials end now, its files soon."""
        self._core.workspaces.forget(workspace)
        await self._credentials.drop_all(workspace)
        await self._ended.add(workspace)
        self._woken.set()

    async def _remove(self, shard: Shard, taken: list[tuple[str, datetime]]) -> None:
        await self._core.store.delete([key for key, _ in taken])
        await self._objects.rows.expired(shard, taken)
        log.info("files_expired", files=len(taken))

    async def _remove_workspace(self, workspace: str, ended_at: datetime) -> None:
        """A workspace of the same name may have been made since: what is newer is its."""
        self._core.workspaces.forget(workspace)
        try:
            await self._core.workspaces.find(workspace)
            before: float | None = ended_at.timestamp()
        except NotFound:
            before = None
        deleted = await self._objects.delete_below(f"{workspace}/", before=before)
        await self._ended.done(workspace, ended_at)
        log.info("workspace_files_removed", workspace=workspace, files=deleted)

    def _on_deleted(self, subject: str, reply: str, payload: bytes) -> None:
        workspace = unpack(payload).get("workspace")
        if not isinstance(workspace, str) or not workspace or workspace_of(workspace) != workspace:
            return
        if self._core.database.serves(workspace):
            task = asyncio.create_task(self._note(workspace))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)

    async def _note(self, workspace: str) -> None:
        try:
            await self.ended(workspace)
        except HyphaError as error:
            log.warning("workspace_end_not_noted", workspace=workspace, error=str(error))
