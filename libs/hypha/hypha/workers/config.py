from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .errors import WorkerError
from .record import Record

__all__ = ["WorkerConfig"]

_REQUIRED = ("workspace", "client_id", "app_id", "server_url")


class WorkerConfig(Record):
    """
    What a worker's ``start`` is given: which app to run, and what its instance connects with.

    It is a map, too (``config["token"]``), and keeps whatever else it was given, such as the ``additional_kwargs`` of a
    start. ``workspace``, ``client_id``, ``app_id`` and ``server_url`` are required.

    """

    id: str  # the session: workspace/client_id
    app_id: str
    workspace: str
    client_id: str
    token: str | None  # for that client alone
    server_url: str  # the public or the local address, as the worker's `use_local_url` says
    public_base_url: str
    local_base_url: str
    artifact_id: str  # workspace/app_id
    app_files_base_url: str  # files of the app are at {this}/{path}
    manifest: dict[str, Any]
    metadata: dict[str, Any]  # the manifest, under its older name
    app_type: str
    entry_point: str | None  # the file to run
    version: str | None
    stage: bool  # the draft of the app is to be run
    timeout: float | None  # seconds in which the session has to be up
    progress_callback: Callable[..., Any] | None  # takes {type, message}; see `BaseWorker.tell_progress`
    disable_ssl: bool

    def __init__(self, **values: Any) -> None:
        missing = [name for name in _REQUIRED if not values.get(name)]
        if missing:
            raise WorkerError(f"The configuration of a session needs {', '.join(missing)}")
        place, app_id, url = values["workspace"], values["app_id"], values["server_url"]
        manifest = values.get("manifest") or values.get("metadata") or {}
        super().__init__(
            {
                "token": None,
                "entry_point": manifest.get("entry_point"),
                "version": None,
                "stage": False,
                "timeout": None,
                "progress_callback": None,
                "disable_ssl": False,
                **values,
                "id": values.get("id") or f"{place}/{values['client_id']}",
                "public_base_url": values.get("public_base_url") or url,
                "local_base_url": values.get("local_base_url") or url,
                "artifact_id": values.get("artifact_id") or f"{place}/{app_id}",
                "app_files_base_url": values.get("app_files_base_url") or f"{url}/{place}/artifacts/{app_id}/files",
                "manifest": manifest,
                "metadata": values.get("metadata") or manifest,
                "app_type": values.get("app_type") or manifest.get("type") or "",
            }
        )

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> WorkerConfig:
        """Return what a call of ``start`` brought. Raises WorkerError where something required is missing."""
        return given if isinstance(given, cls) else cls(**given)
