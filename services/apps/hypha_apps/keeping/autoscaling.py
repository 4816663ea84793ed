from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from hypha_apps import metrics
from hypha_apps.starting import StartRequest
from hypha_common.errors import BadRequest, HyphaError

from .errands import Errands
from .rounds import Rounds
from .scaling import Action, Scaling, decide
from .scaling_rows import ScalingRows

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.session import Session
    from hypha_apps.starting import Starter
    from hypha_apps.stopping import Stopper
    from hypha_common.db import Shard
    from hypha_common.lease import Lease

    from .scaling_rows import ScaledApp

__all__ = ["EVERY_S", "Autoscaling"]

log = structlog.get_logger(__name__)

EVERY_S = 10.0
_AT_ONCE = 20
_MAX_ERROR = 200  # what follows is the app's own log


class Autoscaling:
    """
    Starts and stops instances of apps as they have more or less to do (contract 03 §6.4).

    It begins when an app has been started by somebody, and ends when its last instance was stopped by somebody or for
    want of use; instances that are lost in between are replaced up to ``min_instances``.

    """

    def __init__(self, core: Core, starter: Starter, stopper: Stopper, *, every_s: float = EVERY_S) -> None:
        self._core = core
        self._starter = starter
        self._stopper = stopper
        self._rows = ScalingRows(core.database)
        self._errands = Errands(_AT_ONCE)
        self._rounds = Rounds(core.database, core.bus.instance, "autoscaling", self.round, every_s=every_s)

    async def run(self) -> None:
        """Run for the life of the replica."""
        try:
            await self._rounds.run()
        finally:
            await self._errands.close()

    async def round(self, shard: Shard, lease: Lease) -> None:
        """Look at every app of a database that scales."""
        for app in await self._rows.look(shard):
            try:
                scaling = Scaling.of(app.config)
            except BadRequest as error:
                log.debug("autoscaling_not_understood", app=f"{app.workspace}/{app.app_id}", error=str(error))
                continue
            action = decide(scaling, app.situation)
            if action is None or not self._errands.free:
                continue
            if action is Action.DOWN:
                await self._shrink(lease, app, scaling)
            elif app.due:
                await self._grow(lease, app, scaling, action)

    async def _grow(self, lease: Lease, app: ScaledApp, scaling: Scaling, action: Action) -> None:
        below = scaling.max_instances if action is Action.UP else scaling.min_instances
        async with lease.effect() as connection:
            claimed = await self._rows.claim_start(connection, app, action, below=below)
        if claimed:
            self._errands.begin(self._start(app, action), app=f"{app.workspace}/{app.app_id}")

    async def _shrink(self, lease: Lease, app: ScaledApp, scaling: Scaling) -> None:
        async with lease.effect() as connection:
            session = await self._rows.claim_stop(
                connection, app, owner=self._core.bus.instance, above=max(1, scaling.min_instances)
            )
        if session is not None:
            self._core.feed.tell(session)
            self._errands.begin(self._stop(session), session=session.id)

    async def _start(self, app: ScaledApp, action: Action) -> None:
        place = f"{app.workspace}/{app.app_id}"
        try:
            installed = await self._core.apps.read(app.workspace, app.app_id, user=None)
        except HyphaError as error:
            if error.status not in (404, 409):  # the store is away, or has a fault
                raise
            await self._rows.drop(app)
            log.info("autoscaling_dropped", app=place, reason=str(error))
            return
        try:
            session = await self._starter.start(installed, StartRequest(app.starter))
        except HyphaError as error:
            metrics.AUTOSCALING.labels("failed").inc()
            await self._rows.not_started(app)
            log.warning("not_scaled_up", app=place, error=str(error)[:_MAX_ERROR])
            return
        if action is Action.UP:
            await self._rows.started(app)
        metrics.AUTOSCALING.labels(str(action)).inc()
        log.info("scaled_up", app=place, session=session.id, why=str(action), loads=list(app.running.values()))

    async def _stop(self, session: Session) -> None:
        await self._stopper.carry_out(session)
        metrics.AUTOSCALING.labels(str(Action.DOWN)).inc()
        log.info("scaled_down", session=session.id, load=session.load)
