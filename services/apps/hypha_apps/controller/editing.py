from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypha_apps.app import App, alias_of
from hypha_apps.errors import prefixed
from hypha_apps.installing import Commits
from hypha_apps.sources.manifests import complete_manifest
from hypha_apps.starting.options import StartOptions, StartRequest
from hypha_common.errors import BadRequest, HyphaError
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import Starter
    from hypha_apps.stopping import Stopper

__all__ = ["EditMethods"]


class EditMethods:
    """Changes what installed apps are, and removes them (contract 03 §1.2, §1.11)."""

    def __init__(self, core: Core, starter: Starter, stopper: Stopper) -> None:
        self._store = core.store
        self._check_interval_s = core.settings.activity_check_interval
        self._commits = Commits(core, starter, stopper)

    @rpc_method
    async def edit_app(
        self,
        app_id: str,
        manifest: dict[str, Any] | None = None,
        disabled: bool | None = None,
        autoscaling_config: dict[str, Any] | None = None,
        autoscaling_manifest: dict[str, Any] | None = None,
        startup_config: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        *,
        context: Caller,
    ) -> None:
        """
        Change the draft of an app, which `commit_app` publishes.

        Args:
            app_id: The app.
            manifest: What to change in its manifest; the rest stays.
            disabled: Whether it must not be started. If so, what runs of it is stopped at once.
            autoscaling_config: How it scales; an empty map: not at all. What runs scales by it at once.
            autoscaling_manifest: The same as `autoscaling_config`.
            startup_config: How it is started; an empty map: as by default.
            config: The same as `manifest`.

        """
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        autoscaling = autoscaling_manifest if autoscaling_config is None else autoscaling_config
        changes: dict[str, Any] = {}
        for name, given in (("manifest", config), ("manifest", manifest)):
            changes.update(_map(name, given))
        if disabled is not None:
            changes["disabled"] = bool(disabled)
        if autoscaling is not None:
            changes["autoscaling"] = _map("autoscaling_config", autoscaling) or None
        if startup_config is not None:
            changes["startup_config"] = _map("startup_config", startup_config) or None
        alias = alias_of(app_id, context.workspace)
        try:
            app = await self._change(alias, changes, context)
        except HyphaError as error:
            raise prefixed(f"Failed to edit app '{app_id}'", error) from None
        if app.manifest.get("disabled"):
            await self._commits.end(app.workspace, app.id, reason="the app is disabled")
        elif autoscaling is not None:
            await self._commits.rescale(app)

    async def _change(self, alias: str, changes: Mapping[str, Any], context: Caller) -> App:
        """Change the manifest of a draft; return the app as the draft has it. Raises BadRequest."""
        place: dict[str, Any] = {
            "user": context.principal, "workspace": context.workspace, "artifact_id": f"{context.workspace}/{alias}",
        }  # fmt: skip
        app = App.of(await self._store.call("read", **place, stage=True, silent=True), stage=True)
        manifest = complete_manifest({**app.manifest, **changes, "id": alias})
        changed = replace(app, manifest=manifest)
        StartOptions.of(changed, StartRequest(context.principal), check_interval_s=self._check_interval_s)
        return App.of(await self._store.call("edit", **place, manifest=manifest, stage=True), stage=True)

    @rpc_method
    async def uninstall(self, app_id: str, *, context: Caller) -> None:
        """
        Remove an app and stop what runs of it. Of a committed app with a draft only the draft goes.

        Args:
            app_id: The app.

        """
        workspace, alias = context.workspace, alias_of(app_id, context.workspace)
        authorize(context.principal, Permission.READ_WRITE, workspace)
        place: dict[str, Any] = {
            "user": context.principal, "workspace": workspace, "artifact_id": f"{workspace}/{alias}",
        }  # fmt: skip
        record = await self._store.call("read", **place, stage=True, silent=True)
        App.of(record, stage=True)
        if record["staging"] is not None and record["versions"]:
            published = await self._store.call("discard", **place)
            await self._commits.follow(App.of(published))
            return
        await self._store.call("delete", **place)
        await self._commits.end(workspace, alias, reason="the app was uninstalled")


def _map(name: str, given: object) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadRequest(f"{name} must be a map")
    return dict(given)
