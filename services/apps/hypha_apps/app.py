from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, Conflict, NotFound
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

    @classmethod
    def of(cls, record: Mapping[str, Any], *, version: str | int | None = None, stage: bool = False) -> App:
        """Read what the artifact manager answered to ``read``. Raises NotFound where that is no app, or not yet one."""
        name, versions = record["id"], [known["version"] for known in record.get("versions") or ()]
        if record.get("type") != "application":
            raise NotFound(f"Artifact '{name}' is not an app: its type is '{record.get('type')}'")
        if not stage and not versions:
            raise NotFound(f"App '{record['alias']}' has no committed version: commit it, or ask for its draft")
        return cls(
            record["workspace"], record["alias"], record.get("manifest") or {},
            None if stage else _version_name(version, versions), stage, str(record.get("created_by") or ""),
        )  # fmt: skip


class Apps:
    """Reads apps from the artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def read(
        self, workspace: str, app_id: str, *, user: Principal | None, version: str | None = None, stage: bool = False
    ) -> App:
        """
        Return an app as ``user`` may read it; None: the cluster itself asks.

        Raises what the artifact manager answers, BadRequest for an id of another workspace, NotFound for what is no
        app, or not committed yet, and Conflict for an app that is disabled.

        """
        alias, stage = alias_of(app_id, workspace), stage or version == "stage"
        found = await self._store.call(
            "read", user=user or root_principal(workspace), workspace=workspace,
            artifact_id=f"{workspace}/{alias}", version=None if stage else version, stage=stage, silent=True,
        )  # fmt: skip
        app = App.of(found, version=version, stage=stage)
        if app.manifest.get("disabled"):
            raise Conflict(f"App '{alias}' is disabled")
        return app


def alias_of(app_id: str, workspace: str) -> str:
    """Return the alias in ``alias`` or ``workspace/alias``. Raises BadRequest where it is of another workspace."""
    if not isinstance(app_id, str) or not app_id:
        raise BadRequest("app_id must be text")
    place, slash, alias = app_id.rpartition("/")
    if slash and place != workspace:
        raise BadRequest(f"App '{app_id}' is not in workspace {workspace}")
    return alias


def _version_name(version: str | int | None, names: list[str]) -> str:
    if isinstance(version, int):
        return names[version]
    return names[-1] if version is None or version == "latest" else version
