from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, NotSupported, PeerNotFound, QuotaExceeded
from hypha_common.ids import Address, ServiceId
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import Packed, rpc_method
from hypha_common.wire import pack
from hypha_workspace.registry.idle import IdleServices, NotRunning
from hypha_workspace.registry.services import MAX_LISTED

from .bounds import check_text
from .case_conversion import CaseConversion, check_case, convert_case
from .service_query import read_query
from .waking import START_TIMEOUT_S, wake

if TYPE_CHECKING:
    from hypha_common.rpc.service import Service

    from .backend import Backend

__all__ = ["LookupMethods", "LookupOptions"]

MAX_FETCH_TIMEOUT_S = 300.0
MAX_QUERY_BYTES = 2048
_GONE_PAUSES_S = (0.1, 0.3)  # until what is gone is not registered any more


@dataclass(frozen=True, slots=True)
class LookupOptions:
    """The ``config`` of ``get_service`` and ``get_service_info`` (GetServiceConfig, contract 01 §3.1)."""

    mode: str | None = None
    timeout_s: float = 10.0  # of asking the provider
    start_timeout_s: float = START_TIMEOUT_S  # of having an app started, before that
    select_timeout_s: float = 2.0
    case_conversion: CaseConversion | None = None
    read_app_manifest: bool = False

    @classmethod
    def read(cls, config: Mapping[str, Any] | None) -> LookupOptions:
        """Check what a client sent; unknown keys are ignored. Raises BadRequest."""
        config = config or {}
        mode = config.get("mode")
        if mode is not None and not isinstance(mode, str):
            raise BadRequest(f"Invalid mode: {mode}")
        return cls(
            mode=mode or None,
            timeout_s=_seconds(config.get("timeout"), "timeout", 10.0),
            start_timeout_s=_seconds(config.get("timeout"), "timeout", START_TIMEOUT_S),
            select_timeout_s=_seconds(config.get("select_timeout"), "select_timeout", 2.0),
            case_conversion=check_case(config.get("case_conversion")),
            read_app_manifest=config.get("read_app_manifest") is True,
        )


