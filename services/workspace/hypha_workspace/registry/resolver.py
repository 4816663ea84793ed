from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, HyphaError, NobodyServes, NotFound, PermissionDenied, Unavailable
from hypha_common.ids import DEFAULT_SERVER_ID, PUBLIC_WORKSPACE, Address, ServiceId
from hypha_common.principal import Permission, Principal
from hypha_common.selection import Mode, best, is_load_balanced, least_loaded, native_or_any, read_mode

from .applications import Application, Instances, ListedService
from .conditions import is_glob
from .idle import NotRunning
from .services import Order, ServiceInfo, ServiceRow

if TYPE_CHECKING:
    from hypha_workspace.manager.providers import Providers

    from .applications import Applications
    from .gateways import Gateways
    from .services import Services

__all__ = ["Resolver"]

_MAX_CANDIDATES = 1000
_MAX_ASKED = 200
_SHOWN = 5  # candidates in an error text
_ASKED_AT_ONCE = 5

# Modes that the database decides; the others look at all candidates.
_ORDERED: dict[str, Order] = {"first": "first", "last": "last", "random": "random"}


@dataclass(frozen=True, slots=True)
class _Found:
    """How to choose of what; ``application`` only where its manifest had to be asked."""

    how: Mode
    rows: list[ServiceRow]
    application: Application | None = None
    why_not: str = ""


class Resolver:
    """
    Finds the one service that a caller means: forms of contract 01 §3.7, modes and visibility of §3.8, applications
    of contract 03 §3.

    """

    def __init__(
        self,
        services: Services,
        gateways: Gateways,
        providers: Providers,
        applications: Applications,
        *,
        startup_client: str = DEFAULT_SERVER_ID,
    ) -> None:
        self._services = services
        self._gateways = gateways
        self._providers = providers
        self._applications = applications
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
        PermissionDenied with the contract's texts; NotRunning where the manifest of an application lists what the
        caller may use and nobody serves. ``~`` (the manager) is not resolved here.

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
        readable = principal.permission(wanted.workspace) >= Permission.READ
        own_workspace = None if readable else workspace
        if wanted.app == "*":
            how = read_mode(mode, workspace=wanted.workspace)
            found = _Found(how, await self._candidates(wanted, how, own_workspace))
        else:
            found = await self._of_application(wanted, mode, own_workspace)
        if not found.rows and not readable and (hidden := await self._candidates(wanted, found.how, None)):
            # Unless it was registered at this very moment.
            found = replace(found, rows=[row for row in hidden if _is_shown(row, workspace)])
            if not found.rows:
                raise _denied(wanted)
        if not found.rows:
            raise _nothing(wanted, found, own_workspace)
        row = await self._choose(found.rows, wanted, found.how, gateway, select_timeout_s)
        if not readable:
            row.info["config"]["authorized_workspaces"] = None
        return row.info

    async def _of_application(self, wanted: ServiceId, mode: str | None, own_workspace: str | None) -> _Found:
        """Find the candidates of ``name@app``. The manifest is asked only where it makes a difference."""
        how = read_mode(mode or "exact", workspace=wanted.workspace)
        rows = await self._candidates(wanted, how, own_workspace)
        if len(rows) == 1 or (rows and mode):
            return _Found(how, rows)
        try:
            application = await self._applications.find(wanted.workspace, wanted.app)
        except Unavailable as error:
            if not rows and not isinstance(error, NobodyServes):
                raise  # there may be one that can be started
            application, why_not = None, ""
        else:
            why_not = _why_not(wanted, application)
        selection_mode = None if application is None else application.selection_mode
        how = read_mode(mode or selection_mode or None, workspace=wanted.workspace)
        if rows:
            return _Found(how, await self._candidates(wanted, how, own_workspace))
        for instances in () if application is None else application.stand_ins(wanted.service):
            if rows := await self._candidates(wanted, how, own_workspace, instances):
                break
        return _Found(how, rows, application, why_not)

    async def _candidates(
        self, wanted: ServiceId, how: Mode, own_workspace: str | None, among: Instances | None = None
    ) -> list[ServiceRow]:
        # Startup functions may serve what a role serves, such as hypha-login; nobody else may pass for a role.
        startup = self._startup_client if wanted.workspace == PUBLIC_WORKSPACE and wanted.client == "*" else ""
        limit = _SHOWN if how.kind == "exact" else _MAX_CANDIDATES
        order: Order = "first"
        if how.kind in _ORDERED:
            order, limit = _ORDERED[how.kind], 1
        elif how.kind == "select" and how.criteria != "first_success":
            order, limit = "random", _MAX_ASKED
        return await self._services.find(
            wanted, order=order, limit=limit, own_workspace=own_workspace, startup_client=startup, among=among
        )

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


def _is_shown(row: ServiceRow, own_workspace: str) -> bool:
    config = row.info["config"]
    return ListedService(None, config["visibility"], config["authorized_workspaces"]).is_open_to(own_workspace)


def _nothing(wanted: ServiceId, found: _Found, own_workspace: str | None) -> HyphaError:
    """Tell an absent service from one that does not run, and from one that the caller may not have started."""
    member = own_workspace is None
    text = f"Service not found: {wanted}{found.why_not if member else ''}"
    application = found.application
    listed = None if application is None else application.services.get(wanted.service)
    if application is None or listed is None or wanted.client != "*" or is_glob(wanted.service):
        return NotFound(text)
    if own_workspace is None or listed.is_open_to(own_workspace):
        return NotRunning(
            text, workspace=wanted.workspace, app=wanted.app, service=wanted.service,
            startable=application.startable, member=member,
        )  # fmt: skip
    return _denied(wanted) if application.startable else NotFound(text)


def _denied(wanted: ServiceId) -> PermissionDenied:
    return PermissionDenied(f"Permission denied for non-public service in workspace {wanted.workspace}")


def _why_not(wanted: ServiceId, application: Application | None) -> str:
    """Return what an error text says besides, where nothing runs that stands for ``name@app``."""
    if application is None:
        return f" (Application id `{wanted.app}` not found in workspace {wanted.workspace})"
    if wanted.service not in application.services:
        return f" (Service id `{wanted.service}` not found in application `{wanted.app}`)"
    return ""
