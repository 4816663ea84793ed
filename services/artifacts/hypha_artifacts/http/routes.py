from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest
from hypha_common.plans import HttpCall, Plan, Reply, Stored, dump_plan
from hypha_common.wire import unpack

if TYPE_CHECKING:
    from hypha_common.bus import Bus

__all__ = ["HttpRoutes"]

Handler = Callable[[HttpCall], Awaitable[Plan]]
Receiver = Callable[[list[Any], Stored], Awaitable[Reply]]

_ROLE = "artifacts"


class HttpRoutes:
    """
    What gateways ask for HTTP requests: the verbs ``http`` (an HttpCall, answered with a plan) and ``stored``.

    A receipt is msgpack of a list that begins with the name of who takes it.

    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._receivers: dict[str, Receiver] = {}

    def add(self, handlers: Mapping[str, Handler], receivers: Mapping[str, Receiver] = {}) -> None:
        """Add handlers by name of their route, and receivers by the first word of the receipts they give out."""
        self._handlers.update(handlers)
        self._receivers.update(receivers)

    async def serve(self, bus: Bus) -> None:
        await bus.serve(_ROLE, "http", self._http)
        await bus.serve(_ROLE, "stored", self._stored)

    async def _http(self, message: dict[str, Any]) -> dict[str, Any]:
        call = HttpCall.load(message)
        handler = self._handlers.get(call.route)
        if handler is None:  # a newer gateway
            raise BadRequest(f"Unknown route: {call.route}")
        return dump_plan(await handler(call))

    async def _stored(self, message: dict[str, Any]) -> dict[str, Any]:
        stored = Stored.load(message)
        kind, *rest = unpack(stored.receipt)
        return dump_plan(await self._receivers[kind](rest, stored))
