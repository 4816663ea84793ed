from __future__ import annotations

from hypha_common.ids import HTTP_CLIENT_PREFIX
from hypha_common.rpc.caller import Caller

__all__ = ["address_of", "person_of"]

_MAX_ADDRESS = 64


def address_of(context: Caller | None) -> str:
    """
    Return the network address that an HTTP request came from, as its gateway saw it; empty where none is told.

    It stands in what the gateway stamps, not in the event of the request: an event is an argument like any other, which
    a caller of ``index`` can make up.

    """
    if context is None or not context.sender.client.startswith(HTTP_CLIENT_PREFIX):
        return ""
    user = context.header.get("user")
    address = user.get("client_address") if isinstance(user, dict) else None
    return address[:_MAX_ADDRESS] if isinstance(address, str) else ""


def person_of(context: Caller | None) -> str:
    """Return the id of the person who calls with a token of his or her own; empty for programs with a lesser one."""
    if context is None:
        return ""
    user = context.principal
    return "" if user.is_anonymous or user.parent is not None else user.id
