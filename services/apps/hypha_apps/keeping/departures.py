from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from hypha_apps.session import Session, Status
from hypha_apps.starting.report import ask_about
from hypha_apps.stopping import AWAY
from hypha_common.errors import HyphaError, NotFound
from hypha_common.ids import APP_CLIENT_PREFIX, Address, ServiceId
from hypha_common.subjects import client_frames

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.feed import Left
    from hypha_apps.stopping import Stopper

    from .upkeep import Upkeep

__all__ = ["Departures"]

log = structlog.get_logger(__name__)

_TICK_S = 0.25
_COMPARE_S = 5.0  # between two comparisons of what is believed with who is there: events can be lost
_MAX_SUSPECTS = 10_000
_KEEPS_LOGS = "python-eval"  # a script that has ended is read afterwards


class Departures:
    """
    Ends the sessions of workers and instances that are gone for good, and tells workers that come back.

    Somebody is gone whom nobody on the bus listens for, now and a grace period ago: clients connect anew when their
    gateway drains or dies. Every replica looks; of several that end a session one does.

    """

    def __init__(self, core: Core, upkeep: Upkeep, stopper: Stopper) -> None:
        self._core = core
        self._upkeep = upkeep
        self._stopper = stopper
        self._workers: frozenset[Address] = frozenset()  # that run something, as of the last comparison
        self._suspects: dict[Address, float] = {}  # since when they seem to be away
        self._left: set[Address] = set()  # suspects that have been here
        self._now = asyncio.get_running_loop().time
        core.feed.on_left.append(self._note)

    async def run(self) -> None:
        """Run for the life of the replica."""
        compare_at = 0.0
        while True:
            try:
                if self._now() >= compare_at:
                    compare_at = self._now() + _COMPARE_S
                    await self._compare()
                    await self._tell_workers()
                await self._judge()
            except HyphaError as error:
                log.info("departures_not_judged", error=str(error))
                self._suspects = dict.fromkeys(self._suspects, self._now())  # the bus or the database was away
            await asyncio.sleep(_TICK_S)

    def _note(self, left: Left) -> None:
        who = Address(left.workspace, left.client_id)
        if left.client_id.startswith(APP_CLIENT_PREFIX) or who in self._workers:
            self._suspect(who)
            if who in self._suspects:
                self._left.add(who)

    def _suspect(self, who: Address) -> None:
        if len(self._suspects) < _MAX_SUSPECTS:
            self._suspects.setdefault(who, self._now())

    async def _compare(self) -> None:
        """Suspect whoever should be there and is not."""
        running = await self._upkeep.running()
        self._workers = frozenset(one.worker for one in running if one.worker is not None)
        for who in {*self._workers, *(one.instance for one in running if one.runs)}:
            if who not in self._suspects and not await self._is_there(who):
                self._suspect(who)

    async def _judge(self) -> None:
        grace_s = self._core.settings.worker_grace_period
        for who, since in list(self._suspects.items()):
            if self._now() - since < grace_s:
                continue
            del self._suspects[who]
            left = who in self._left
            self._left.discard(who)
            if not await self._is_there(who):
                await self._end_all(who, left=left)

    async def _is_there(self, who: Address) -> bool:
        return await self._core.bus.listens(client_frames(who.workspace, who.client))

    async def _end_all(self, who: Address, *, left: bool) -> None:
        for session in await self._core.sessions.of_worker(who):
            await self._stopper.lose(session, reason=f"its worker {session.worker_id} is gone")
        own = await self._core.sessions.get(who.workspace, who.client)
        if own is not None and own.status is Status.RUNNING:
            await self._end_without_client(own, left=left)

    async def _end_without_client(self, session: Session, *, left: bool) -> None:
        """
        End a session whose instance is not there, unless it may run without it and its worker says that it does.

        That of a start which waited for nothing may still be to come, unless it has ``left``.

        """
        without = session.daemon or session.worker_managed or (session.wait_for is None and not left)
        if without and not await self._is_over(session):
            return
        if session.record.get("app_type") == _KEEPS_LOGS:
            await self._keep_logs(session)
        await self._stopper.stop_quietly(session, reason="it has ended" if without else "its client disconnected")

    async def _is_over(self, session: Session) -> bool:
        try:
            worker = await self._core.workers.get(
                ServiceId.parse(session.worker_id, default_workspace=session.workspace)
            )
            return (await ask_about(self._core, worker, session.id)).is_over
        except NotFound:
            return False  # it does not answer: whether it is gone is found out by itself

    async def _keep_logs(self, session: Session) -> None:
        """Copy what a script has logged into the record, where it can be read after its worker has forgotten it."""
        try:
            worker = await self._core.workers.get(
                ServiceId.parse(session.worker_id, default_workspace=session.workspace)
            )
            entries = await self._core.calls.logs(worker, session.id)
        except HyphaError as error:
            log.info("logs_not_kept", session=session.id, error=str(error))
            return
        logs: dict[str, list[str]] = {}
        for entry in entries:
            logs.setdefault(str(entry["type"]), []).append(str(entry["content"]))
        await self._core.sessions.write_record(session, {**session.record, "logs": logs})

    async def _tell_workers(self) -> None:
        """Have workers that are back stop what ended while they were away; more than once does no harm."""
        for session in await self._upkeep.untold():
            if session.worker is None or not await self._is_there(session.worker):
                continue
            service_id = ServiceId.parse(session.worker_id, default_workspace=session.workspace)
            try:
                await self._core.workers.get(service_id)
            except NotFound:
                continue  # its client is back, but has not registered it yet
            try:
                await self._core.calls.stop_at(service_id, session.id)
            except HyphaError as error:
                log.info("worker_did_not_stop", session=session.id, worker=session.worker_id, error=str(error))
                if isinstance(error, AWAY):
                    continue
            await self._upkeep.told(session)
