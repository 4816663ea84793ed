from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from hypha_common import envelope
from hypha_common.errors import Unavailable
from hypha_common.subjects import broadcast, workspace_events
from hypha_common.wire import pack, pack_frame

from . import metrics

if TYPE_CHECKING:
    from hypha_common.bus import Bus

__all__ = ["Events"]

log = structlog.get_logger(__name__)

_DELETED = broadcast("workspace_deleted")


class Events:
    """Publishes workspace events (contract 01 §1.9) to the members that subscribed to them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def emit(self, workspace: str, event_type: str, data: Any) -> None:
        """Send one event. It tells of something that has happened, so a bus that is down costs only a log line."""
        metrics.EVENTS.inc()
        frame = pack_frame({"type": event_type, "to": "*", "data": data})
        try:
            self._bus.publish(workspace_events(workspace), envelope.event(self._bus.instance_bytes, event_type, frame))
        except Unavailable:
            metrics.EVENTS_LOST.inc()
            log.warning("event_lost", event_type=event_type, reason="bus disconnected")

    def client_disconnected(self, workspace: str, client_id: str) -> None:
        """The short id, unlike ``client_connected``: clients put the two together themselves."""
        self.emit(workspace, "client_disconnected", {"id": client_id, "workspace": workspace})

    def workspace_gone(self, workspace: str) -> None:
        """
        Tell the other services of the cluster that a workspace was deleted: ``hy.b.workspace_deleted``.

        Each replica of them hears it, or none: what is kept for workspaces must also be swept up some other way.

        """
        try:
            self._bus.publish(_DELETED, pack({"workspace": workspace}))
        except Unavailable:
            metrics.EVENTS_LOST.inc()
            log.warning("event_lost", event_type="workspace_deleted", reason="bus disconnected")
