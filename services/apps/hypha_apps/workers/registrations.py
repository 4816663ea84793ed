from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_common.ids import ServiceId
from hypha_common.subjects import partition_of, role_verb

if TYPE_CHECKING:
    from hypha_common.bus import Bus

__all__ = ["Registration", "Registrations"]


@dataclass(frozen=True, slots=True)
class Registration:
    """A worker that is registered, and connected, now."""

    service_id: ServiceId
    version: str  # another one after each registration
    app_id: str  # the app whose instance it is, or `*`
    visibility: str
    authorized_workspaces: tuple[str, ...]

    def serves(self, workspace: str) -> bool:
        """Tell whether apps of a workspace other than its own may be given to it."""
        return self.visibility == "public" or workspace in self.authorized_workspaces


class Registrations:
    """Which workers there are, as the workspace service knows it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def of(self, workspace: str) -> list[Registration]:
        """Return the workers of a workspace in order of registration, unlisted ones, too."""
        subject = role_verb("workspace", partition_of(workspace), "workers")
        rows = await self._bus.request(subject, {"workspace": workspace}, timeout=2.0, attempts=2)
        return [
            Registration(
                ServiceId(workspace, row["client_id"], row["service_id"], row["app_id"]), row["version"],
                row["app_id"], row["visibility"], tuple(row["authorized_workspaces"] or ()),
            )
            for row in rows
        ]  # fmt: skip

    async def get(self, service_id: ServiceId) -> Registration | None:
        """Return one worker by its id."""
        found = await self.of(service_id.workspace)
        return next((one for one in found if one.service_id.full == service_id.full), None)
