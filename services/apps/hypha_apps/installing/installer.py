from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_apps.app import App
from hypha_apps.sources.download import Downloads
from hypha_apps.sources.files import content_of
from hypha_apps.sources.manifests import complete_manifest
from hypha_apps.sources.reading import AppSource, read_source
from hypha_apps.starting.options import StartOptions

from .compiling import Compiler
from .copies import Copies
from .drafts import COLLECTION, AppDrafts

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import StartRequest
    from hypha_apps.starting.progress import Progress
    from hypha_common.principal import Principal

    from .commits import Commits
    from .turns import Turns

__all__ = ["Installer", "Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """Who installs an app, where, and how."""

    user: Principal
    workspace: str
    app_id: str | None  # None: any that is free
    overwrite: bool
    version: str | None
    stage: bool  # leave it a draft
    startup: Mapping[str, Any]  # what to put into the manifest's `startup_config`; None: nothing
    request: StartRequest  # for the verification run
    progress: Progress


class Installer:
    """Installs apps; of one that fails nothing is left."""

    def __init__(self, core: Core, drafts: AppDrafts, commits: Commits, turns: Turns) -> None:
        self._store = core.store
        self._check_interval_s = core.settings.activity_check_interval
        self._downloads = Downloads()
        self._compiler = Compiler(core)
        self._drafts = drafts
        self._commits = commits
        self._copies = Copies(core.store, drafts)
        self._turns = turns

    async def from_source(
        self, order: Order, source: str | None, manifest: Mapping[str, Any] | None, files: object
    ) -> dict[str, Any]:
        """
        Install what somebody wrote and return the manifest.

        Raises BadRequest for what cannot be, NotFound (WorkerNotFoundError), what the worker's ``compile`` and the
        artifact manager raise, StartFailed, and Conflict where somebody else is at it.

        """
        order.progress.tell("Reading the source")
        read = await read_source(source, manifest, files, self._downloads)
        app, files_of_app = await self._prepare(order, read)
        contents = {file["path"]: content_of(file) for file in files_of_app}
        async with self._turns.take(order.workspace, order.app_id):
            order.progress.tell("Creating the artifact of the app")
            alias = await self._drafts.begin(
                app, order.app_id, overwrite=order.overwrite, version=order.version, user=order.user,
                workspace=order.workspace,
            )  # fmt: skip
            try:
                await self._drafts.upload(
                    alias, contents, user=order.user, workspace=order.workspace, progress=order.progress
                )
                await self._finish(order, alias)
            except BaseException:  # cancelled, too
                await asyncio.shield(self._drafts.drop(alias, order.workspace))
                raise
        return dict((await self._record(order, alias))["manifest"])

    async def from_artifact(self, order: Order, artifact_id: str) -> Mapping[str, Any]:
        """Install a copy of an app and return its artifact. Raises as :meth:`from_source`."""
        await self._drafts.ensure_collection(order.user, order.workspace)
        async with self._turns.take(order.workspace, order.app_id):
            copy = await self._copies.make(
                artifact_id, order.app_id, f"{order.workspace}/{COLLECTION}",
                lambda manifest: _started_by(order, manifest), overwrite=order.overwrite, user=order.user,
                workspace=order.workspace,
            )  # fmt: skip
            alias: str = copy["alias"]
            try:
                await self._finish(order, alias)
            except BaseException:  # cancelled, too
                await asyncio.shield(self._drafts.drop(alias, order.workspace))
                raise
        return await self._record(order, alias)

    async def _prepare(self, order: Order, read: AppSource) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the manifest and the files of an app as they are stored. Raises before a worker is asked."""
        said = AppSource(self._checked(order, _started_by(order, read.manifest)), read.files)
        for file in said.files:
            content_of(file)  # what cannot be stored is no work for a worker
        worker = await self._compiler.worker_for(str(said.manifest["type"]), order.workspace, order.request)
        compiled = await self._compiler.compile(
            worker, said, user=order.user, workspace=order.workspace, progress=order.progress
        )
        return self._checked(order, compiled.manifest), compiled.files

    def _checked(self, order: Order, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Return a manifest with which an app can be started. Raises BadRequest."""
        whole = complete_manifest(manifest)
        app = App(order.workspace, order.app_id or "", whole, None, True, order.user.id)
        StartOptions.of(app, order.request, check_interval_s=self._check_interval_s)
        return whole

    async def _finish(self, order: Order, alias: str) -> None:
        if order.stage:
            return
        await self._commits.commit(
            order.workspace, alias, order.request, version=order.version, progress=order.progress
        )
        if order.overwrite:
            await self._commits.replace_running(order.workspace, alias)
        order.progress.tell(f"Installation of {alias} is complete", kind="success")

    async def _record(self, order: Order, alias: str) -> Mapping[str, Any]:
        record: Mapping[str, Any] = await self._store.call(
            "read", user=order.user, workspace=order.workspace, artifact_id=f"{order.workspace}/{alias}",
            stage=order.stage, silent=True,
        )  # fmt: skip
        return record


def _started_by(order: Order, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest that says who installed an app, and how it is started."""
    config = manifest.get("startup_config")
    given = {key: value for key, value in order.startup.items() if value is not None}
    return {
        **manifest,
        "startup_config": {**config, **given} if isinstance(config, Mapping) else given or config,
        # For clients to show. Who an app runs as, the server knows from elsewhere: its editors write this.
        "startup_context": {"ws": order.workspace, "user": {"id": order.user.id, "parent": order.user.parent}},
    }
