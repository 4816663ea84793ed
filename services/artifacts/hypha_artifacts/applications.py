from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import NotFound, PermissionDenied
from hypha_common.principal import Principal

from .actor import Actor
from .permissions import grants
from .record import load_json
from .reference import ArtifactName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypha_common.bus import Bus

    from .core import Core
    from .record import Artifact

__all__ = ["Applications"]

_ROLE = "artifacts"
_TYPE = "application"
_COLLECTION = "applications"  # where installed apps are, in each workspace

_ANYBODY = Actor(Principal(id=""), "")
_CHANGES = ("edit", "draft", "put_file", "commit", "mutate")
_ADDS = ("create", "draft", "attach")

_MAX_PAGE = 50
_MAX_PAGE_BYTES = 2**20
# Published ones that list services; those that are disabled serve nobody.
_LISTED = """
    SELECT a.alias, a.manifest->'services' AS services FROM artifacts a
    WHERE a.workspace = $1 AND a.alias > $2 AND a.type = 'application' AND ($3::text IS NULL OR a.alias = $3)
      AND jsonb_typeof(a.manifest->'services') = 'array' AND a.manifest->'services' <> '[]'
      AND a.manifest->'disabled' IS DISTINCT FROM 'true'
      AND EXISTS (SELECT FROM artifact_versions v WHERE v.artifact_id = a.id)
    ORDER BY a.alias LIMIT $4
"""


class Applications:
    """
    Tells the workspace service of applications: artifacts whose alias services name as their ``app_id``.

    A *listed service* is what the manifest says of one, ``{id, name, type, description, docs, service_schema,
    config}``: each None where it says nothing, ``id`` without the workspace and the client.

    """

    def __init__(self, core: Core) -> None:
        self._access = core.access
        self._database = core.database

    async def serve(self, bus: Bus) -> None:
        await bus.serve(_ROLE, "application", self.application)
        await bus.serve(_ROLE, "applications", self.applications)

    async def application(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """
        ``{workspace, app_id, user}`` -> ``{id, services, service_selection_mode, startable}``.

        ``services`` are ``{id, type, visibility, authorized_workspaces}``. None where there is no such artifact with a
        committed version that the user may read.

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
            "services": [_use(service) for service in _services(manifest.get("services"))],
            "service_selection_mode": manifest.get("service_selection_mode"),
            "startable": _is_startable(artifact),
        }

    async def applications(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        ``{workspace, after, app_id}`` -> ``{applications: [{id, services}], next}``.

        The published applications of a workspace with their listed services, in the order of their aliases; only one
        where ``app_id`` names it. ``next`` is the ``after`` of the next page, None where this is the last.

        """
        workspace, only = message["workspace"], message.get("app_id")
        shard = self._database.for_workspace(workspace)
        rows = await shard.fetch(_LISTED, workspace, message.get("after") or "", only, _MAX_PAGE)
        found: list[dict[str, Any]] = []
        size = 0
        for row in rows:
            size += len(row["services"])
            if found and size > _MAX_PAGE_BYTES:
                break
            found.append({"id": row["alias"], "services": _services(load_json(row["services"]))})
        complete = len(found) == len(rows) < _MAX_PAGE
        return {"applications": found, "next": None if complete else found[-1]["id"]}


def _is_startable(artifact: Artifact) -> bool:
    """
    Tell whether the apps service may start this because somebody looked a service of it up.

    A manifest of type ``application`` only groups services. What is started runs with the rights of whoever made it, in
    this workspace. So it must be where only members put something, in no collection or in that of the apps, and nothing
    that everybody may change.

    """
    runtime, parent = artifact.manifest.get("type"), artifact.parent
    if artifact.type != _TYPE or not isinstance(runtime, str) or runtime in ("", _TYPE):
        return False
    if parent is not None and parent.name != ArtifactName(artifact.workspace, _COLLECTION):
        return False
    return not _for_everybody(artifact.permissions, _CHANGES) and (
        parent is None or not _for_everybody(parent.permissions, _ADDS)
    )


def _for_everybody(permissions: Mapping[str, Any], operations: tuple[str, ...]) -> bool:
    """Tell whether anybody who has logged in may do one of these."""
    return any(grants(permissions, operation, _ANYBODY) for operation in operations)


def _services(listed: object) -> list[dict[str, Any]]:
    """Return the listed services of a manifest; what has no id is of no use for finding one."""
    services = listed if isinstance(listed, list) else []
    return [
        {
            "id": _name(service["id"]),
            **{key: _text(service, key) for key in ("name", "type", "description", "docs")},
            **{key: _map(service, key) for key in ("service_schema", "config")},
        }
        for service in services
        if isinstance(service, dict) and isinstance(service.get("id"), str)
    ]


def _use(service: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides about using a listed service."""
    config = service["config"] or {}
    return {
        "id": service["id"],
        "type": service["type"],
        "visibility": config.get("visibility"),
        "authorized_workspaces": config.get("authorized_workspaces"),
    }


def _text(service: Mapping[str, Any], key: str) -> str | None:
    value = service.get(key)
    return value if isinstance(value, str) else None


def _map(service: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = service.get(key)
    return value if isinstance(value, dict) else None


def _name(service_id: str) -> str:
    """Return the name in a service id, which may be a full one: ``workspace/client:name@app``."""
    return service_id.rpartition("/")[2].rpartition(":")[2].partition("@")[0]
