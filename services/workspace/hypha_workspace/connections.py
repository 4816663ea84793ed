from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import Conflict, HyphaError, NotFound, PermissionDenied
from hypha_common.ids import APP_CLIENT_PREFIX, PUBLIC_WORKSPACE, Address, ServiceId, personal_workspace, role_of
from hypha_common.principal import Permission, Principal, root_principal
from hypha_common.scopes import app_of
from hypha_common.service_tree import find_in_schema

from . import metrics
from .lifetime import supersede
from .manager.service_info import read_registration
from .registry.admission import Admitted, ConnectRequest
from .registry.gateways import role_gateway
from .registry.idle import NotRunning
from .registry.workers import RegisteredWorkers
from .workspaces.record import owner_names

if TYPE_CHECKING:
    from hypha_common.bus import Bus

    from .lifetime import Lifetime
    from .manager.providers import Providers
    from .registry.resolver import Resolver
    from .stores import Stores

__all__ = ["Connections"]

log = structlog.get_logger(__name__)

_ROLE = "workspace"
_ALIVE_TIMEOUT_S = 5.0

Message = dict[str, Any]


class Connections:
    """What gateways and roles ask of the workspace role: the verbs ``hy.r.workspace.<p>.<verb>``."""

    def __init__(
        self,
        stores: Stores,
        resolver: Resolver,
        lifetime: Lifetime,
        providers: Providers,
        bus: Bus,
        *,
        startup_client: str,
    ) -> None:
        self._stores = stores
        self._resolver = resolver
        self._lifetime = lifetime
        self._providers = providers
        self._bus = bus
        self._startup = Address(PUBLIC_WORKSPACE, startup_client)

    async def serve(self) -> None:
        """Answer all verbs."""
        verbs: dict[str, Callable[[Message], Awaitable[Any]]] = {
            "connect": self.connect,
            "lease": self.lease,
            "reannounce": self.reannounce,
            "places": self.places,
            "disconnect": self.disconnect,
            "announce": self.announce,
            "resolve": self.resolve,
            "info": self.info,
            "instances": self.instances,
            "workers": RegisteredWorkers(self._stores.database).answer,
        }
        for verb, handler in verbs.items():
            await self._bus.serve(_ROLE, verb, handler)

    async def connect(self, message: Message) -> Message:
        """
        Admit a connection: ``{workspace, client_id, user, gateway, reconnect, quick}``.

        ``moved_from`` names the gateway that drains and has kept what came for the client meanwhile. Its services stay
        registered until it registers them again.

        With ``quick``, ``{occupied: True}`` says that another client of this id has to be pinged first, which takes up
        to 5 s; without it that is done.

        Raises NotFound, PermissionDenied, QuotaExceeded or Conflict with the texts of contract 01 §1.5.

        """
        started = time.monotonic()
        request = ConnectRequest(
            message["workspace"], message["client_id"], message["gateway"], Principal.load(message["user"])
        )
        try:
            admitted = await self._admit(
                request, reconnect=bool(message.get("reconnect")), ping=not message.get("quick")
            )
        except HyphaError as error:
            metrics.CONNECTS.labels(error.code).inc()
            raise
        if admitted is None:
            return {"occupied": True}
        metrics.CONNECTS.labels("admitted").inc()
        metrics.CONNECT_SECONDS.observe(time.monotonic() - started)
        return {
            "workspace": request.workspace,
            "user": admitted.principal.dump(),
            "permission": admitted.permission.wire,
            "generation": admitted.generation,
            "instance": self._bus.instance,
            "moved_from": admitted.previous_gateway,
        }

    async def disconnect(self, message: Message) -> Message:
        """Clean up after a connection: ``{workspace, client_id, generation, reason}``; a newer one loses nothing."""
        removed = await self._lifetime.disconnect(message["workspace"], message["client_id"], message["generation"])
        if removed:
            metrics.DISCONNECTS.labels("closed").inc()
        return {"removed": removed}

    async def places(self, message: Message) -> Message:
        """Tell which partitions are together in one database: ``{} -> {databases: {name: [partition]}}``."""
        return {"databases": self._stores.database.map.by_database()}

    async def lease(self, message: Message) -> Message:
        """
        Renew a gateway in the database of a partition: ``{partition, gateway, connections, load}``.

        ``known`` is False where its rows may be lost.

        """
        known = await self._stores.gateways.renew(
            message["gateway"],
            connections=int(message.get("connections") or 0),
            load=message.get("load"),
            shards=[self._stores.database.whole(message["partition"])],
        )
        return {"known": known}

    async def reannounce(self, message: Message) -> Message:
        """
        Take back connections of a gateway that are in the database of a partition.

        ``{partition, gateway, clients: [{workspace, client_id, generation, user}]}``

        ``restored`` lists (workspace, client, generation) whose rows are back but whose services are not,
        ``superseded`` those that a newer connection replaced or whose workspace is gone; the others are intact.

        """
        outcome = await self._stores.clients.restore(message["gateway"], message["clients"])
        shard = self._stores.database.whole(message["partition"])
        await self._stores.gateways.announced(message["gateway"], shards=[shard])
        log.warning(
            "gateway_reannounced", gateway=message["gateway"], intact=outcome.intact, restored=len(outcome.restored),
            superseded=len(outcome.superseded),
        )  # fmt: skip
        return {"intact": outcome.intact, "restored": outcome.restored, "superseded": outcome.superseded}

    async def announce(self, message: Message) -> Message:
        """Keep the services of a role registered: ``{role, workspace, client_id, instance, services}``, every 5 s."""
        role, client_id = message["role"], message["client_id"]
        workspace = message.get("workspace") or PUBLIC_WORKSPACE
        if role_of(workspace, client_id) != role:
            raise PermissionDenied(f"Client {workspace}/{client_id} does not stand for role {role}")
        root = root_principal()
        registrations = [
            read_registration(info, workspace=workspace, client_id=client_id, principal=root)
            for info in message["services"]
        ]
        infos = [registration.info for registration in registrations if registration is not None]
        gateway = role_gateway(role)
        await self._stores.gateways.renew(gateway, shards=[self._stores.database.for_workspace(workspace)])
        await self._stores.services.announce(workspace, client_id, gateway, root.dump(), infos)
        return {"services": len(infos)}

    async def resolve(self, message: Message) -> Message:
        """
        Find the service of an HTTP call: ``{service_id, mode, user, workspace, function, lazy}``.

        Returns its ServiceInfo with ``client`` (``WS/CID``) and ``service`` beside the full id; for one ``function``
        only where that is, and ``leaf``: schemas may be long, and calls are many.

        With ``lazy``, ``{idle: {workspace, app_id, service}}`` says that an app has to be started first, which the
        caller may have done. Nothing is started here: that takes longer than a question.

        """
        try:
            info = await self._resolver.resolve(
                message["service_id"],
                principal=Principal.load(message["user"]),
                workspace=message["workspace"],
                gateway=message.get("gateway") or "",
                mode=message.get("mode"),
            )
        except NotRunning as error:
            if not (message.get("lazy") and error.startable):
                raise
            return {"idle": {"workspace": error.workspace, "app_id": error.app, "service": error.service}}
        service = ServiceId.parse(info["id"], default_workspace=message["workspace"])
        found = {"client": f"{service.workspace}/{service.client}", "service": service.service}
        if function := message.get("function"):
            return {**found, "leaf": find_in_schema(info.get("service_schema"), function)}
        return {**info, **found}

    async def instances(self, message: Message) -> Message:
        """
        Tell which clients are connected: ``{workspace, clients: [id]}`` -> ``{client id: [ServiceInfo]}``.

        For the apps service, which holds what it believes against what is.

        """
        workspace = message["workspace"]
        connected = await self._stores.clients.present(workspace, message["clients"])
        return {client: await self._stores.services.of_client(workspace, client) for client in connected}

    async def info(self, message: Message) -> Message:
        """Return the WorkspaceInfo of ``{workspace, user}``; environment variables only to those who may write."""
        workspace, principal = message["workspace"], Principal.load(message["user"])
        granted = principal.permission(workspace)
        if workspace == personal_workspace(principal.id):
            await self._stores.workspaces.ensure(workspace, principal)
            granted = granted or Permission.ADMIN
        record = await self._stores.workspaces.get_full(workspace)
        if granted < Permission.ADMIN and record is not None and set(owner_names(principal)) & set(record.owners):
            granted = Permission.ADMIN
        if granted < Permission.READ:
            raise PermissionDenied(f"{principal.id} has no permission to access {workspace}")
        if record is None:
            raise NotFound(f"Workspace '{workspace}' not found")
        dump = record.dump()
        if granted < Permission.READ_WRITE:
            dump["config"].pop("environs", None)
        return dump

    async def _admit(self, request: ConnectRequest, *, reconnect: bool, ping: bool) -> Admitted | None:
        workspace, client_id = request.workspace, request.client_id
        if workspace == "*" or role_of(workspace, client_id) is not None:
            raise Conflict(f"Client already exists and is active: {workspace}/{client_id}")
        if Address(workspace, client_id) == self._startup and not request.principal.is_root:
            raise PermissionDenied(f"Client id {client_id} is reserved for the startup functions of this server")
        if client_id.startswith(APP_CLIENT_PREFIX) and app_of(request.principal.scope.extra_scopes) is None:
            raise PermissionDenied(f"Client id {client_id} is reserved for apps that this server starts")
        admitted = await self._stores.admission.admit(request, take_over=reconnect)
        if admitted is None:
            if not ping:
                return None
            if await self._is_alive(Address(workspace, client_id)):
                raise Conflict(f"Client already exists and is active: {workspace}/{client_id}")
            admitted = await self._stores.admission.admit(request, take_over=True)
        assert admitted is not None  # with take_over nobody has to be asked
        if admitted.previous_generation is None:
            return admitted
        moved = admitted.previous_gateway is not None and await supersede(
            self._bus, admitted.previous_gateway, workspace, client_id, generation=admitted.generation
        )
        if not moved:
            await self._stores.admission.forget_services(workspace, client_id, admitted.generation)
            return replace(admitted, previous_gateway=None)
        return admitted

    async def _is_alive(self, client: Address) -> bool:
        """Ask the client itself: its registration may be all that is left of it."""
        try:
            return await self._providers.ping(client, timeout=_ALIVE_TIMEOUT_S) == "pong"
        except HyphaError as error:
            log.info("client_does_not_answer", client=str(client), error=str(error))
            return False
