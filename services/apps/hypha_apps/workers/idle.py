from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import HyphaError
from hypha_common.ids import ServiceId
from hypha_common.lazy_start import ensure_app
from hypha_common.principal import root_principal

if TYPE_CHECKING:
    from hypha_apps.registry import Registry
    from hypha_common.bus import Bus

__all__ = ["IdleWorkers"]

log = structlog.get_logger(__name__)

_TYPE = "server-app-worker"
_MAX_STARTED = 3  # in search of a worker


class IdleWorkers:
    """
    Workers that are apps themselves and do not run: started where nobody else can run an app (contract 03 §2.7).

    What runs a worker app must run already: otherwise two of them could wait for each other.

    """

    def __init__(self, bus: Bus, registry: Registry) -> None:
        self._bus = bus
        self._registry = registry

    async def started(self, workspace: str, app_type: str, app_id: str, *, sure: bool) -> AsyncIterator[str]:
        """
        Start worker apps of a workspace, one after another; yields the id of each that runs.

        ``sure``: only such as say in their manifest that they run ``app_type``; otherwise those that say nothing.
        ``app_id`` is the app that is to be run.

        """
        services = await self._declared(workspace)
        if any(service["app_id"] == app_id for service in services):
            return
        started = 0
        for service in services:
            types = _types(service)
            if started == _MAX_STARTED or (app_type in types if sure else not types) is False:
                continue
            started += 1
            worker = ServiceId.parse(str(service["id"]), default_workspace=workspace)
            try:
                if await ensure_app(self._bus, workspace, service["app_id"], worker.service):
                    yield service["app_id"]
            except HyphaError as error:
                log.info("worker_app_did_not_start", app=f"{workspace}/{service['app_id']}", error=str(error))

    async def _declared(self, workspace: str) -> list[Mapping[str, Any]]:
        """Return the worker services that manifests of apps list; some may run."""
        try:  # as root: whoever starts apps here may start all of them
            services: list[Mapping[str, Any]] = await self._registry.manager(
                "list_services", {"workspace": workspace, "type": _TYPE}, True, True,
                user=root_principal(workspace), workspace=workspace,
            )  # fmt: skip
        except HyphaError as error:  # others may be there
            log.warning("worker_apps_unknown", workspace=workspace, error=str(error))
            return []
        return [service for service in services if service.get("_source") == "app_manifest"]


def _types(service: Mapping[str, Any]) -> list[str]:
    """Return the app types that a manifest says its worker runs; none: it does not say."""
    types = service.get("supported_types") or (service.get("config") or {}).get("supported_types")
    return [kind for kind in types if isinstance(kind, str)] if isinstance(types, list) else []
