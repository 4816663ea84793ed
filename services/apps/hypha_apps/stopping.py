from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import DeadlineExceeded, HyphaError, NotFound, PeerNotFound, Unavailable
from hypha_common.ids import ServiceId

from . import metrics
from .errors import StartLost
from .session import Session, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .core import Core

__all__ = ["AWAY", "Stopper"]

log = structlog.get_logger(__name__)

_GONE_S = 2.0
_LOOK_S = 0.5
AWAY = (PeerNotFound, DeadlineExceeded, Unavailable)  # it may still run what it was told to stop


class Stopper:
    """
    Ends sessions: the worker is told, the instance's token is refused, and the row says why.

    A session is taken first, which one of all that want to end it can, and has ended when all of it is done. Where a
    replica dies meanwhile another one does it again.

    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def stop(self, workspace: str, client_id: str, *, reason: str, keep_on_error: bool = False) -> Session:
        """
        Stop one. With ``keep_on_error`` it runs on where its worker does not stop it, and that is raised.

        Raises NotFound where none of this id starts or runs.

        """
        before = await self._core.sessions.get(workspace, client_id)
        session = await self._take(workspace, client_id, reason)
        if session is None or before is None:
            raise NotFound(f"Server app instance not found: {workspace}/{client_id}")
        try:
            return await self.carry_out(session, raise_refusal=keep_on_error and before.status is Status.RUNNING)
        except HyphaError:
            await self._core.sessions.run_on(session)
            self._core.feed.tell(session)
            raise

    async def stop_quietly(self, session: Session, *, reason: str) -> bool:
        """Stop one whatever its worker says. False: somebody else does, or it has ended."""
        with suppress(NotFound):
            await self.stop(session.workspace, session.client_id, reason=reason)
            return True
        return False

    async def stop_app(self, workspace: str, app_id: str, *, reason: str) -> int:
        """Stop all sessions of an app, drafts' included, whatever their workers say. Return how many."""
        return await self._stop_all(await self._core.sessions.of_app(workspace, app_id), reason)

    async def stop_workspace(self, workspace: str, *, reason: str, starting: bool = True) -> int:
        """Stop what runs in a workspace and, with ``starting``, what starts there. Return how many."""
        found = await self._core.sessions.in_workspace(workspace)
        wanted = (Status.RUNNING, Status.STARTING) if starting else (Status.RUNNING,)
        return await self._stop_all((session for session in found if session.status in wanted), reason)

    async def lose(self, session: Session, *, reason: str) -> None:
        """End one whose worker is away: it is told when it comes back."""
        taken = await self._take(session.workspace, session.client_id, reason)
        if taken is not None:
            await self._conclude(taken, untold=True)

    async def fail(self, session: Session, failure: HyphaError) -> bool:
        """End a start of ours that failed. False: somebody else has the session, whose affair it is."""
        taken = await self._core.sessions.take_to_fail(session, failure)
        if taken is None:
            return False
        self._core.feed.tell(taken)  # nobody has to wait for its worker
        metrics.STARTS.labels("lost" if isinstance(failure, StartLost) else "failed").inc()
        await self.carry_out(taken)
        return True

    async def carry_out(self, session: Session, *, raise_refusal: bool = False) -> Session:
        """
        Do what ends a session that was taken, or was taken over from a replica that died while it did so.

        With ``raise_refusal`` an error of the worker, one that does not answer included, is raised and nothing done.

        """
        untold = False
        try:
            await self._tell_worker(session)
        except HyphaError as error:
            if raise_refusal and not isinstance(error, PeerNotFound):
                raise
            untold = isinstance(error, AWAY)
            log.info("worker_did_not_stop", session=session.id, worker=session.worker_id, error=str(error))
        return await self._conclude(session, untold=untold)

    async def _take(self, workspace: str, client_id: str, reason: str) -> Session | None:
        session = await self._core.sessions.take_to_stop(
            workspace, client_id, owner=self._core.bus.instance, reason=reason
        )
        if session is not None:
            self._core.feed.tell(session)
        return session

    async def _stop_all(self, sessions: Iterable[Session], reason: str) -> int:
        return sum(await asyncio.gather(*(self.stop_quietly(session, reason=reason) for session in sessions)))

    async def _conclude(self, session: Session, *, untold: bool) -> Session:
        """Refuse its token, so that the instance cannot come back, and say that it has ended."""
        if session.token_id:
            try:
                await self._core.tokens.end(session.workspace, session.token_id)
            except HyphaError as error:
                # It stays one that is being stopped, and somebody does that again.
                log.warning("token_not_ended", session=session.id, error=str(error))
                await self._core.sessions.leave(session)
                return session
            await self._gone(session)
        ended = await self._core.sessions.end(session, untold=untold and bool(session.worker_id))
        if ended is not None:
            self._core.feed.tell(ended)
            if ended.status is Status.STOPPED:
                metrics.STOPS.labels(metrics.kind_of(ended.reason)).inc()
            log.info(
                "app_ended", session=ended.id, app=ended.app_id, status=str(ended.status), reason=ended.reason[:200]
            )
        return ended or session

    async def _gone(self, session: Session) -> None:
        """Wait, for a while, until its services cannot be found any more: whoever stops it may look them up next."""
        with self._core.feed.watch(session.workspace, session.client_id) as watch:
            deadline = asyncio.get_running_loop().time() + _GONE_S
            while (left_s := deadline - asyncio.get_running_loop().time()) > 0:
                try:
                    if session.client_id not in await self._core.registry.instances(
                        session.workspace, [session.client_id]
                    ):
                        return
                except HyphaError as error:
                    log.info("not_seen_to_go", session=session.id, error=str(error))
                    return
                await watch.changed(min(left_s, _LOOK_S))

    async def _tell_worker(self, session: Session) -> None:
        if session.worker_id:
            service_id = ServiceId.parse(session.worker_id, default_workspace=session.workspace)
            await self._core.calls.stop_at(service_id, session.id)
