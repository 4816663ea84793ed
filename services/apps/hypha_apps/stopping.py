from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import HyphaError, NotFound, PeerNotFound
from hypha_common.ids import ServiceId

from .session import Session, Status

if TYPE_CHECKING:
    from .core import Core

__all__ = ["Stopper"]

log = structlog.get_logger(__name__)


class Stopper:
    """Ends sessions: the worker is told, the instance's token is refused, and the row says why."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def stop(self, workspace: str, client_id: str, *, reason: str, keep_on_error: bool = False) -> Session:
        """
        Stop one. With ``keep_on_error`` it is left running where its worker does not stop it, and that is raised.

        Raises NotFound where none of this id starts or runs.

        """
        session = await self._core.sessions.take_to_stop(
            workspace, client_id, owner=self._core.bus.instance, reason=reason
        )
        if session is None:
            raise NotFound(f"Server app instance not found: {workspace}/{client_id}")
        return await self.carry_out(session, keep_on_error=keep_on_error)

    async def carry_out(self, session: Session, *, keep_on_error: bool = False) -> Session:
        """Stop one that this replica has taken to be stopped; its ``reason`` says why."""
        try:
            await self._tell_worker(session)
        except HyphaError as error:
            if keep_on_error:
                await self._core.sessions.run_on(session)
                raise
            log.warning("worker_did_not_stop", session=session.id, worker=session.worker_id, error=str(error))
        return await self.finish(session, Status.STOPPED, session.reason)

    async def abandon(self, session: Session) -> None:
        """End one whose replica died while it started or stopped it."""
        failed = session.status is Status.STARTING
        with suppress(HyphaError):
            await self._tell_worker(session)
        reason = "the replica that started it is gone" if failed else session.reason
        await self.finish(session, Status.FAILED if failed else Status.STOPPED, reason)

    async def finish(self, session: Session, status: Status, reason: str) -> Session:
        """Say that a session has ended; its instance cannot come back."""
        if session.token_id:
            with suppress(HyphaError):
                await self._core.tokens.end(session.workspace, session.token_id)
        ended = await self._core.sessions.end(session, status, reason)
        if ended is not None:
            self._core.feed.tell(ended)
            log.info("app_ended", session=session.id, app=session.app_id, status=str(status), reason=reason)
        return ended or session

    async def _tell_worker(self, session: Session) -> None:
        if not session.worker_id:
            return
        service_id = ServiceId.parse(session.worker_id, default_workspace=session.workspace)
        with suppress(PeerNotFound):  # it is gone, and what it ran with it
            await self._core.calls.stop_at(service_id, session.id)
