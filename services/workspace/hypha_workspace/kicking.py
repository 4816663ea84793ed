from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, Conflict, DeadlineExceeded, NotFound, Unavailable
from hypha_common.ids import role_of
from hypha_common.subjects import gateway_verb

from .lifetime import kick_of

if TYPE_CHECKING:
    from hypha_common.bus import Bus

    from .lifetime import Lifetime
    from .registry.clients import ClientRow, Clients

__all__ = ["all_closed", "check_close", "kick"]

_TIMEOUT_S = 3.0
_MAX_REASON_BYTES = 123
# What one may send in a close frame (RFC 6455 §7.4).
_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


def check_close(code: int, reason: str) -> None:
    """Raise BadRequest for what cannot be in a close frame."""
    if isinstance(code, bool) or code not in _CODES:
        raise BadRequest(f"Invalid close code: {code}; it must be 1000 to 1003, 1007 to 1014, or 3000 to 4999")
    if len(reason.encode("utf-8", "replace")) > _MAX_REASON_BYTES or not reason.isprintable():
        raise BadRequest(f"The reason must be text of at most {_MAX_REASON_BYTES} bytes")


async def kick(
    clients: Clients, lifetime: Lifetime, bus: Bus, workspace: str, client_id: str, code: int, reason: str
) -> None:
    """Close the connection of a client, wherever it is. Raises BadRequest, NotFound or Conflict."""
    check_close(code, reason)
    if role_of(workspace, client_id) is not None:
        raise Conflict(f"Client {workspace}/{client_id} is no connection: it stands for a service of the cluster")
    client = await clients.get(workspace, client_id)
    if client is None:
        raise NotFound(f"Client not found: {workspace}/{client_id}")
    try:
        await bus.request(
            gateway_verb(client.gateway, "kick"), kick_of(client, code=code, reason=reason), timeout=_TIMEOUT_S
        )
    except (Unavailable, DeadlineExceeded):
        # Its gateway is gone, and took the socket along.
        await lifetime.remove_client(workspace, client_id, client.generation, code=code, reason=reason)


async def all_closed(bus: Bus, clients: Sequence[ClientRow], *, timeout_s: float) -> bool:
    """Wait until no gateway holds any of these connections; False where that took longer than ``timeout_s``."""
    wanted = {(client.workspace, client.client_id, client.generation) for client in clients}

    async def held(gateway: str, workspace: str) -> bool:
        with suppress(Unavailable, DeadlineExceeded):  # one that is gone holds nothing
            message: dict[str, Any] = {"workspace": workspace}
            answer = await bus.request(gateway_verb(gateway, "connections"), message, timeout=_TIMEOUT_S)
            return any(
                (row["workspace"], row["client_id"], row["generation"]) in wanted for row in answer["connections"]
            )
        return False

    places = {(client.gateway, client.workspace) for client in clients}
    try:
        async with asyncio.timeout(timeout_s):
            while any([await held(*place) for place in places]):
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True
