from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_common.principal import Permission, authorize

if TYPE_CHECKING:
    from hypha_common.audit import Audit
    from hypha_common.bus import Bus
    from hypha_common.rpc.caller import Caller
    from hypha_common.settings import Settings
    from hypha_workspace.lifetime import Lifetime
    from hypha_workspace.registry.usage import Usage
    from hypha_workspace.stores import Stores

__all__ = ["AdminBackend", "check_admin"]


@dataclass(frozen=True, slots=True)
class AdminBackend:
    """What the methods of administrators work with, built once."""

    stores: Stores
    lifetime: Lifetime
    usage: Usage
    bus: Bus
    audit: Audit
    settings: Settings


def check_admin(context: Caller) -> None:
    """Raise PermissionDenied unless the caller may do everything; being in root's workspace is not enough."""
    authorize(context.principal, Permission.ADMIN, "*")
