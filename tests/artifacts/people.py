"""Who takes part in tests of artifacts, each with a workspace and a client of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal, Scope
from tests.manager.rig import Gateway, user

__all__ = ["Person", "anonymous", "enter", "fresh"]


@dataclass
class Person:
    """A connected client and its artifact manager."""

    principal: Principal
    workspace: str
    artifacts: Any
    client: Any


async def enter(gateway: Gateway, principal: Principal, workspace: str) -> Person:
    """Connect somebody to a workspace."""
    client = await gateway.connect(f"c-{new_id(6)}", principal, workspace)
    artifacts = await client.manager.get_service("public/artifact-manager", {"case_conversion": "snake"})
    return Person(client.link.principal, workspace, artifacts, client)


async def fresh(gateway: Gateway, name: str = "u", **grants: Permission) -> Person:
    """Connect a registered user whom nobody knows yet, to the user's own workspace."""
    principal = user(f"{name}-{new_id(6).lower()}", **grants)
    return await enter(gateway, principal, f"ws-user-{principal.id}")


def anonymous() -> Principal:
    name = f"anonymouz-{new_id(6).lower()}"
    return Principal(id=name, is_anonymous=True, scope=Scope({f"ws-user-{name}": Permission.ADMIN}))
