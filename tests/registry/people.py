"""Principals, requests and registrations for the tests of the registry."""

from __future__ import annotations

from typing import Any

from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal, Scope
from hypha_workspace.manager.service_info import Registration, read_registration
from hypha_workspace.registry.admission import Admitted, ConnectRequest
from hypha_workspace.stores import Stores


def user(name: str = "alice", /, *, email: str | None = None, parent: str | None = None, **grants: str) -> Principal:
    """A user with his personal workspace and ``grants`` (``_`` for ``-``)."""
    workspaces = {personal_workspace(name): Permission.ADMIN}
    workspaces |= {key.replace("_", "-"): Permission.from_wire(level) for key, level in grants.items()}
    return Principal(name, email=email, parent=parent, scope=Scope(workspaces=workspaces))


def request(
    principal: Principal, client_id: str = "c1", *, workspace: str | None = None, gateway: str = "gateway1"
) -> ConnectRequest:
    return ConnectRequest(workspace or personal_workspace(principal.id), client_id, gateway, principal)


async def join(
    stores: Stores,
    principal: Principal,
    client_id: str = "c1",
    *,
    workspace: str | None = None,
    gateway: str = "gateway1",
) -> Admitted:
    asked = request(principal, client_id, workspace=workspace, gateway=gateway)
    admitted = await stores.admission.admit(asked, take_over=True)
    assert admitted is not None
    return admitted


def service(
    workspace: str, client_id: str, name: str, *, kind: str = "generic", app_id: str = "*", **config: Any
) -> Registration:
    registration = read_registration(
        {"id": f"{workspace}/{client_id}:{name}", "type": kind, "app_id": app_id, "config": config},
        workspace=workspace,
        client_id=client_id,
        principal=user(),
    )
    assert registration is not None
    return registration


async def register(stores: Stores, admitted: Admitted, client_id: str, name: str, **options: Any) -> Registration:
    workspace = admitted.principal.scope.current_workspace
    assert workspace is not None
    registration = service(workspace, client_id, name, **options)
    assert await stores.services.register(registration, generation=admitted.generation, quota=10) is not None
    return registration
