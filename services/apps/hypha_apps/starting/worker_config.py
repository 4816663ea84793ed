from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypha_apps.app import App
    from hypha_apps.session import Session
    from hypha_apps.workers import Worker
    from hypha_common.settings import Settings

    from .options import StartOptions

__all__ = ["worker_config"]


def worker_config(
    settings: Settings, app: App, session: Session, worker: Worker, token: str, options: StartOptions,
    progress: Callable[[Any], None] | None,
) -> dict[str, Any]:  # fmt: skip
    """Return what a worker's ``start`` is given: the union of what workers of all generations read (03 §2.4)."""
    public = settings.public_base_url
    local = settings.gateway_url or settings.local_base_url
    if isinstance(worker.use_local_url, str):
        server_url = worker.use_local_url
    else:
        server_url = local if worker.use_local_url else public
    manifest = dict(app.manifest)
    return {
        "id": session.id,
        "app_id": app.id,
        "workspace": app.workspace,
        "client_id": session.client_id,
        "token": token,
        "server_url": server_url,
        "public_base_url": public,
        "local_base_url": local,
        "app_type": app.type,
        "version": app.version,
        "stage": app.stage,
        "entry_point": manifest.get("entry_point"),
        "timeout": int(options.timeout_s),
        "artifact_id": app.artifact_id,
        "app_files_base_url": f"{server_url}/{app.workspace}/artifacts/{app.id}/files",
        "manifest": manifest,
        "metadata": manifest,
        "user": session.starter.parent or session.starter.id,
        "disable_ssl": False,
        "progress_callback": progress,
        **options.additional,
    }
