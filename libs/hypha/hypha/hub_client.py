"""How processes of a cluster use the ``hypha-rpc`` client: what it logs, and how its connections end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import structlog

__all__ = ["CLIENT_LOG", "METHOD_TIMEOUT_S", "disconnect"]

log = structlog.get_logger(__name__)

METHOD_TIMEOUT_S = 30
_DISCONNECT_S = 3.0


class _NoFaultOfOurs(logging.Filter):
    """The client logs as an error whatever fails on the way to a server that is being restarted."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


CLIENT_LOG = logging.getLogger("hypha_rpc")
CLIENT_LOG.addFilter(_NoFaultOfOurs())


async def disconnect(client: Any) -> None:
    """End a connection, whatever state it is in."""
    CLIENT_LOG.disabled = True  # it would complain about what is meant to happen
    try:
        async with asyncio.timeout(_DISCONNECT_S):
            await client.disconnect()
    except (TimeoutError, OSError, RuntimeError) as error:
        log.info("not_disconnected", error=repr(error))
