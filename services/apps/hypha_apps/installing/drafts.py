from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import HyphaError
from hypha_common.ids import PUBLIC_WORKSPACE
from hypha_common.principal import root_principal

from .uploads import Uploads

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting.progress import Progress
    from hypha_common.principal import Principal

__all__ = ["COLLECTION", "AppDrafts"]

log = structlog.get_logger(__name__)

COLLECTION = "applications"
_MANIFEST = {"id": COLLECTION, "name": "Applications", "description": "Apps that are installed in this workspace"}
_PAGE = 1000


class AppDrafts:
    """Apps that are not committed yet, as artifacts in the collection ``applications`` (contract 03 §1.8)."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._uploads = Uploads(core)

    async def begin(
        self, manifest: Mapping[str, Any], app_id: str | None, *, overwrite: bool, version: str | None,
        user: Principal, workspace: str,
    ) -> str:  # fmt: skip
        """
        Make the draft of a new app, or of what shall take the place of one; return its alias.

        What is overwritten stays what it is until the draft is committed. Raises what the artifact manager raises:
        RemoteError (FileExistsError, status 409) where the alias is taken.

        """
        await self.ensure_collection(user, workspace)
        try:
            made = await self._store.call(
                "create", user=user, workspace=workspace, type="application", alias=app_id, stage=True,
                parent_id=f"{workspace}/{COLLECTION}", manifest={**manifest, "id": app_id},
            )  # fmt: skip
        except HyphaError as error:
            if error.status != 409 or not overwrite or app_id is None:
                raise
            await self._overwrite(manifest, app_id, error, version=version, user=user, workspace=workspace)
            return app_id
        alias: str = made["alias"]
        if app_id is None:
            await self._store.call(
                "edit", user=user, workspace=workspace, artifact_id=f"{workspace}/{alias}",
                manifest={**manifest, "id": alias}, stage=True,
            )  # fmt: skip
        return alias

    async def upload(
        self, app_id: str, files: Mapping[str, bytes], *, user: Principal, workspace: str, progress: Progress
    ) -> None:
        """Write all files of a draft: what it has of an older version, and is not among them, goes."""
        artifact_id = f"{workspace}/{app_id}"
        for path in await self._paths(artifact_id, user, workspace):
            if path not in files:
                await self._store.call(
                    "remove_file", user=user, workspace=workspace, artifact_id=artifact_id, file_path=path
                )
        await self._uploads.write(artifact_id, files, user=user, workspace=workspace, progress=progress)

    async def drop(self, app_id: str, workspace: str) -> None:
        """
        Drop the draft of an app, and all of one that was never committed. Never raises: something failed already.

        As the cluster itself: who may begin an app may not always delete one.

        """
        root, artifact_id = root_principal(workspace), f"{workspace}/{app_id}"
        try:
            record = await self._store.call(
                "read", user=root, workspace=workspace, artifact_id=artifact_id, stage=True, silent=True
            )
            method = "discard_changes" if record["versions"] else "delete"
            await self._store.call(method, user=root, workspace=workspace, artifact_id=artifact_id)
        except HyphaError as error:
            if error.status != 404:
                log.warning("app_draft_not_dropped", app=artifact_id, error=str(error))

    async def ensure_collection(self, user: Principal, workspace: str) -> None:
        """Make the collection of a workspace's apps where there is none yet."""
        artifact_id = f"{workspace}/{COLLECTION}"
        try:
            await self._store.call("read", user=user, workspace=workspace, artifact_id=artifact_id, silent=True)
        except HyphaError as error:
            if error.status != 404:
                raise
        else:
            return
        config = {"permissions": {"*": "r"}} if workspace == PUBLIC_WORKSPACE else {}
        try:
            await self._store.call(
                "create", user=user, workspace=workspace, type="collection", alias=COLLECTION, manifest=_MANIFEST,
                config=config,
            )  # fmt: skip
        except HyphaError as error:
            if error.status != 409:  # somebody else was faster
                raise

    async def _overwrite(
        self, manifest: Mapping[str, Any], app_id: str, taken: HyphaError, *, version: str | None, user: Principal,
        workspace: str,
    ) -> None:  # fmt: skip
        artifact_id = f"{workspace}/{app_id}"

        async def call(method: str, **arguments: Any) -> Any:
            return await self._store.call(method, user=user, workspace=workspace, artifact_id=artifact_id, **arguments)

        there = await call("read", stage=True, silent=True)
        if there["type"] != "application":
            raise taken
        if there["parent_id"] is None:
            await call("set_parent", new_parent_id=f"{workspace}/{COLLECTION}")
        elif there["parent_id"] != f"{workspace}/{COLLECTION}":
            raise taken
        await call("discard_changes")
        newest = there["versions"][-1]["version"] if there["versions"] else None
        # A version of the same name is written anew; otherwise there is another one.
        kind = newest if newest is not None and version == newest else "new"
        await call("edit", manifest={**manifest, "id": app_id}, version=kind, stage=True)

    async def _paths(self, artifact_id: str, user: Principal, workspace: str, folder: str = "") -> list[str]:
        """Return the paths of all files of a draft."""
        found: list[str] = []
        offset = 0
        while True:
            page = await self._store.call(
                "list_files", user=user, workspace=workspace, artifact_id=artifact_id, dir_path=folder or None,
                stage=True, limit=_PAGE, offset=offset,
            )  # fmt: skip
            for entry in page:
                path = f"{folder}/{entry['name']}" if folder else entry["name"]
                if entry["type"] == "directory":
                    found += await self._paths(artifact_id, user, workspace, path)
                else:
                    found.append(path)
            if len(page) < _PAGE:
                return found
            offset += _PAGE
