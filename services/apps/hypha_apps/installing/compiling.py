from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_apps.errors import prefixed
from hypha_apps.sources.files import read_files
from hypha_apps.sources.reading import AppSource
from hypha_common.errors import BadRequest, HyphaError
from hypha_common.rpc.remote import RemoteError

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import StartRequest
    from hypha_apps.starting.progress import Progress
    from hypha_apps.workers import Worker
    from hypha_common.principal import Principal

__all__ = ["Compiler"]

_TIMEOUT_S = 120.0


class Compiler:
    """Lets the worker that will run an app prepare it: its ``compile``, if it has one (contract 03 §2.2)."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def worker_for(self, app_type: str, workspace: str, request: StartRequest) -> Worker:
        """Return the worker that is named, else one that fits. Raises as :meth:`Workers.choose`."""
        return await self._core.workers.choose(
            workspace, app_type, request.worker_selection_mode, worker_id=request.worker_id
        )

    async def compile(
        self, worker: Worker, source: AppSource, *, user: Principal, workspace: str, progress: Progress
    ) -> AppSource:
        """Return what the worker makes of an app. Raises ``Worker compilation failed: …``, BadRequest mostly."""
        if not worker.has("compile"):
            return source
        settings = self._core.settings
        progress.tell(f"Compiling with worker {worker.name}")
        config = {
            "server_url": settings.gateway_url or settings.local_base_url,
            "public_url": settings.public_base_url,
            "workspace": workspace,
            "user": user.parent or user.id,
            "progress_callback": progress.relay,
        }
        try:
            answer = await self._core.calls.call(
                worker.service_id, "compile", source.manifest, source.files, config, timeout_s=_TIMEOUT_S
            )
            manifest, files = _read(answer)
        except RemoteError as error:
            # What is wrong with an app its author can mend, whatever the worker calls that.
            raise BadRequest(f"Worker compilation failed: {error.message}") from None
        except HyphaError as error:
            raise prefixed("Worker compilation failed", error) from None
        return AppSource({**source.manifest, **manifest}, files)


def _read(answer: Any) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    if not isinstance(answer, (list, tuple)) or len(answer) != 2 or not isinstance(answer[0], Mapping):
        raise BadRequest("the worker did not return a manifest and files")
    return answer[0], read_files(answer[1])