class LookupMethods:
    """Finds services and hands them out."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._base_url = backend.settings.public_base_url
        self._idle = IdleServices(backend.applications)
        self.manager: Service | None = None  # set once the manager is composed: `~` is the manager itself

    @rpc_method
    async def get_service(self, service_id: str, config: dict[str, Any] | None = None, *, context: Caller) -> Packed:
        """
        Return a service: its methods can be called.

        An app that is installed and does not run is started, if you may use that service of it; that takes as long as
        it takes.

        Args:
            service_id: `service`, `client:service`, `workspace/service` or `workspace/client:service`, each with
                `@app` if only services of an application are meant; `~` is the workspace manager.
            config: A map with any of `mode` (`random`, `first`, `last`, `exact`, `min_load`, `native:random` or
                `select:min|max|first_success:function`), `timeout` (of a start, then of asking the provider) and
                `select_timeout`, in seconds, and `case_conversion` (`camel` or `snake`).

        """
        options = LookupOptions.read(config)
        if _is_manager(service_id):
            service = self._manager.encoded(str(context.target), self._base_url)
            service["id"] = "~"
        else:
            info, service = await self._find(service_id, options, context)
            # The provider shows it to everybody; who else is let in is not a guest's business.
            if info["config"].get("authorized_workspaces") is None:
                service["config"].pop("authorized_workspaces", None)
        if options.case_conversion is not None:
            service = convert_case(service, options.case_conversion)
        return Packed(pack(service))

    @rpc_method
    async def get_service_info(
        self, service_id: str, config: dict[str, Any] | None = None, *, context: Caller
    ) -> dict[str, Any]:
        """
        Return what is registered about a service. Nothing is started.

        Args:
            service_id: As for `get_service`.
            config: A map with any of `mode` and `select_timeout`, as for `get_service`, and `read_app_manifest`:
                whether to return what the manifest of an app says of the service where nobody serves it.

        """
        options = LookupOptions.read(config)
        if _is_manager(service_id):
            return {**self._manager.info(str(context.target)), "id": "~"}
        try:
            return await self._resolve(service_id, options, context)
        except NotRunning as error:
            if not options.read_app_manifest:
                raise
            return await self._idle.info(error)

    @rpc_method
    async def list_services(
        self,
        query: str | dict[str, Any] | None = None,
        include_unlisted: bool = False,
        include_app_services: bool = False,
        prioritize_running_services: bool = False,
        *,
        context: Caller,
    ) -> Packed:
        """
        List the services that you may see.

        Args:
            query: A workspace, a service id with `*` for any part, or a map with any of `workspace`, `client_id`,
                `service_id` (or `id`), `type`, `app_id` and `visibility`; your own workspace by default, `*` for the
                public services of all workspaces.
            include_unlisted: Whether to list unlisted services of your own workspace, too.
            include_app_services: Whether to list what the manifests of applications say of their services, too, with
                `*` for the client; for `*`, of those in your own workspace.
            prioritize_running_services: Whether to leave out what manifests say of services that are listed anyway.

        """
        own = context.workspace
        wanted = read_query(query, own_workspace=own, include_unlisted=include_unlisted)
        concerned = own if wanted.all_workspaces else wanted.workspace
        readable = context.principal.permission(concerned) >= Permission.READ
        services = self._backend.stores.services
        if not include_app_services:
            # It may be thousands of maps: they go from the database to the client as they were stored.
            return Packed(await services.select_packed(wanted, own_workspace=own, readable=readable))
        found = await services.select(wanted, own_workspace=own, readable=readable)
        running = {_served(info) for info in found} if prioritize_running_services else set()
        async for info in self._idle.select(wanted, workspace=concerned, own_workspace=own, readable=readable):
            if _served(info) not in running:
                found.append(info)
            if len(found) > MAX_LISTED:
                raise QuotaExceeded(f"More than {MAX_LISTED} services match; ask for fewer")
        return Packed(pack(found))

    @rpc_method
    async def search_services(
        self,
        query: Any = None,
        filters: Any = None,
        limit: int = 5,
        offset: int = 0,
        return_fields: Any = None,
        order_by: Any = None,
        pagination: bool = False,
        include_unlisted: bool = False,
        *,
        context: Caller,
    ) -> None:
        """
        Search services by meaning, where the server offers it.

        Args:
            query: A text or a vector.
            filters: A map of fields and the values they must have.
            limit: The greatest number of results.
            offset: How many results to skip.
            return_fields: The fields to return.
            order_by: The field to order by.
            pagination: Whether to return the total, too.
            include_unlisted: Whether to search unlisted services, too.

        """
        raise NotSupported("Service search is not enabled.", rpc_type="RuntimeError")

    @property
    def _manager(self) -> Service:
        assert self.manager is not None
        return self.manager

    async def _resolve(self, service_id: str, options: LookupOptions, context: Caller) -> dict[str, Any]:
        return await self._backend.resolver.resolve(
            check_text(service_id, "Service id", max_bytes=MAX_QUERY_BYTES),
            principal=context.principal,
            workspace=context.workspace,
            gateway=context.gateway,
            mode=options.mode,
            select_timeout_s=options.select_timeout_s,
        )

    async def _find(
        self, service_id: str, options: LookupOptions, context: Caller
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        Return what is registered about a service, and the service as its provider encodes it.

        An instance of an app may be gone while it is still registered: then another one is found, or started.

        """
        for pause_s in (*(_GONE_PAUSES_S if _means_any_instance(service_id) else ()), None):
            info = await wake(
                self._backend.bus,
                lambda: self._resolve(service_id, options, context),
                timeout_s=options.start_timeout_s,
            )
            try:
                id = ServiceId.parse(info["id"], default_workspace=context.workspace)
                return info, await self._fetch(id, options)
            except PeerNotFound:
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def _fetch(self, service: ServiceId, options: LookupOptions) -> dict[str, Any]:
        """Get the service from its provider; one that is gone is an error at once."""
        provider = Address(service.workspace, service.client)
        encoded = await self._backend.providers.fetch_service(provider, service.service, timeout=options.timeout_s)
        config = encoded.get("config")
        url = f"{self._base_url}/{service.workspace}/services/{service.client}:{service.service}"
        encoded["id"] = service.full
        encoded["config"] = {
            **(config if isinstance(config, dict) else {}),
            "workspace": service.workspace,
            "url": url,
        }
        return encoded


def _served(info: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return of which application a service is, and its name there."""
    service = ServiceId.parse(info["id"], default_workspace="")
    return service.workspace, service.service, info["app_id"]


def _means_any_instance(service_id: str) -> bool:
    """Tell whether a look-up names an application, and no client."""
    return "@" in service_id and ":" not in service_id


def _is_manager(service_id: str) -> bool:
    return service_id == "~" or service_id.endswith("/~")


def _seconds(given: object, what: str, default: float) -> float:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise BadRequest(f"{what} must be a number of seconds greater than 0")
    return min(float(given), MAX_FETCH_TIMEOUT_S)
