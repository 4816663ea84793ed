from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypha_common import envelope
from hypha_common.bus import Bus, Subscription
from hypha_common.subjects import workspace_events

if TYPE_CHECKING:
    from .connection import Connection

__all__ = ["Audience"]


class Audience:
    """
    Which connections of this gateway listen to which events of their workspace.

    The gateway has interest in a workspace's events exactly while somebody here subscribed to one.

    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._members: dict[str, set[Connection]] = {}
        self._interest: dict[str, Subscription] = {}
        self.delivered = 0  # events, to each connection

    def __len__(self) -> int:
        return len(self._interest)

    async def subscribe(self, connection: Connection, types: list[str]) -> None:
        """Add event types; when this returns, later events reach the connection."""
        connection.event_types.update(types)
        workspace = connection.address.workspace
        members = self._members.setdefault(workspace, set())
        members.add(connection)
        if workspace not in self._interest:
            self._interest[workspace] = await self._bus.subscribe(
                workspace_events(workspace), partial(self._deliver, workspace)
            )
        await self._bus.flush()

    def unsubscribe(self, connection: Connection, types: list[str]) -> None:
        connection.event_types.difference_update(types)
        if not connection.event_types:
            self.remove(connection)

    def remove(self, connection: Connection) -> None:
        workspace = connection.address.workspace
        members = self._members.get(workspace)
        if members is None:
            return
        members.discard(connection)
        if not members:
            del self._members[workspace]
            interest = self._interest.pop(workspace, None)
            if interest is not None:
                self._bus.unsubscribe(interest)

    def _deliver(self, workspace: str, subject: str, reply: str, payload: bytes) -> None:
        event = envelope.open_envelope(payload)
        for connection in tuple(self._members.get(workspace, ())):
            if event.label in connection.event_types:
                self.delivered += 1
                connection.deliver((event.body,))
