from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hypha_apps import metrics

from . import activity_rows
from .activity_rows import Report

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_common.db import Shard

__all__ = ["Activity", "reports_of"]

_MOST = 1e9  # what SQL can still count with


class Activity:
    """
    Takes in what gateways tell of the instances that are connected to them: ``hy.r.apps.<p>.activity``.

    It is a few seconds old when it comes. Nobody else knows when an app was last used, nor how busy it is.

    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def serve(self) -> None:
        await self._core.bus.serve("apps", "activity", self.take)

    async def take(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        ``{gateway, clients: {"ws/client": {idle: s, load: messages a minute}}}`` -> ``{}``.

        Clients that are no instance of an app, or not any more, are passed over.

        """
        by_shard: dict[Shard, list[Report]] = {}
        told = message.get("clients")
        for report in reports_of(told if isinstance(told, dict) else {}):
            by_shard.setdefault(self._core.database.for_workspace(report.workspace), []).append(report)
        for shard, reports in by_shard.items():
            known = await activity_rows.store(shard, reports)
            metrics.ACTIVITY.labels("stored").inc(known)
            metrics.ACTIVITY.labels("unknown").inc(len(reports) - known)
        return {}


def reports_of(clients: dict[Any, Any]) -> Iterator[Report]:
    """Yield what can be understood."""
    for client, told in clients.items():
        place = str(client).partition("/")
        if not isinstance(told, dict) or not all(place):
            continue
        idle_s, load = _amount(told.get("idle")), _amount(told.get("load"))
        if idle_s is not None:
            yield Report(place[0], place[2], idle_s, load or 0.0)


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return min(max(0.0, float(value)), _MOST)
