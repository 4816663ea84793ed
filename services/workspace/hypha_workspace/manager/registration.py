from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import BadRequest, DeadlineExceeded, HyphaError, NotFound, PermissionDenied
from hypha_common.ids import APP_CLIENT_PREFIX, Address, ServiceId
from hypha_common.principal import Permission, Principal
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_common.scopes import app_of

from .access import authorize
from .bounds import check_text
from .service_info import Registration, ServiceInfo, check_app, read_registration

if TYPE_CHECKING:
    from hypha_workspace.registry.services import Registered, ServiceRow

    from .backend import Backend

__all__ = ["RegistrationMethods"]

log = structlog.get_logger(__name__)

_READ_APP_TIMEOUT_S = 2.0
_MAX_MUTE = 4096
_SETUP_TIMEOUT_S = 30.0


class RegistrationMethods:
    """Puts services into the registry and takes them out, for the connection that provides them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._services = backend.stores.services
        self._quota = backend.settings.max_services_per_client
        self._setups: set[asyncio.Task[None]] = set()
        self._mute: OrderedDict[tuple[str, int], None] = OrderedDict()  # connections that do not serve their built-in

    @rpc_method
    async def register_service(
        self, service: dict[str, Any], config: dict[str, Any] | None = None, *, context: Caller
    ) -> None:
        """
        Register a service of this client.

        A client that does not say to which application its service belongs is asked (the service object may have an
        `app_id` that clients keep to themselves). An application is an artifact of this workspace, and must exist.
        What an app registers that this server has started always belongs to that app.

        Args:
            service: The service info: `id`, `name`, `type`, `description`, `docs`, `app_id`, `config` and
                `service_schema`. With `config.skip_app_id_validation` the application need not exist.
            config: Accepted for old clients and ignored.

        """
        workspace, client_id = context.workspace, context.sender.client
        authorize(context.principal, Permission.READ_WRITE, workspace)
        registration = read_registration(
            service,
            workspace=workspace,
            client_id=client_id,
            principal=context.principal,
            instance_of=_app_of(client_id, context.principal),
        )
        if registration is None:
            return
        await self._check_application(registration, registration.id.app)
        reading = self._start_reading_app(registration, context.generation)
        try:
            stored = await self._store(registration, context)
            if stored is None:
                return
            app = await reading if reading is not None else None
        finally:
            if reading is not None:
                reading.cancel()
        if app is not None:
            registration = await self._move_to_app(registration, app, stored, context)
        self._announce(registration, stored.replaced)
        if _has_setup(registration) and stored.replaced is None:
            # Whoever exports a service need not wait for what is done with it, and may take long to set up.
            task = asyncio.create_task(self._set_up(registration))
            self._setups.add(task)
            task.add_done_callback(self._setups.discard)

    @rpc_method
    async def unregister_service(self, service_id: str, *, context: Caller) -> None:
        """
        Remove a service from the registry.

        Args:
            service_id: The id; one of your own services is meant where several have the same name.

        """
        workspace = context.workspace
        authorize(context.principal, Permission.READ_WRITE, workspace)
        wanted = ServiceId.parse(check_text(service_id, "Service id", max_bytes=2048), default_workspace=workspace)
        if wanted.workspace != workspace:
            raise PermissionDenied(f"Permission denied for workspace {wanted.workspace}")
        row = await self._find_one(wanted, context)
        own = row.id.client == context.sender.client
        if not own:
            authorize(context.principal, Permission.ADMIN, workspace)
        removed = await self._services.unregister(
            workspace, row.id.client, row.id.service, generation=context.generation if own else None
        )
        if removed is None:
            raise NotFound(f"Service not found: {wanted}")
        if row.id.service == "built-in":
            self._backend.events.client_disconnected(workspace, row.id.client)
        else:
            self._backend.events.emit(workspace, "service_removed", removed)

    async def _store(self, registration: Registration, context: Caller) -> Registered | None:
        """Return None where the client is gone: its late registration must not bring it back."""
        return await self._services.register(registration, generation=context.generation, quota=self._quota)

    def _remember_mute(self, client_id: str, generation: int) -> None:
        """A hand-written client that does not serve its built-in is waited for once, not at every registration."""
        self._mute[client_id, generation] = None
        if len(self._mute) > _MAX_MUTE:
            self._mute.popitem(last=False)

    def _start_reading_app(self, registration: Registration, generation: int) -> asyncio.Task[str | None] | None:
        """Ask the provider for ``app_id`` while the registry stores: current clients do not send it."""
        if registration.is_built_in or registration.id.app != "*" or (registration.id.client, generation) in self._mute:
            return None
        return asyncio.create_task(self._read_app(registration.id, generation))

    async def _read_app(self, service: ServiceId, generation: int) -> str | None:
        provider = Address(service.workspace, service.client)
        try:
            found = await self._backend.providers.fetch_service(provider, service.service, timeout=_READ_APP_TIMEOUT_S)
        except HyphaError as error:
            log.debug("app_id_unread", service=service.full, error=str(error))
            if isinstance(error, DeadlineExceeded):
                self._remember_mute(service.client, generation)
            return None
        app = found.get("app_id")
        return None if app in (None, "", "*") else str(app)

    async def _check_application(self, registration: Registration, app: str) -> None:
        """Raise NotFound where a service names an application that does not exist."""
        client, config = registration.id.client, registration.info["config"]
        # What runs an application registers while its artifact is only staged; `built-in` has what the connection has.
        exempt = registration.is_built_in or client.startswith(APP_CLIENT_PREFIX)
        if app != "*" and not exempt and config.get("skip_app_id_validation") is not True:
            await self._backend.applications.require(registration.id.workspace, app)

    async def _move_to_app(
        self, registration: Registration, app: str, stored: Registered, context: Caller
    ) -> Registration:
        try:
            check_app(app)
            await self._check_application(registration, app)
        except HyphaError:
            await self._services.unregister(
                registration.id.workspace,
                registration.id.client,
                registration.id.service,
                generation=context.generation,
            )
            if stored.replaced is not None:
                self._backend.events.emit(registration.id.workspace, "service_removed", stored.replaced)
            raise
        moved = Registration(replace(registration.id, app=app), {**registration.info, "app_id": app})
        await self._store(moved, context)
        return moved

    def _announce(self, registration: Registration, replaced: ServiceInfo | None) -> None:
        workspace, events = registration.id.workspace, self._backend.events
        if registration.is_built_in:
            event_type = "client_connected" if replaced is None else "client_updated"
            events.emit(workspace, event_type, {"id": f"{workspace}/{registration.id.client}", "workspace": workspace})
            return
        if replaced is not None:
            events.emit(workspace, "service_removed", replaced)
        events.emit(workspace, "service_added", registration.info)

    async def _set_up(self, registration: Registration) -> None:
        """Let an application begin that exported its default service; that this fails is its own affair."""
        provider = Address(registration.id.workspace, registration.id.client)
        try:
            await self._backend.providers.call(provider, "services.default.setup", timeout=_SETUP_TIMEOUT_S)
        except HyphaError as error:
            log.info("service_setup_failed", service=registration.id.full, error=str(error))

    async def _find_one(self, wanted: ServiceId, context: Caller) -> ServiceRow:
        rows = await self._services.find(wanted)
        own = [row for row in rows if row.id.client == context.sender.client]
        candidates = own if wanted.client == "*" and own else rows
        if not candidates:
            raise NotFound(f"Service not found: {wanted}")
        if len(candidates) > 1:
            shown = ", ".join(row.id.full for row in candidates[:3])
            raise BadRequest(f"Multiple services found for {wanted}, e.g. [{shown}]", rpc_type="AssertionError")
        return candidates[0]


def _app_of(client_id: str, principal: Principal) -> str | None:
    """Return the app that a client is an instance of, by its token; None: of none."""
    return app_of(principal.scope.extra_scopes) if client_id.startswith(APP_CLIENT_PREFIX) else None


def _has_setup(registration: Registration) -> bool:
    schema = registration.info["service_schema"]
    return registration.id.service == "default" and isinstance(schema, dict) and "setup" in schema
