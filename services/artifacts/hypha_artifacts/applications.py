from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import NotFound, PermissionDenied
from hypha_common.principal import Principal

from .actor import Actor
from .reference import ArtifactName

if TYPE_CHECKING:
    from hypha_common.bus import Bus

    from .core import Core

__all__ = ["Applications"]

_ROLE = "artifacts"


class Applications:
    """Tells the workspace service of applications: artifacts whose alias services name as their ``app_id``."""

    def __init__(self, core: Core) -> None:
        self._access = core.access

    async def serve(self, bus: Bus) -> None:
        await bus.serve(_ROLE, "application", self.application)

    async def application(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """
        Return ``{id, services: [{id, type}], service_selection_mode}`` for ``{workspace, app_id, user}``.

        None where there is no such artifact with a committed version that the user may read.

        """
        workspace, alias = message["workspace"], message["app_id"]
        actor = Actor(Principal.load(message["user"]), workspace)
        try:
            artifact = await self._access.find(str(ArtifactName(workspace, alias)), "read", actor)
        except (NotFound, PermissionDenied):
            return None
        if not artifact.versions:
            return None
        manifest = artifact.manifest
        return {
            "id": str(artifact.name),
            "services": _services(manifest.get("services")),
            "service_selection_mode": manifest.get("service_selection_mode"),
        }


def _services(listed: object) -> list[dict[str, str | None]]:
    """Return the services that a manifest lists; what has no id is of no use for finding one."""
    services = listed if isinstance(listed, list) else []
    return [
        {"id": _name(service["id"]), "type": service["type"] if isinstance(service.get("type"), str) else None}
        for service in services
        if isinstance(service, dict) and isinstance(service.get("id"), str)
    ]


def _name(service_id: str) -> str:
    """Return the name in a service id, which may be a full one: ``workspace/client:name@app``."""
    return service_id.rpartition("/")[2].rpartition(":")[2].partition("@")[0]
