from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from hypha_apps.workers import worker_address
from hypha_common.errors import HyphaError
from hypha_common.ids import PUBLIC_WORKSPACE, Address
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.session import Session
    from hypha_apps.stopping import Stopper
    from hypha_common.ids import ServiceId

__all__ = ["WorkerMethods"]

log = structlog.get_logger(__name__)


class WorkerMethods:
    """Shows the workers that a workspace can use, and keeps apps from some of them (contract 03 §2.7)."""

    def __init__(self, core: Core, stopper: Stopper) -> None:
        self._core = core
        self._stopper = stopper

    @rpc_method
    async def list_workers(self, app_type: str | None = None, *, context: Caller) -> list[dict[str, Any]]:
        """
        List the workers that can run apps of your workspace: its own first, then those of the server.

        Args:
            app_type: Only those that run apps of this type.

        """
        workspace = context.workspace
        authorize(context.principal, Permission.READ, workspace)
        disabled = await self._core.workers.disabled.of(workspace, PUBLIC_WORKSPACE)
        return [
            {
                "id": worker.id,
                "name": worker.name,
                "description": worker.description,
                "supported_types": list(worker.supported_types),
                "disabled": worker.id in disabled,
            }
            for place in dict.fromkeys((workspace, PUBLIC_WORKSPACE))
            for worker in await self._core.workers.of(place)
            if app_type is None or app_type in worker.supported_types
        ]

    @rpc_method
    async def edit_worker(self, worker_id: str, disabled: bool | None = None, *, context: Caller) -> None:
        """
        Keep apps from a worker: none is started there any more, and those that run there are stopped.

        Args:
            worker_id: As `list_workers` shows it.
            disabled: True for that, False to take it back.

        """
        workspace = context.workspace
        worker = worker_address(worker_id, workspace)
        authorize(context.principal, Permission.READ_WRITE, workspace)
        authorize(context.principal, Permission.READ_WRITE, worker.workspace)
        if disabled is None:
            return
        workers = self._core.workers
        if disabled:
            await workers.check_registered(worker)
            await workers.disabled.disable(workspace, worker.full)
            await self._stop_sessions(worker, workspace)
        elif not await workers.disabled.enable(workspace, worker.full):
            await workers.check_registered(worker)
        log.info("worker_edited", worker=worker.full, workspace=workspace, disabled=disabled, user=context.principal.id)

    async def _stop_sessions(self, worker: ServiceId, workspace: str) -> None:
        """Stop what runs there: apps of all workspaces where the worker's own says so, else those of ``workspace``."""
        sessions = await self._core.sessions.of_worker(Address(worker.workspace, worker.client))
        concerned = [
            session
            for session in sessions
            if session.worker_id == worker.full and workspace in (worker.workspace, session.workspace)
        ]
        await asyncio.gather(*(self._stop(session) for session in concerned))

    async def _stop(self, session: Session) -> None:
        try:
            await self._stopper.stop_quietly(session, reason="its worker was disabled")
        except HyphaError as error:  # one that cannot be stopped must not keep the others
            log.warning("session_not_stopped", session=session.id, error=str(error))
