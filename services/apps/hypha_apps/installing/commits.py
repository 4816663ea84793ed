from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_apps.app import App
from hypha_apps.errors import prefixed
from hypha_apps.manifest_services import write_services
from hypha_apps.standing import Standing
from hypha_apps.starting.options import StartOptions
from hypha_common.errors import HyphaError

from .ending import stop_kind

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import Starter, StartRequest
    from hypha_apps.starting.progress import Progress
    from hypha_apps.stopping import Stopper

__all__ = ["Commits"]


class Commits:
    """Publishes drafts of apps, after they have shown that they run (contract 03 §1.2 "verification run")."""

    def __init__(self, core: Core, starter: Starter, stopper: Stopper) -> None:
        self._core = core
        self._starter = starter
        self._stopper = stopper
        self._standing = Standing(core.database)

    async def commit(
        self, workspace: str, app_id: str, request: StartRequest, *, version: str | None, progress: Progress
    ) -> dict[str, Any]:
        """
        Start the draft of an app, stop it, and publish it with what it served; return its manifest.

        An app without a draft stays as it is. What is disabled, or only groups services, does not run. Raises
        ``Failed to install app …``: what a start and the artifact manager raise; BadRequest before anything runs.

        """
        try:
            return await self._commit(workspace, app_id, request, version, progress)
        except HyphaError as error:
            progress.tell(str(error), kind="error")
            raise prefixed(f"Failed to install app '{app_id}'", error) from None

    async def follow(self, app: App) -> None:
        """Let the server do what a committed app asks of it: run it always, scale it, stop it."""
        await self._standing.follow(app, app.installer())
        if app.manifest.get("disabled"):
            await self.end(app.workspace, app.id, reason="the app is disabled")

    async def rescale(self, app: App) -> None:
        """Let what runs of an app scale as its draft says, before that is committed (contract 03 §1.11)."""
        if not await self._core.sessions.of_app(app.workspace, app.id):
            return
        autoscaling = app.manifest.get("autoscaling")
        if isinstance(autoscaling, Mapping) and autoscaling.get("enabled"):
            await self._standing.set_autoscaling(app.workspace, app.id, autoscaling, app.installer())
        else:
            await self._standing.clear_autoscaling(app.workspace, app.id)

    async def end(self, workspace: str, app_id: str, *, reason: str) -> None:
        """Stop an app for good: it is not kept running any more, and what runs of it ends."""
        await self._standing.clear(workspace, app_id)
        await self._stopper.stop_app(workspace, app_id, reason=reason)

    async def replace_running(self, workspace: str, app_id: str) -> None:
        """Stop what runs of the versions of an app that was overwritten: the next ones run the new one."""
        reason = "the app was installed anew"
        await stop_kind(self._core, self._stopper, workspace, app_id, stage=False, reason=reason)

    async def _commit(
        self, workspace: str, app_id: str, request: StartRequest, version: str | None, progress: Progress
    ) -> dict[str, Any]:
        place: dict[str, Any] = {"user": request.user, "workspace": workspace, "artifact_id": f"{workspace}/{app_id}"}
        record = await self._core.store.call("read", **place, stage=True, silent=True)
        app = App.of(record, stage=True)
        if record["staging"] is None:
            return dict(app.manifest)
        StartOptions.of(app, request, check_interval_s=self._core.settings.activity_check_interval)
        if not app.manifest.get("disabled") and app.type != "application":
            progress.tell("Starting the app, to see what it serves")
            await self._try(app, request)
        progress.tell("Committing")
        committed = await self._core.store.call("commit", **place, version=version)
        await self.follow(App.of(committed))
        return dict(committed["manifest"])

    async def _try(self, app: App, request: StartRequest) -> None:
        # One that runs already shows nothing of the draft as it is now.
        reason = "its draft is being committed"
        await stop_kind(self._core, self._stopper, app.workspace, app.id, stage=True, reason=reason)
        session = await self._starter.start(app, request)
        try:
            await write_services(self._core, app, session)
        finally:
            await self._stopper.stop_quietly(session, reason="it has shown that it runs")
