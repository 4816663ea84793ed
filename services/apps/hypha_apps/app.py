from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, Conflict
from hypha_common.principal import Principal, root_principal

if TYPE_CHECKING:
    from .artifact_store import ArtifactStore

__all__ = ["App", "Apps"]


@dataclass(frozen=True, slots=True)
class App:
    """An installed app: an artifact of type ``application``, as one of its versions or its draft says."""

    workspace: str
    id: str  # the artifact's alias
    manifest: Mapping[str, Any]
    version: str | None  # None: it has no committed version
    stage: bool
    created_by: str

    @property
    def type(self) -> str:
        """The runtime type, which decides about the worker: ``web-worker`` …"""
        return str(self.manifest.get("type") or "application")

    @property
    def artifact_id(self) -> str:
        return f"{self.workspace}/{self.id}"

    def installer(self) -> Principal:
        """
        Return who it runs as where nobody starts it by hand.

        Whoever made the artifact, which the store says: `startup_context` in the manifest is for its editors to write.

        """
        return Principal(id=self.created_by)


class Apps:
    """Reads apps from the artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def read(
        self, workspace: str, app_id: str, *, user: Principal | None, version: str | None = None, stage: bool = False
    ) -> App:
        """
        Return an app as ``user`` may read it; None: the cluster itself asks.

        Raises what the artifact manager answers, BadRequest for an id of another workspace, and Conflict for an app
        that is disabled.

        """
        alias = alias_of(app_id, workspace)
        found = await self._store.call(
            "read", user=user or root_principal(workspace), workspace=workspace,
            artifact_id=f"{workspace}/{alias}", version=version, stage=stage, silent=True,
        )  # fmt: skip
        manifest = found.get("manifest") or {}
        if manifest.get("disabled"):
            raise Conflict(f"App '{alias}' is disabled")
        versions = found.get("versions") or []
        newest = versions[-1]["version"] if versions else None
        return App(workspace, alias, manifest, version or newest, stage, str(found.get("created_by") or ""))


def alias_of(app_id: str, workspace: str) -> str:
    """Return the alias in ``alias`` or ``workspace/alias``. Raises BadRequest where it is of another workspace."""
    if not isinstance(app_id, str) or not app_id:
        raise BadRequest("app_id must be text")
    place, slash, alias = app_id.rpartition("/")
    if slash and place != workspace:
        raise BadRequest(f"App '{app_id}' is not in workspace {workspace}")
    return alias
