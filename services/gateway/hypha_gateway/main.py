from __future__ import annotations

import asyncio
import os
import threading

import structlog

from hypha_common.listening import bind, inherited
from hypha_common.settings import Settings

from .app import create_app, running_gateway
from .server import serve

__all__ = ["run", "stop_limit_s"]

log = structlog.get_logger(__name__)

_GRACEFUL_S = 5.0


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run a gateway until ``stop`` is set. Raises OSError where the port is taken, Unavailable without a bus."""
    sockets = inherited(settings.listen_fds) if settings.listen_fds else bind(settings.host, settings.port)
    app = create_app(settings, request_stop=stop.set, websockets=False)
    # Make sure that a stopping process ends, even if a library waits for ever.
    watchdog = threading.Timer(stop_limit_s(settings), os._exit, (1,))
    watchdog.daemon = True
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda task: None if task.cancelled() else watchdog.start())
    try:
        await serve(
            app,
            gateway=lambda: running_gateway(app),
            websocket_path=f"{settings.base_path.rstrip('/')}/ws",
            sockets=sockets,
            stop=stop,
            graceful_s=_GRACEFUL_S,
            max_message_bytes=settings.max_message_bytes,
        )
    finally:
        stopping.cancel()
        watchdog.cancel()


def stop_limit_s(settings: Settings) -> float:
    """Return how many seconds a gateway takes at most to end: what supervises it must wait that long."""
    return 2 * settings.drain_window + 2 * _GRACEFUL_S + 10
