from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_apps.app import App

if TYPE_CHECKING:
    from hypha_apps.artifact_store import ArtifactStore
    from hypha_common.principal import Principal

    from .drafts import AppDrafts

__all__ = ["Copies"]

Change = Callable[[dict[str, Any]], dict[str, Any]]


class Copies:
    """Apps made of other apps."""

    def __init__(self, store: ArtifactStore, drafts: AppDrafts) -> None:
        self._store = store
        self._drafts = drafts

    async def make(
        self, artifact_id: str, alias: str | None, collection: str, change: Change, *, overwrite: bool,
        user: Principal, workspace: str,
    ) -> Mapping[str, Any]:  # fmt: skip
        """
        Copy the newest version of an app into a collection, as a draft with a changed manifest; return its record.

        Raises NotFound where it is no app, and what the artifact manager raises.

        """
        place: dict[str, Any] = {"user": user, "workspace": workspace}
        # Not whatever somebody may read shall run here.
        App.of(await self._store.call("read", **place, artifact_id=artifact_id, silent=True))
        made = await self._store.call(
            "duplicate", **place, source_artifact_id=artifact_id, target_alias=alias, target_parent_id=collection,
            overwrite=overwrite, stage=True,
            # Whoever may change the source must not change what others run.
            keep_permissions=False,
        )  # fmt: skip
        manifest = {**change(dict(made["manifest"])), "id": made["alias"]}
        try:
            record: Mapping[str, Any] = await self._store.call(
                "edit", **place, artifact_id=made["id"], manifest=manifest, stage=True
            )
        except BaseException:  # cancelled, too
            await asyncio.shield(self._drafts.drop(made["alias"], made["workspace"]))
            raise
        return record
