from __future__ import annotations

import asyncio
import time

import structlog

from .connection import Connection
from .router import Router
from .table import ConnectionTable
from .windows import SendWindows

__all__ = ["Liveness"]

log = structlog.get_logger(__name__)

_TICK_S = 1.0
_SWEEP_S = 5.0
_STALL_S = 10.0


class Liveness:
    """
    Ends connections whose other side is gone, idle or does not read.

    Half-open and frozen peers are found by our own ping with a deadline: TCP alone needs many minutes, or for ever.

    """

    def __init__(self, *, table: ConnectionTable, router: Router, windows: SendWindows, idle_timeout_s: float) -> None:
        self._table = table
        self._router = router
        self._windows = windows
        self._idle_timeout_s = idle_timeout_s

    async def run(self) -> None:
        """Watch for the life of the gateway."""
        swept_at = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            for connection in tuple(self._router.slow):
                self._check_reader(connection, now)
            if now - swept_at >= _SWEEP_S:
                swept_at = now
                self._windows.sweep()
                for connection in self._table:
                    self._check(connection, now)

    def _check_reader(self, connection: Connection, now: float) -> None:
        queued = connection.link.queued_bytes
        if queued < connection.queued_then:
            # It reads, if slowly: the clock starts again.
            connection.queued_then, connection.full_since = queued, now
        elif connection.full_since is not None and now - connection.full_since > _STALL_S:
            connection.cut_off()

    def _check(self, connection: Connection, now: float) -> None:
        link = connection.link
        silent_s = now - link.last_heard
        if connection.blocked or connection.moving:
            return  # we do not read what it sends
        if self._idle_timeout_s and now - connection.last_frame > self._idle_timeout_s and not link.may_idle:
            connection.end(1001, f"Idle timeout ({self._idle_timeout_s:g}s)")
        elif silent_s > link.gone_after_s:
            log.info("client_silent", client=str(connection.address), silent_s=round(silent_s))
            connection.abort()
        elif silent_s > link.probe_after_s:
            link.ping()
