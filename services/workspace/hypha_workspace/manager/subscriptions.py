from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, NotFound, Unavailable
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_common.subjects import gateway_verb

from .bounds import check_text

if TYPE_CHECKING:
    from .backend import Backend

__all__ = ["SubscriptionMethods", "read_event_types"]

MAX_TYPES_PER_CALL = 100


def read_event_types(given: object, workspace: str) -> list[str]:
    """Return event types that a member of ``workspace`` may subscribe to, or raise BadRequest (contract 01 §3.4)."""
    types = [given] if isinstance(given, str) else given
    if not isinstance(types, list) or len(types) > MAX_TYPES_PER_CALL:
        raise BadRequest(f"event_type must be a string or a list of at most {MAX_TYPES_PER_CALL} strings")
    checked = [check_text(event_type, "Event type") for event_type in types]
    for event_type in checked:
        # Names of another workspace: `X/…`, `ws-…`, `ws-…/…`, `ws-…:…`.
        owner = event_type.partition("/")[0].partition(":")[0]
        foreign = owner != workspace
        if foreign and ("/" in event_type or event_type.startswith("ws-")):
            raise BadRequest(
                f"Subscription to event '{event_type}' is forbidden: it belongs to another workspace than {workspace}"
            )
    return checked


class SubscriptionMethods:
    """Which events a connection receives. The gateway that holds its socket keeps the list."""

    def __init__(self, backend: Backend) -> None:
        self._bus = backend.bus

    @rpc_method
    async def subscribe(self, event_type: str | list[str], *, context: Caller) -> bool:
        """
        Receive events of the workspace on this connection.

        Args:
            event_type: A type of event, or a list of them.

        """
        await self._ask_gateway("subscribe", event_type, context)
        return True

    @rpc_method
    async def unsubscribe(self, event_type: str | list[str], *, context: Caller) -> bool:
        """
        Receive events no more.

        Args:
            event_type: A type of event, or a list of them.

        """
        await self._ask_gateway("unsubscribe", event_type, context)
        return True

    async def _ask_gateway(self, verb: str, event_type: Any, context: Caller) -> None:
        types = read_event_types(event_type, context.workspace)
        missing = NotFound(f"Connection not found for client {context.sender}", rpc_type="RuntimeError")
        # An HTTP request or a service of the cluster has no connection that could receive anything.
        if not context.gateway or not context.generation:
            raise missing
        message = {
            "workspace": context.sender.workspace,
            "client_id": context.sender.client,
            "generation": context.generation,
            "types": types,
        }
        try:
            await self._bus.request(gateway_verb(context.gateway, verb), message)
        except Unavailable:
            raise missing from None
