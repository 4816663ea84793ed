from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, NotFound, PermissionDenied
from hypha_common.ids import personal_workspace
from hypha_common.principal import root_principal
from hypha_common.subjects import partition_of, role_verb

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.principal import Principal

__all__ = ["Workspace", "Workspaces"]

_FRESH_S = 5.0
_MAX_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class Workspace:
    """What the workspace service says of a workspace."""

    id: str
    persistent: bool
    read_only: bool


class Workspaces:
    """Asks the workspace service what workspaces there are; an answer that says yes is believed for 5 s."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._known: dict[str, tuple[float, Workspace]] = {}

    async def find(self, workspace: str, asked_by: Principal | None = None) -> Workspace:
        """Return a workspace; a user's own, asked for by the user, is made where it was missing. Raises NotFound."""
        now = asyncio.get_running_loop().time()
        known = self._known.get(workspace)
        if known is not None and known[0] > now:
            return known[1]
        info = await self._ask(workspace, asked_by or root_principal())
        found = Workspace(workspace, bool(info.get("persistent")), bool(info.get("read_only")))
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[workspace] = (now + _FRESH_S, found)
        return found

    async def require_persistent(self, workspace: str, principal: Principal) -> None:
        """Raise unless a workspace can hold artifacts, with the texts of contract 02 §1.9."""
        # Whoever has only used HTTP until now has a workspace, too.
        asked_by = principal if workspace == personal_workspace(principal.id) else None
        try:
            found = await self.find(workspace, asked_by)
        except NotFound:
            raise BadRequest(f"Workspace '{workspace}' does not exist.") from None
        if not found.persistent:
            raise PermissionDenied(
                f"Cannot create artifact in a non-persistent workspace `{workspace}`, "
                "you may need to login to a persistent workspace."
            )

    def forget(self, workspace: str) -> None:
        self._known.pop(workspace, None)

    async def _ask(self, workspace: str, principal: Principal) -> dict[str, Any]:
        subject = role_verb("workspace", partition_of(workspace), "info")
        message = {"workspace": workspace, "user": principal.dump()}
        info: dict[str, Any] = await self._bus.request(subject, message, timeout=2.0, attempts=2)
        return info
