from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from hypha.workers.command_line import Place

__all__ = ["connect", "disconnect"]

log = structlog.get_logger(__name__)

_METHOD_TIMEOUT_S = 30
_DISCONNECT_S = 3.0


class _NoFaultOfOurs(logging.Filter):
    """The client logs as an error whatever fails on the way to a server that is being restarted."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


_CLIENT_LOG = logging.getLogger("hypha_rpc")
_CLIENT_LOG.addFilter(_NoFaultOfOurs())


async def connect(place: Place) -> Any:
    """Return a connection. Raises ConnectionAbortedError where the hub refuses it, OSError where it is not there."""
    # Imported late: it configures logging where nobody has, and takes a while.
    from hypha_rpc import connect_to_server

    _CLIENT_LOG.disabled = True  # whoever calls tells what fails, once
    try:
        return await connect_to_server(
            {**place.connection(), "method_timeout": _METHOD_TIMEOUT_S, "logger": _CLIENT_LOG}
        )
    finally:
        _CLIENT_LOG.disabled = False


async def disconnect(server: Any) -> None:
    """End a connection, whatever state it is in."""
    _CLIENT_LOG.disabled = True  # it would complain about what is meant to happen
    try:
        async with asyncio.timeout(_DISCONNECT_S):
            await server.disconnect()
    except (TimeoutError, OSError, RuntimeError) as error:
        log.info("not_disconnected", error=repr(error))
