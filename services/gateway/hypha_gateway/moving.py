from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import HyphaError, Unavailable
from hypha_common.roll_call import call_roll
from hypha_common.subjects import gateway_verb

if TYPE_CHECKING:
    from .connection import Connection
    from .gateway import Gateway
    from .session import Session

__all__ = ["Moves"]

log = structlog.get_logger(__name__)

_MAX_HELD_BYTES = 16 * 2**20  # for one client that is on its way
_TIMEOUT_S = 2.0
_ROLL_S = 0.3
_QUIET_S = 0.1
_MAX_QUIET_S = 1.0


class Moves:
    """
    Clients on their way from a gateway that drains to another one, without a frame lost.

    The old gateway tells a client to come back, and keeps its place in the registry, its interest on the bus and what
    comes for it. The new one subscribes first and then asks for what was kept (verb ``hand_over``): meanwhile frames
    reach both, and those that both have are delivered once.

    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def possible(self) -> bool:
        """Tell whether there is a gateway to which clients can go: there is none where the whole cluster stops."""
        bus = self._gateway.bus
        try:
            there = await call_roll(bus, timeout_s=_ROLL_S)
        except Unavailable:
            return False
        return any(
            process["role"] == "gateway" and process["id"] != bus.instance and not process["draining"]
            for process in there
        )

    async def send_away(self, session: Session) -> None:
        """
        Let a client come back elsewhere.

        Its answers to what it was sent are heard first. Without new frames it soon has nothing to say: what a client
        sends while its socket is being closed is lost in the client.

        """
        connection = session.hold()
        if connection is not None:
            now = held_since = time.monotonic()
            while now - held_since < _MAX_QUIET_S and now - max(held_since, connection.last_sent) < _QUIET_S:
                await asyncio.sleep(_QUIET_S / 4)
                now = time.monotonic()
        await self.close(session)

    async def close(self, session: Session) -> None:
        session.leave(1001, "Server is shutting down")

    @property
    def under_way(self) -> list[Connection]:
        """The clients that have not come back anywhere yet."""
        return [connection for connection in self._gateway.table if connection.moving]

    def look(self) -> None:
        """Give up those that are sent more than we keep: their callers learn that nobody is there."""
        for connection in self.under_way:
            if connection.held_bytes > _MAX_HELD_BYTES:
                self._gateway.release(connection, "too much was sent to a client that moves")

    def give_up(self) -> None:
        """Nobody comes for these any more."""
        for connection in self.under_way:
            log.info("client_did_not_come_back", client=str(connection.address))
            self._gateway.release(connection, "did not come back elsewhere")

    async def hand_over(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """
        Let go of a client that is at another gateway now: ``{workspace, client_id, generation}``.

        Returns ``age_s``, since when it could be reached; ``alone`` and ``shared``, frames that came for it
        (:meth:`Connection.take_held`); ``calls``, those to clients that it waits for ``[session, workspace, client]``;
        and ``owed``, those to roles.

        """
        gateway = self._gateway
        connection = gateway.table.connection(message["workspace"], message["client_id"])
        if connection is None or not connection.moving or connection.generation >= message["generation"]:
            return {"age_s": 0.0, "alone": [], "shared": [], "calls": [], "owed": []}
        interest, connection.interest = connection.interest, None
        if interest is not None:
            await gateway.bus.withdraw([interest])  # the bus has sent its last frame
        gateway.router.acknowledge(connection)
        calls = [[session, *self._place(callee)] for session, callee, _ in gateway.pending.of_caller(connection.number)]
        owed = gateway.roles.owed_to(connection)
        alone, shared = connection.take_held()
        gateway.moved(connection)
        calls = [call for call in calls if len(call) == 3]
        return {"age_s": connection.age_s, "alone": alone, "shared": shared, "calls": calls, "owed": owed}

    async def fetch(self, connection: Connection, gateway: str) -> None:
        """Take over what ``gateway`` kept for a client that is here now; what cannot be had is lost."""
        address = connection.address
        message = {
            "workspace": address.workspace, "client_id": address.client, "generation": connection.generation,
        }  # fmt: skip
        try:
            answer = await self._gateway.bus.request(gateway_verb(gateway, "hand_over"), message, timeout=_TIMEOUT_S)
        except HyphaError as error:
            log.warning("nothing_handed_over", client=str(address), gateway=gateway, error=str(error))
            return
        self._adopt(connection, answer["calls"])
        self._gateway.roles.adopt(connection, answer["owed"])
        connection.take_over(answer["alone"], answer["shared"], age_s=answer["age_s"])

    def _adopt(self, connection: Connection, calls: list[list[str]]) -> None:
        """Look after the calls to other clients that a client made where it was."""
        for session, workspace, client in calls:
            peer = self._gateway.table.peer(workspace, client)
            callee = peer.number if peer is not None else (workspace, client)
            self._gateway.pending.called(connection, session, callee, f"{workspace}/{client}")

    def _place(self, callee: int | tuple[str, str]) -> tuple[str, ...]:
        if not isinstance(callee, int):
            return callee
        connection = self._gateway.table.by_number(callee)
        return () if connection is None else (connection.address.workspace, connection.address.client)
