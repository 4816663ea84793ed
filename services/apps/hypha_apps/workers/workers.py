from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import HyphaError, NotFound
from hypha_common.ids import PUBLIC_WORKSPACE, ServiceId
from hypha_common.principal import root_principal

from .worker import Worker

if TYPE_CHECKING:
    from hypha_apps.registry import Registry
    from hypha_common.rpc.host import RoleHost

__all__ = ["Workers"]

log = structlog.get_logger(__name__)

_TYPE = "server-app-worker"
_DESCRIBE_TIMEOUT_S = 5.0


class Workers:
    """Finds workers: those of a workspace, else the cluster's own in ``public`` (contract 03 §2.7)."""

    def __init__(self, host: RoleHost, registry: Registry) -> None:
        self._host = host
        self._registry = registry

    async def choose(self, workspace: str, app_type: str, mode: str | None) -> Worker:
        """Return a worker that runs apps of this type. Raises NotFound (WorkerNotFoundError)."""
        for place in dict.fromkeys((workspace, PUBLIC_WORKSPACE)):
            fitting = [worker for worker in await self.of(place) if app_type in worker.supported_types]
            if fitting:
                return random.choice(fitting)
        raise NotFound(f"No server app worker found for app type: {app_type}", rpc_type="WorkerNotFoundError")

    async def of(self, workspace: str) -> list[Worker]:
        """Return the workers of a workspace that answer."""
        # As root: those of `public` are protected, and run everybody's apps all the same.
        infos: list[dict[str, Any]] = await self._registry.manager(
            "list_services", {"workspace": workspace, "type": _TYPE}, user=root_principal(workspace),
            workspace=workspace,
        )  # fmt: skip
        ids = [ServiceId.parse(info["id"], default_workspace=workspace) for info in infos]
        found = await asyncio.gather(*(self._describe(id) for id in ids))
        return [worker for worker in found if worker is not None]

    async def get(self, service_id: ServiceId) -> Worker:
        """Return a worker by its id. Raises NotFound where it does not answer."""
        worker = await self._describe(service_id)
        if worker is None:
            raise NotFound(f"Worker {service_id.full} is not available", rpc_type="WorkerNotFoundError")
        return worker

    async def _describe(self, service_id: ServiceId) -> Worker | None:
        """Ask a worker what it is; None where it does not say."""
        workspace = service_id.workspace
        try:
            encoded = await self._host.peer.call(
                f"{workspace}/{service_id.client}",
                "services.built-in.get_service",
                service_id.service,
                sender=await self._host.sender_in(workspace),
                workspace=workspace,
                timeout=_DESCRIBE_TIMEOUT_S,
                decode=False,
            )
        except HyphaError as error:
            log.info("worker_does_not_answer", worker=service_id.full, error=str(error))
            return None
        return Worker.of(service_id, encoded) if isinstance(encoded, dict) else None
