from __future__ import annotations

from hypha_common.bus import Bus
from hypha_common.errors import PermissionDenied
from hypha_common.principal import Permission, Principal
from hypha_common.subjects import partition_of, role_verb

__all__ = ["Ownership"]

_TIMEOUT_S = 1.0  # asked twice: a replica may die with the question in its hands


class Ownership:
    """What the records of workspaces say about who owns them; the workspace service keeps them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def permission(self, user: Principal, workspace: str) -> Permission:
        """Return what an owner may do. Raises PermissionDenied for others, NotFound, Unavailable."""
        subject = role_verb("workspace", partition_of(workspace), "info")
        message = {"workspace": workspace, "user": user.dump()}
        record = await self._bus.request(subject, message, timeout=_TIMEOUT_S, attempts=2)
        if user.parent is not None or not user.owns(workspace, record["owners"]):
            raise PermissionDenied(f"{user.id} has no permission to access {workspace}")
        return Permission.ADMIN
