from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_apps.app import alias_of
from hypha_apps.errors import StartFailed
from hypha_apps.installing import AppDrafts, Commits, Installer, Order, Turns
from hypha_apps.sources.manifests import base_manifest
from hypha_apps.starting import StartRequest
from hypha_apps.starting.progress import Progress
from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.ids import ServiceId
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import Starter
    from hypha_apps.stopping import Stopper

__all__ = ["InstallMethods"]

_APP_ID = re.compile(r"[A-Za-z0-9_-]*")


class InstallMethods:
    """Installing apps, and committing them (contract 03 §1.2, §1.3)."""

    def __init__(self, core: Core, starter: Starter, stopper: Stopper) -> None:
        self._core = core
        self._starter = starter
        self._drafts = AppDrafts(core)
        self._commits = Commits(core, starter, stopper)
        self._turns = Turns(core.database, core.bus.instance)
        self._installer = Installer(core, self._drafts, self._commits, self._turns)

    @rpc_method
    async def install(
        self,
        source: str | None = None,
        manifest: dict[str, Any] | None = None,
        app_id: str | None = None,
        config: dict[str, Any] | None = None,
        files: list[dict[str, Any]] | None = None,
        stop_after_inactive: float | None = None,
        wait_for_service: str | bool | None = None,
        workspace: str | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
        version: str | None = None,
        stage: bool = False,
        progress_callback: Callable[..., Any] | None = None,
        additional_kwargs: dict[str, Any] | None = None,
        worker_id: str | None = None,
        worker_selection_mode: str | None = None,
        artifact_id: str | None = None,
        source_hash: str | None = None,
        detached: bool = False,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Install an app and return its manifest. It is started and stopped once, to see that it runs and what it serves.

        Args:
            source: Code, a page, tags with a `<config>`, or an https address.
            manifest: What the app is: at least its `type`.
            app_id: Its id in the workspace; by default four random words.
            config: Another word for `manifest`.
            files: Further files, `{name, content, format}`; the format is `text`, `json` or `base64`.
            stop_after_inactive: Seconds without use after which it is stopped, 600 by default, 0 for never.
            wait_for_service: The service that makes it running, `default` by default; False for none.
            workspace: A workspace that you may write to; the app is installed in the one you are connected to.
            overwrite: Whether to replace an app of the same id.
            timeout: Seconds until it has to be up, 60 by default.
            version: The name of the version; by default `v0`, `v1`, and so on.
            stage: Whether to leave it a draft, which `commit_app` tries and publishes.
            progress_callback: A function that is called with `{type, message}`.
            additional_kwargs: More for the worker's configuration.
            worker_id: The worker that shall prepare and run it.
            worker_selection_mode: How one of several workers is chosen.
            artifact_id: Instead of a source: an app to copy; then its artifact is returned.
            source_hash: What the hash of the source has to be.
            detached: The same as `wait_for_service=False`.

        """
        place = workspace or context.workspace
        _check_rights(context, place)
        if config is not None and manifest is not None:
            raise BadRequest("Cannot specify both 'manifest' and 'config': they are the same")
        progress = Progress(progress_callback)
        order = Order(
            user=context.principal,
            workspace=context.workspace,
            app_id=_app_id(app_id),
            overwrite=bool(overwrite),
            version=version,
            stage=bool(stage),
            startup={
                "timeout": timeout,
                "wait_for_service": False if detached else wait_for_service,
                "stop_after_inactive": stop_after_inactive,
                "additional_kwargs": additional_kwargs,
            },
            request=StartRequest(
                context.principal,
                worker_id=_worker_id(worker_id, place),
                worker_selection_mode=worker_selection_mode,
                progress=progress_callback,
            ),
            progress=progress,
        )
        if artifact_id is not None:
            return dict(await self._installer.from_artifact(order, artifact_id))
        said: Mapping[str, Any] | None = config if manifest is None else manifest
        if source_hash is not None:
            said = {**base_manifest(said), "source_hash": source_hash}
        return await self._installer.from_source(order, source, said, files)

    @rpc_method
    async def commit_app(
        self,
        app_id: str,
        timeout: float | None = None,
        version: str | None = None,
        stop_after_inactive: float | None = None,
        wait_for_service: str | bool | None = None,
        additional_kwargs: dict[str, Any] | None = None,
        progress_callback: Callable[..., Any] | None = None,
        worker_id: str | None = None,
        detached: bool = False,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Try the draft of an app and publish it; return its manifest. Of a draft that does not start nothing is left.

        Args:
            app_id: The app.
            timeout: Seconds until it has to be up, 60 by default.
            version: The name of the version; by default `v0`, `v1`, and so on.
            stop_after_inactive: Seconds without use after which this run would be stopped.
            wait_for_service: The service that makes it running, `default` by default; False for none.
            additional_kwargs: More for the worker's configuration.
            progress_callback: A function that is called with `{type, message}`.
            worker_id: The worker that shall run it.
            detached: The same as `wait_for_service=False`.

        """
        _check_rights(context, context.workspace)
        alias = alias_of(app_id, context.workspace)
        request = StartRequest(
            context.principal,
            timeout=timeout,
            wait_for_service=False if detached else wait_for_service,
            stop_after_inactive=stop_after_inactive,
            additional_kwargs=additional_kwargs,
            worker_id=_worker_id(worker_id, context.workspace),
            progress=progress_callback,
        )
        async with self._turns.take(context.workspace, alias):
            try:
                return await self._commits.commit(
                    context.workspace, alias, request, version=version, progress=Progress(progress_callback)
                )
            except StartFailed:
                await self._drafts.drop(alias, context.workspace)
                raise

    @rpc_method
    async def launch(
        self,
        source: str,
        timeout: float = 60,
        config: dict[str, Any] | None = None,
        overwrite: bool = False,
        wait_for_service: str | bool | None = None,
        detached: bool = False,
        stop_after_inactive: float | None = None,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Install an app and start it; return its session.

        Args:
            source: As for `install`.
            timeout: Seconds until it has to be up.
            config: Its manifest.
            overwrite: Whether to replace an app of the same id.
            wait_for_service: The service that makes it running, `default` by default; False for none.
            detached: The same as `wait_for_service=False`.
            stop_after_inactive: Seconds without use after which it is stopped, 600 by default, 0 for never.

        """
        manifest = await self.install(
            source, config, overwrite=overwrite, timeout=timeout, wait_for_service=wait_for_service,
            detached=detached, stop_after_inactive=stop_after_inactive,
            app_id=(config or {}).get("id"), context=context,
        )  # fmt: skip
        app = await self._core.apps.read(context.workspace, manifest["id"], user=context.principal)
        session = await self._starter.start(app, StartRequest(context.principal))
        return session.shown()


def _check_rights(context: Caller, workspace: str) -> None:
    """Raise PermissionDenied unless somebody may install apps, both where they say and where they are."""
    if context.principal.is_anonymous:
        raise PermissionDenied("Anonymous users cannot install apps")
    for place in dict.fromkeys((workspace, context.workspace)):
        try:
            authorize(context.principal, Permission.READ_WRITE, place)
        except PermissionDenied:
            raise PermissionDenied(
                f"User {context.principal.id} does not have permission to install apps in workspace {place}"
            ) from None


def _app_id(given: object) -> str | None:
    """Return the id that somebody wants for an app; None: any. Raises BadRequest."""
    if given is None:
        return None
    if not isinstance(given, str) or not _APP_ID.fullmatch(given):
        raise BadRequest(f"app_id {given!r:.80} is not a valid string: it may have letters, digits, '-' and '_'")
    return given or None


def _worker_id(given: str | None, workspace: str) -> str | None:
    """Return the full id of a worker that somebody names. Raises BadRequest."""
    return None if given is None else ServiceId.parse(given, default_workspace=workspace).full
