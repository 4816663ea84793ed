from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from hypha_apps.errors import StartFailed, StartLost
from hypha_apps.session import Session, Status
from hypha_common.errors import DeadlineExceeded, PeerNotFound, Unavailable

from .report import ask_about
from .serving import name_of, stands_in

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.feed import Watch
    from hypha_apps.workers import Worker

__all__ = ["Arrival", "Taken"]

log = structlog.get_logger(__name__)

_LOOK_S = 1.0  # events can be lost: look at least this often
_SETTLE_S = 0.1  # further services of an app come right after the one that is waited for
_AT_ONCE_S = 0.3  # a call of somebody who is not there fails within this time; later, whoever took it has gone
_ASK_S = 2.0  # between two questions to the worker
_UNKNOWN_S = 10.0  # a start that its worker does not know for so long has never reached it


class Taken(Exception):  # it is no error
    """Somebody else has the session now: whoever stops it, or another replica."""


class Arrival:
    """Waits for an instance whose worker has been asked to start it."""

    def __init__(
        self, core: Core, session: Session, worker: Worker, watch: Watch, *, manifest: Mapping[str, Any],
        started: asyncio.Task[None] | None,
    ) -> None:  # fmt: skip
        """``started`` is the worker's ``start``; None where another replica has called it, and died."""
        self._core = core
        self._session = session
        self._worker = worker
        self._watch = watch
        self._manifest = manifest
        self._started = started
        self._now = asyncio.get_running_loop().time
        self._began = self._asked = self._now()
        self._left_at: float | None = None  # when its client was found gone that had been there
        self._was_there = False
        if started is not None:
            started.add_done_callback(lambda _: watch.wake())

    async def services(self) -> list[dict[str, Any]]:
        """
        Return what the instance serves once it is up.

        Raises Taken, StartFailed, StartLost, DeadlineExceeded, or what the worker's ``start`` raised.

        """
        while True:
            self._check_start()
            services = await self._look()
            self._check_start()
            if services is not None:
                return services
            left_s = (self._session.deadline - datetime.now(UTC)).total_seconds()
            if left_s <= 0:
                raise DeadlineExceeded(f"startup timed out waiting for {self._waits_for()}")
            await self._watch.changed(min(left_s, _LOOK_S))

    async def _look(self) -> list[dict[str, Any]] | None:
        """Return what the instance serves; None: it is not up."""
        try:
            await self._check_row()
            services = await self._arrived()
            if services is None:
                await self._ask_worker()
        except StartLost:
            raise
        except (Unavailable, DeadlineExceeded) as error:  # of the database or another service: there is still time
            log.info("start_waits", session=self._session.id, error=str(error))
            return None
        return services

    def _check_start(self) -> None:
        """Raise what the worker's ``start`` raised. One that is away for a moment may come back with the instance."""
        if self._started is None or not self._started.done():
            return
        error = self._started.exception()
        if isinstance(error, PeerNotFound) and self._now() - self._began > _AT_ONCE_S:
            return  # if it stays away, `keeping` ends all that it ran
        if error is not None:
            raise error

    async def _check_row(self) -> None:
        session = self._session
        now = await self._core.sessions.get(session.workspace, session.client_id)
        if now is None or now.epoch != session.epoch or now.status is not Status.STARTING:
            raise Taken

    async def _arrived(self) -> list[dict[str, Any]] | None:
        if self._session.wait_for is None:
            return [] if await self._is_begun() else None
        if not self._is_up(await self._connected()):
            return None
        await asyncio.sleep(_SETTLE_S)
        services = await self._connected()
        return services if self._is_up(services) else None

    async def _is_begun(self) -> bool:
        """Tell whether the worker has done what it was asked for, which is all that is waited for."""
        if self._started is not None:
            return self._started.done() and self._started.exception() is None
        return (await ask_about(self._core, self._worker, self._session.id)).known is True

    def _is_up(self, services: list[dict[str, Any]] | None) -> bool:
        wanted = self._session.wait_for
        return services is not None and (not wanted or stands_in(services, wanted, self._manifest))

    async def _connected(self) -> list[dict[str, Any]] | None:
        """Return what the instance serves; None: it is not connected. Raises StartFailed where it has left for good."""
        session = self._session
        connected = await self._core.registry.instances(session.workspace, [session.client_id])
        services = connected.get(session.client_id)
        if services is not None:
            self._was_there, self._left_at = True, None
            return [
                {**info, "id": str(info["id"]).partition("@")[0]} for info in services if name_of(info) != "built-in"
            ]
        if self._was_there:
            self._left_at = self._left_at or self._now()
            if self._now() - self._left_at >= self._core.settings.worker_grace_period:
                raise StartFailed(f"its client disconnected before there was {self._waits_for()}")
        return None

    async def _ask_worker(self) -> None:
        """Raise where the worker says that nothing will come of it any more."""
        if self._now() - self._asked < _ASK_S or (self._started is not None and not self._started.done()):
            return
        self._asked = self._now()
        report = await ask_about(self._core, self._worker, self._session.id)
        if report.ended is not None:
            raise StartFailed(f"{report.ended}, before there was {self._waits_for()}")
        if report.known is False and self._now() - self._began > _UNKNOWN_S:
            if self._started is None:
                raise StartLost(f"The replica that started app '{self._session.app_id}' is gone")
            raise StartFailed("its worker does not know it any more")

    def _waits_for(self) -> str:
        wanted = self._session.wait_for
        return f"service '{wanted}'" if wanted else "its worker" if wanted is None else "its client"
