from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.settings import Settings
    from hypha_workspace.events import Events
    from hypha_workspace.lifetime import Lifetime
    from hypha_workspace.registry.applications import Applications
    from hypha_workspace.registry.resolver import Resolver
    from hypha_workspace.stores import Stores

    from .access import Access
    from .providers import Providers

__all__ = ["Backend"]


@dataclass(frozen=True, slots=True)
class Backend:
    """What the manager's methods work with, built once."""

    stores: Stores
    resolver: Resolver
    applications: Applications
    lifetime: Lifetime
    events: Events
    providers: Providers
    access: Access
    bus: Bus
    settings: Settings

    async def workspace_changed(self, workspace: str) -> None:
        """Tell the members. Read-only ones may listen, so environment variables are left out."""
        record = await self.stores.workspaces.get_full(workspace)
        if record is not None:
            info = record.dump()
            info["config"] = {key: value for key, value in info["config"].items() if key != "environs"}
            self.events.emit(workspace, "workspace_changed", info)
