from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.operating import gateways_there
from hypha_common.roll_call import call_roll
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .backend import check_admin

if TYPE_CHECKING:
    from .backend import AdminBackend

__all__ = ["OverviewMethods"]

_LIMITS = (
    "max_connections_per_user",
    "max_clients_per_workspace",
    "max_services_per_client",
    "max_workspaces_per_user",
)


class OverviewMethods:
    """What there is, in numbers."""

    def __init__(self, backend: AdminBackend) -> None:
        self._backend = backend

    @rpc_method
    async def list_servers(self, *, context: Caller) -> list[dict[str, Any]]:
        """List the processes of the cluster that are there: gateways, and replicas of every service."""
        check_admin(context)
        return await call_roll(self._backend.bus)

    @rpc_method
    async def get_metrics(self, *, context: Caller) -> dict[str, Any]:
        """Count processes, connections, clients, services, loaded workspaces and queued tasks."""
        check_admin(context)
        processes = await call_roll(self._backend.bus)
        by_role: dict[str, int] = {}
        for process in processes:
            by_role[process["role"]] = by_role.get(process["role"], 0) + 1
        connections = sum(process.get("connections", 0) for process in processes)
        return {"processes": by_role, "connections": connections, **await self._backend.usage.totals()}

    @rpc_method
    async def get_resource_usage(self, *, context: Caller) -> dict[str, Any]:
        """
        Count connections by user and by workspace, and services by client, and return the limits.

        Of each kind the thousand with the most are told. Each connection has a rate limiter.

        """
        check_admin(context)
        gateways = await gateways_there(self._backend.bus)
        limits = {name: getattr(self._backend.settings, name) for name in _LIMITS}
        return {
            **await self._backend.usage.counts(),
            "active_rate_limiters": sum(gateway["connections"] for gateway in gateways),
            "limits": {**limits, **(gateways[0]["limits"] if gateways else {})},
        }
