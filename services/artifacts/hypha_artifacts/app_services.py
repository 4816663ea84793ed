from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest

from .manager.documents import read_map
from .manager.manifests import check_manifest
from .manager.readings import as_draft
from .manager.values import dump_json
from .record import load_json
from .reference import ArtifactName
from .versions import find_version

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_common.bus import Bus

    from .core import Core
    from .record import Artifact

__all__ = ["AppServices"]

_ROLE = "artifacts"
_NEWEST = "UPDATE artifacts SET manifest = $2 WHERE id = $1"
_DRAFT = "UPDATE artifacts SET staged_manifest = $2 WHERE id = $1 AND intent IS NOT NULL"
_OLDER = "UPDATE artifact_versions SET manifest = $2 WHERE artifact_id = $1 AND seq = $3"
_MANIFEST = "SELECT manifest FROM artifact_versions WHERE artifact_id = $1 AND seq = $2"


class AppServices:
    """
    Writes into the manifest of an app what it was seen to serve: the apps role asks, no client can.

    Into the manifest of the very version, or draft, that ran; others stay as they are. It is no edit: nobody is asked
    for permission, there is no new version, and the time of the last change stays.

    """

    def __init__(self, core: Core) -> None:
        self._rows = core.rows

    async def serve(self, bus: Bus) -> None:
        await bus.serve(_ROLE, "app_services", self.write)

    async def write(self, message: dict[str, Any]) -> bool:
        """
        Take ``{workspace, app_id, version, stage, services, whole, name, description}``; return whether it was written.

        ``services`` are entries of a manifest. With ``whole`` they are all there are, otherwise they replace those of
        the same names. Name and description are for a manifest that has none. False where the app, the version or the
        draft is gone. Raises BadRequest, PayloadTooLarge.

        """
        artifact = await self._rows.find(ArtifactName(message["workspace"], message["app_id"]))
        if artifact is None:
            return False
        async with self._rows.shard(artifact.id).transaction() as connection:
            locked = await self._rows.lock(connection, artifact.id)
            if locked is None:
                return False
            if message["stage"]:
                if locked.draft is None:
                    return False
                text = _changed(as_draft(locked).manifest, message)
                await connection.execute(_DRAFT, locked.id, text)
                return True
            return await _write_version(connection, locked, message)


async def _write_version(
    connection: PoolConnectionProxy[Record], artifact: Artifact, message: Mapping[str, Any]
) -> bool:
    try:
        version = find_version(artifact, message["version"])
    except BadRequest:
        version = None
    if version is None:
        return False
    if version == artifact.versions[-1]:
        await connection.execute(_NEWEST, artifact.id, _changed(artifact.manifest, message))
        return True
    manifest = load_json(await connection.fetchval(_MANIFEST, artifact.id, version.seq))
    await connection.execute(_OLDER, artifact.id, _changed(manifest or {}, message), version.seq)
    return True


def _changed(manifest: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    """Return a manifest with what an app serves, as the database takes it."""
    services = list(message["services"])
    if not message["whole"]:
        seen = {_name(service) for service in services}
        known = manifest.get("services")
        services = [entry for entry in known or () if _name(entry) not in seen] + services
    changed = {**manifest, "services": services, "service_ids": [service["id"] for service in services]}
    for key in ("name", "description"):
        if not changed.get(key) and message.get(key):
            changed[key] = message[key]
    checked = read_map(changed, "Manifest")
    check_manifest(checked, None)
    return dump_json(checked)


def _name(service: Mapping[str, Any]) -> str:
    """Return the name in a service id, which may be a full one: ``workspace/client:name@app``."""
    return str(service.get("id")).rpartition("/")[2].rpartition(":")[2].partition("@")[0]
