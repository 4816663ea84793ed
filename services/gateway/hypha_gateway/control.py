from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.blocks import is_within
from hypha_common.errors import BadRequest, NotFound
from hypha_common.roll_call import answer_roll_call
from hypha_common.subjects import gateway_verb

from .audience import Audience
from .connection import Connection

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["Control"]

log = structlog.get_logger(__name__)

_MAX_PAGE = 10_000


class Control:
    """The verbs that other services and operators send to this gateway (``hy.g.<gateway>.<verb>``)."""

    def __init__(self, gateway: Gateway, audience: Audience) -> None:
        self._gateway = gateway
        self._audience = audience

    async def start(self) -> None:
        bus = self._gateway.bus
        for verb in ("kick", "subscribe", "unsubscribe", "drain", "connections", "awaits", "hand_over"):
            await bus.serve_subject(gateway_verb(bus.instance, verb), getattr(self, verb))
        await answer_roll_call(bus, "gateway", self._gateway.about)

    async def kick(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        End a connection, or all of a workspace (``client_id`` null), a ``user`` and its tokens, or an ``address``.

        With ``before_generation`` only an older connection is ended, without a close frame: a newer one took its place.
        One that is ``moving`` stays until the newer one has asked for what was kept.
        With ``generation`` only that very connection is.

        """
        before, exactly = message.get("before_generation"), message.get("generation")
        kicked, moving = 0, False
        for connection in self._wanted(message):
            if exactly is not None and connection.generation != exactly:
                continue
            if before is None:
                code, reason = int(message.get("code") or 1000), str(message.get("reason") or "")
                if message.get("tell"):
                    connection.link.send_control({"type": "error", "message": reason})
                connection.end(code, reason)
                kicked += 1
            elif connection.generation < before and connection.moving:
                connection.superseded()
                moving = True
            elif connection.generation < before:
                log.info("client_superseded", client=str(connection.address), generation=connection.generation)
                connection.abort()
                self._gateway.table.remove(connection)  # at once: what comes for it now is for the newer one
                kicked += 1
        return {"kicked": kicked, "moving": moving}

    async def hand_over(self, message: dict[str, Any]) -> dict[str, Any]:
        """Give what was kept for a client to the gateway that it has moved to."""
        return await self._gateway.moves.hand_over(message)

    async def subscribe(self, message: dict[str, Any]) -> dict[str, Any]:
        await self._audience.subscribe(self._exactly(message), _types(message))
        return {}

    async def unsubscribe(self, message: dict[str, Any]) -> dict[str, Any]:
        self._audience.unsubscribe(self._exactly(message), _types(message))
        return {}

    async def drain(self, message: dict[str, Any]) -> dict[str, Any]:
        """Stop this gateway as SIGTERM does."""
        self._gateway.request_stop()
        return {"connections": len(self._gateway.table)}

    async def awaits(self, message: dict[str, Any]) -> dict[str, Any]:
        """Tell whether the answer to a call of this gateway's own, for an HTTP request, is still waited for."""
        return {"awaits": self._gateway.client.peer.awaits(str(message.get("session")))}

    async def connections(self, message: dict[str, Any]) -> dict[str, Any]:
        """
        Return who is connected here: of a ``workspace``, ``user`` or ``address``, at most ``limit`` after a number.

        ``total`` counts all connections, ``matching`` those that were asked for.

        """
        after, limit = int(message.get("after") or 0), min(int(message.get("limit", 1000)), _MAX_PAGE)
        found = self._selected(message)
        found.sort(key=lambda connection: connection.number)
        rows = [
            {
                "number": connection.number,
                "workspace": connection.address.workspace,
                "client_id": connection.address.client,
                "generation": connection.generation,
                "user": connection.principal.id,
                "parent": connection.principal.parent,
                "transport": connection.transport,
                "remote": connection.link.remote,
                "connected_at": connection.connected_at,
                "queued_bytes": connection.link.queued_bytes,
            }
            for connection in [connection for connection in found if connection.number > after][:limit]
        ]
        return {"total": len(self._gateway.table), "matching": len(found), "connections": rows}

    def _wanted(self, message: dict[str, Any]) -> list[Connection]:
        workspace, client_id = message.get("workspace"), message.get("client_id")
        if client_id is None:
            if not any(isinstance(message.get(name), str) for name in ("workspace", "user", "address")):
                raise BadRequest("workspace is missing")
            return self._selected(message)
        if not isinstance(workspace, str):
            raise BadRequest("workspace is missing")
        connection = self._gateway.table.connection(workspace, str(client_id))
        return [] if connection is None else [connection]

    def _selected(self, message: dict[str, Any]) -> list[Connection]:
        """Return the connections of a workspace, of a user and its tokens, from an address; all where none is named."""
        workspace, user, address = message.get("workspace"), message.get("user"), message.get("address")
        found = list(self._gateway.table)
        if workspace is not None:
            found = [connection for connection in found if connection.address.workspace == workspace]
        if user is not None:
            found = [c for c in found if user in (c.principal.id, c.principal.parent)]
        if address is not None:
            found = [connection for connection in found if is_within(connection.link.remote, address)]
        return found

    def _exactly(self, message: dict[str, Any]) -> Connection:
        """Return the connection that a message is about. Raises NotFound where it ended or was replaced."""
        for connection in self._wanted(message):
            if connection.generation == message.get("generation"):
                return connection
        client = f"{message.get('workspace')}/{message.get('client_id')}"
        raise NotFound(f"Connection not found for client {client}", rpc_type="RuntimeError")


def _types(message: dict[str, Any]) -> list[str]:
    types = message.get("types")
    if not isinstance(types, list) or not all(isinstance(item, str) for item in types):
        raise BadRequest("types must be a list of event types")
    return types
