from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha.hub_client import CLIENT_LOG, METHOD_TIMEOUT_S

if TYPE_CHECKING:
    from hypha.workers.command_line import Place

__all__ = ["connect"]


async def connect(place: Place) -> Any:
    """Return a connection. Raises ConnectionAbortedError where the hub refuses it, OSError where it is not there."""
    # Imported late: it configures logging where nobody has, and takes a while.
    from hypha_rpc import connect_to_server

    CLIENT_LOG.disabled = True  # whoever calls tells what fails, once
    try:
        return await connect_to_server({**place.connection(), "method_timeout": METHOD_TIMEOUT_S, "logger": CLIENT_LOG})
    finally:
        CLIENT_LOG.disabled = False
