from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, HyphaError, NotFound, PermissionDenied
from hypha_common.ids import DEFAULT_SERVER_ID, PUBLIC_WORKSPACE, Address, ServiceId
from hypha_common.principal import Permission, Principal

from .selection import Mode, best, is_load_balanced, least_loaded, native_or_any, read_mode
from .services import Order, ServiceInfo, ServiceRow

if TYPE_CHECKING:
    from hypha_workspace.manager.providers import Providers

    from .gateways import Gateways
    from .services import Services

__all__ = ["Resolver"]

_MAX_CANDIDATES = 1000
_MAX_ASKED = 200
_SHOWN = 5  # candidates in an error text
_ASKED_AT_ONCE = 5

# Modes that the database decides; the others look at all candidates.
_ORDERED: dict[str, Order] = {"first": "first", "last": "last", "random": "random"}


class Resolver:
    """Finds the one service that a caller means: forms of contract 01 §3.7, modes and visibility of §3.8."""

    def __init__(
        self, services: Services, gateways: Gateways, providers: Providers, *, startup_client: str = DEFAULT_SERVER_ID
    ) -> None:
        self._services = services
        self._gateways = gateways
        self._providers = providers
        self._startup_client = startup_client

    async def resolve(
        self,
        service_id: str,
        *,
        principal: Principal,
        workspace: str,
        gateway: str = "",
        mode: str | None = None,
        select_timeout_s: float = 2.0,
    ) -> ServiceInfo:
        """
        Return the ServiceInfo of the selected service, of those that the caller may see.

        ``workspace`` is the caller's context, ``gateway`` where he is connected (for ``native:random``). A list of
        authorized workspaces is hidden where it is what lets the caller in. Raises NotFound, BadRequest,
        PermissionDenied with the contract's texts. ``~`` (the manager) is not resolved here.

        """
        wanted = ServiceId.parse(service_id, default_workspace=workspace)
        if wanted.workspace == "*":
            raise BadRequest(
                "You must specify a workspace for the service query, otherwise please call list_services to find the "
                "service.",
                rpc_type="AssertionError",
            )
        if wanted.service == "*":
            raise BadRequest(f"Service id must name a service: {service_id}", rpc_type="AssertionError")
        how = read_mode(mode, workspace=wanted.workspace)
        readable = principal.permission(wanted.workspace) >= Permission.READ
        rows = await self._candidates(wanted, how, None if readable else workspace)
        if not rows:
            raise await self._nothing(wanted, readable)
        row = await self._choose(rows, wanted, how, gateway, select_timeout_s)
        if not readable:
            row.info["config"]["authorized_workspaces"] = None
        return row.info

    async def _candidates(self, wanted: ServiceId, how: Mode, own_workspace: str | None) -> list[ServiceRow]:
        # Startup functions may serve what a role serves, such as hypha-login; nobody else may pass for a role.
        startup = self._startup_client if wanted.workspace == PUBLIC_WORKSPACE and wanted.client == "*" else ""
        if how.kind in _ORDERED:
            return await self._services.find(
                wanted, order=_ORDERED[how.kind], limit=1, own_workspace=own_workspace, startup_client=startup
            )
        limit = _SHOWN if how.kind == "exact" else _MAX_CANDIDATES
        order: Order = "first"
        if how.kind == "select" and how.criteria != "first_success":
            order, limit = "random", _MAX_ASKED
        return await self._services.find(
            wanted, order=order, limit=limit, own_workspace=own_workspace, startup_client=startup
        )

    async def _nothing(self, wanted: ServiceId, readable: bool) -> HyphaError:
        """Tell an absent service from one that the caller may not see."""
        if not readable and await self._services.find(wanted, limit=1):
            return PermissionDenied(f"Permission denied for non-public service in workspace {wanted.workspace}")
        return NotFound(f"Service not found: {wanted}")

    async def _choose(
        self, rows: list[ServiceRow], wanted: ServiceId, how: Mode, gateway: str, select_timeout_s: float
    ) -> ServiceRow:
        if len(rows) == 1:
            return rows[0]
        if how.kind == "exact":
            raise BadRequest(
                f"Multiple services found for {wanted}, e.g. {[str(row.id) for row in rows]}. You can either specify "
                "the mode as 'random', 'first', 'last', 'native:random', or use 'select:criteria:function' format.",
                rpc_type="AssertionError",
            )
        if how.kind == "min_load":
            return await self._least_loaded(rows, wanted.workspace)
        at = [(row, row.gateway) for row in rows]
        if how.kind == "select":
            chosen = await self._ask(rows, how, select_timeout_s)
            return chosen if chosen is not None else native_or_any(at, "")
        return native_or_any(at, gateway)

    async def _least_loaded(self, rows: list[ServiceRow], workspace: str) -> ServiceRow:
        counted = [row.gateway for row in rows if is_load_balanced(row.id.client)]
        load = await self._gateways.load(workspace, counted) if counted else {}
        return least_loaded([(row, f"{row.id.workspace}/{row.id.client}") for row in rows], load)

    async def _ask(self, rows: list[ServiceRow], how: Mode, timeout_s: float) -> ServiceRow | None:
        """Call the function at every candidate; those that lack it, fail or are silent do not take part."""

        async def ask(row: ServiceRow) -> tuple[ServiceRow, Any] | None:
            method = f"services.{row.id.service}.{how.function}"
            try:
                return row, await self._providers.call(
                    Address(row.id.workspace, row.id.client), method, timeout=timeout_s
                )
            except HyphaError:
                return None

        assert how.criteria is not None
        if how.criteria == "first_success":
            for start in range(0, len(rows), _ASKED_AT_ONCE):
                answers = await asyncio.gather(*map(ask, rows[start : start + _ASKED_AT_ONCE]))
                if chosen := best([answer for answer in answers if answer is not None], how.criteria):
                    return chosen
            return None
        answers = await asyncio.gather(*map(ask, rows))
        return best([answer for answer in answers if answer is not None], how.criteria)
