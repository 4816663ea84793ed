from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import HyphaError
from hypha_common.operating import connections_at, gateways_there
from hypha_common.subjects import gateway_verb

from .registry.gateways import LEASE_S

if TYPE_CHECKING:
    from hypha_common.bus import Bus

    from .registry.clients import ClientRow, Clients

__all__ = ["Presence", "State", "everybody", "find_ghosts", "remove_ghost"]

log = structlog.get_logger(__name__)

_SECOND_LOOK_S = 1.0


class State(StrEnum):
    """How far gateways and the registry agree about a client."""

    REGISTERED = "registered"
    UNREGISTERED = "unregistered"  # connected, its built-in service is not there (yet)
    NO_SOCKET = "no-socket"  # the registry has it, its gateway does not
    SILENT = "gateway-silent"  # the registry has it; its gateway does not answer, and loses its lease if that lasts
    NO_ROW = "no-row"  # a gateway holds it, the registry does not know it


@dataclass(frozen=True, slots=True)
class Presence:
    """One client, as its gateway and the registry see it."""

    workspace: str
    client_id: str
    generation: int
    user: str
    parent: str | None  # who gave the user its token
    gateway: str
    connected_at: float  # Unix time
    transport: str | None  # of a socket only
    remote: str | None
    state: State

    @property
    def key(self) -> tuple[str, str, int, State]:
        return self.workspace, self.client_id, self.generation, self.state


async def everybody(clients: Clients, bus: Bus, *, workspace: str | None = None) -> list[Presence]:
    """Return who is connected where: what all gateways hold, joined with what the registry knows."""
    rows = {(row.workspace, row.client_id, row.generation): row for row in await clients.connected(workspace)}
    # After the rows: a client that leaves in between is a row without a socket for the moment, never the reverse.
    held = await _sockets(bus, workspace)
    found: list[Presence] = []
    for socket in (socket for sockets in held.values() for socket in sockets):
        row = rows.pop((socket["workspace"], socket["client_id"], socket["generation"]), None)
        found.append(_of_socket(socket, row))
    found += [_of_row(row, State.NO_SOCKET if row.gateway in held else State.SILENT) for row in rows.values()]
    return sorted(found, key=lambda presence: presence.key)


async def find_ghosts(clients: Clients, bus: Bus) -> list[Presence]:
    """Return what is longer than a lease known to one side only, seen twice: changes take a moment to arrive."""
    suspects = await _suspects(clients, bus)
    if suspects:
        await asyncio.sleep(_SECOND_LOOK_S)
        still = {presence.key for presence in await _suspects(clients, bus)}
        suspects = [presence for presence in suspects if presence.key in still]
    return suspects


async def remove_ghost(ghost: Presence, clients: Clients, bus: Bus, *, grace_s: float) -> bool:
    """Remove a row, or close a socket, of exactly this generation. False where that was not to be done any more."""
    if ghost.state is State.NO_SOCKET:
        return await clients.remove(ghost.workspace, ghost.client_id, ghost.generation, grace_s=grace_s)
    message = {
        "workspace": ghost.workspace,
        "client_id": ghost.client_id,
        "generation": ghost.generation,
        "code": 1001,
        "reason": "Not known to the registry, please reconnect",
    }
    answer = await bus.request(gateway_verb(ghost.gateway, "kick"), message)
    return bool(answer["kicked"])


async def _suspects(clients: Clients, bus: Bus) -> list[Presence]:
    before = time.time() - LEASE_S
    return [
        presence
        for presence in await everybody(clients, bus)
        if presence.state in (State.NO_SOCKET, State.NO_ROW) and presence.connected_at < before
    ]


async def _sockets(bus: Bus, workspace: str | None) -> dict[str, list[dict[str, Any]]]:
    """Return what each gateway holds; those that do not answer are left out."""
    gateways = [str(gateway["id"]) for gateway in await gateways_there(bus)]
    held = await asyncio.gather(*(_sockets_at(bus, gateway, workspace) for gateway in gateways))
    return {gateway: sockets for gateway, sockets in zip(gateways, held, strict=True) if sockets is not None}


async def _sockets_at(bus: Bus, gateway: str, workspace: str | None) -> list[dict[str, Any]] | None:
    try:
        return await connections_at(bus, gateway, workspace=workspace)
    except HyphaError as error:  # it ended after it answered
        log.warning("gateway_does_not_answer", gateway=gateway, error=str(error))
        return None


def _of_socket(socket: dict[str, Any], row: ClientRow | None) -> Presence:
    state = State.NO_ROW if row is None else State.REGISTERED if row.registered else State.UNREGISTERED
    return Presence(
        workspace=socket["workspace"],
        client_id=socket["client_id"],
        generation=socket["generation"],
        user=socket["user"],
        parent=socket["parent"],
        gateway=socket["gateway"],
        connected_at=socket["connected_at"],
        transport=socket["transport"],
        remote=socket["remote"],
        state=state,
    )


def _of_row(row: ClientRow, state: State) -> Presence:
    return Presence(
        workspace=row.workspace,
        client_id=row.client_id,
        generation=row.generation,
        user=str(row.user["id"]),
        parent=row.user.get("parent"),
        gateway=row.gateway,
        connected_at=row.connected_at,
        transport=None,
        remote=None,
        state=state,
    )
