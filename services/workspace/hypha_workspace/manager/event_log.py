from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .access import authorize
from .bounds import MAX_DATA_BYTES, check_size, check_text

if TYPE_CHECKING:
    from .backend import Backend

__all__ = ["EventLogMethods", "read_time"]


def read_time(given: object, what: str) -> datetime | None:
    """Parse an ISO time; one without a zone is UTC. Raises BadRequest."""
    if given is None or isinstance(given, datetime):
        return given
    try:
        if isinstance(given, str):
            return datetime.fromisoformat(given)
    except ValueError:
        pass
    raise BadRequest(f"Invalid {what}: {given!r}. It must be an ISO time such as 2030-01-31T12:00:00")


class EventLogMethods:
    """What users log; everybody reads only his own."""

    def __init__(self, backend: Backend) -> None:
        self._events = backend.stores.event_log

    @rpc_method
    async def log(self, msg: Any, *, context: Caller) -> None:
        """
        Log a message in the workspace, as an event of type `log`.

        Args:
            msg: The message.

        """
        await self._append("log", msg, context)

    @rpc_method
    async def log_event(self, event_type: str, data: Any = None, *, context: Caller) -> None:
        """
        Log an event in the workspace.

        Args:
            event_type: The type of the event, without blanks.
            data: What belongs to the event.

        """
        await self._append(event_type, data, context)

    @rpc_method
    async def get_events(
        self,
        event_type: str | None = None,
        start_time: Any = None,
        end_time: Any = None,
        *,
        context: Caller,
    ) -> list[dict[str, Any]]:
        """
        Return the events that you logged in this workspace, oldest first.

        Args:
            event_type: Only events of this type.
            start_time: Only events at or after this ISO time.
            end_time: Only events at or before this ISO time.

        """
        authorize(context.principal, Permission.READ, context.workspace)
        return await self._events.select(
            context.workspace, context.principal.id, **_filters(event_type, start_time, end_time)
        )

    @rpc_method
    async def get_event_stats(
        self,
        event_type: str | None = None,
        start_time: Any = None,
        end_time: Any = None,
        *,
        context: Caller,
    ) -> list[dict[str, Any]]:
        """
        Count the events that you logged in this workspace, by type.

        Args:
            event_type: Only events of this type.
            start_time: Only events at or after this ISO time.
            end_time: Only events at or before this ISO time.

        """
        authorize(context.principal, Permission.READ, context.workspace)
        return await self._events.stats(
            context.workspace, context.principal.id, **_filters(event_type, start_time, end_time)
        )

    async def _append(self, event_type: str, data: Any, context: Caller) -> None:
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        if " " in event_type:
            raise BadRequest("Event type must not contain spaces", rpc_type="AssertionError")
        check_text(event_type, "Event type")
        check_size(data, "Event data", MAX_DATA_BYTES)
        await self._events.append(context.workspace, context.principal.id, event_type, data)


def _filters(event_type: str | None, start_time: object, end_time: object) -> dict[str, Any]:
    return {
        "event_type": None if event_type is None else check_text(event_type, "Event type"),
        "start_time": read_time(start_time, "start_time"),
        "end_time": read_time(end_time, "end_time"),
    }
