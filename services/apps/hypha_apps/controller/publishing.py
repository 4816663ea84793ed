from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypha_apps.app import alias_of
from hypha_apps.installing import AppDrafts, Copies
from hypha_common.errors import PermissionDenied
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_apps.core import Core

__all__ = ["PublishMethods"]


class PublishMethods:
    """Puts copies of apps where others find them (contract 03 §1.1)."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._drafts = AppDrafts(core)
        self._copies = Copies(core.store, self._drafts)

    @rpc_method
    async def publish(
        self,
        app_id: str,
        collection_id: str,
        new_app_id: str | None = None,
        overwrite: bool = False,
        remove_secrets: bool = True,
        stage: bool = False,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Copy an app into a collection, from which others install it with `artifact_id`; return the copy's artifact.

        Args:
            app_id: The app.
            collection_id: The collection: `workspace/alias`, or an alias in your workspace.
            new_app_id: The name of the copy; by default four random words.
            overwrite: Whether to replace an artifact of the same name.
            remove_secrets: Whether to leave out `config.secrets`.
            stage: Whether to leave the copy a draft.

        """
        if context.principal.is_anonymous:
            raise PermissionDenied("Anonymous users cannot publish apps")

        def change(manifest: dict[str, Any]) -> dict[str, Any]:
            manifest.pop("startup_context", None)
            config = manifest.get("config")
            if remove_secrets and isinstance(config, dict):
                manifest["config"] = {key: value for key, value in config.items() if key != "secrets"}
            return manifest

        workspace = context.workspace
        copy = await self._copies.make(
            f"{workspace}/{alias_of(app_id, workspace)}", new_app_id, collection_id, change, overwrite=bool(overwrite),
            user=context.principal, workspace=workspace,
        )  # fmt: skip
        if stage:
            return dict(copy)
        try:
            committed: dict[str, Any] = await self._store.call(
                "commit", user=context.principal, workspace=workspace, artifact_id=copy["id"]
            )
        except BaseException:  # cancelled, too
            await asyncio.shield(self._drafts.drop(copy["alias"], copy["workspace"]))
            raise
        return committed
