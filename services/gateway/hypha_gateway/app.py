from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

import structlog
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket

from hypha_common.settings import Settings
from hypha_common.tracing import recording

from .addresses import peer_address
from .gateway import Gateway
from .http import Upstream, documents, exception_handlers, middleware, mounts, routes, socket_routes
from .stop_signals import stop_signals
from .websocket.asgi_link import AsgiLink
from .websocket.session import UPGRADE_CLIENT, WebsocketSession
from .websocket.upgrade import has_old_parameters

__all__ = ["create_app", "running_gateway"]

log = structlog.get_logger(__name__)

_FIRST_MESSAGE_BYTES = 64 * 1024


def create_app(
    settings: Settings,
    *,
    on_fatal: Callable[[str], None] | None = None,
    request_stop: Callable[[], None] | None = None,
    websockets: bool = True,
) -> Starlette:
    """
    Return the gateway as an ASGI app; while it runs, ``app.state.gateway`` is its state.

    ``websockets`` False: they are served beside the app, and one that reaches it (an upgrade on a connection that has
    served HTTP before) is asked to come again on a connection of its own.

    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        gateway = Gateway(settings, on_fatal=on_fatal or _die, request_stop=request_stop or _ignore)
        await gateway.start()
        app.state.owner = gateway
        app.state.gateway = gateway.state
        app.state.upstream = Upstream()
        drains: list[asyncio.Task[None]] = []
        # Another ASGI server waits for streams to end before it tells us to.
        stopping = stop_signals(lambda: drains.append(asyncio.create_task(gateway.drain())))
        try:
            async with recording(settings, "gateway", gateway.bus.instance):
                with stopping if websockets else nullcontext():
                    yield
        finally:
            await gateway.drain()
            await app.state.upstream.close()
            await gateway.stop()

    endpoint = _websocket if websockets else _come_again
    http = routes()
    inside = [WebSocketRoute("/ws", endpoint), *socket_routes(), *mounts(settings.static_mounts), *http]
    base_path = settings.base_path.rstrip("/")
    app = Starlette(
        routes=[
            *([Mount(base_path, routes=inside), *documents()] if base_path else inside),
            WebSocketRoute("/{path:path}", _nothing),
        ],
        middleware=middleware(settings),
        exception_handlers=exception_handlers(),
        lifespan=lifespan,
    )
    app.state.http_routes = http  # what /openapi.json tells of
    return app


async def _websocket(websocket: WebSocket) -> None:
    gateway: Gateway = websocket.app.state.owner
    if not gateway.accepts():
        await _come_again(websocket)
        return
    await websocket.accept()
    if has_old_parameters(websocket.url.query):
        await websocket.close(1008, UPGRADE_CLIENT)
        return
    link = AsgiLink(websocket, max_message_bytes=_FIRST_MESSAGE_BYTES)
    forwarded = ",".join(websocket.headers.getlist("x-forwarded-for"))
    link.remote = peer_address(link.remote, forwarded.encode("latin-1"))
    await link.run(WebsocketSession(link, gateway))


async def _come_again(websocket: WebSocket) -> None:
    """Refuse the upgrade with 503, which clients try again; 403 they would take for final."""
    await _refuse(websocket, 503)


async def _nothing(websocket: WebSocket) -> None:
    """Starlette would answer 403, which to clients means that the server is too old for them."""
    await _refuse(websocket, 404)


async def _refuse(websocket: WebSocket, status: int) -> None:
    await websocket.send(
        {"type": "websocket.http.response.start", "status": status, "headers": [(b"connection", b"close")]}
    )
    await websocket.send({"type": "websocket.http.response.body", "body": b""})


def _die(reason: str) -> None:
    """Leave at once: whoever runs this process starts it again with a working connection."""
    log.error("fatal", reason=reason)
    os._exit(70)


def _ignore() -> None:
    log.warning("drain_not_supported", reason="this server is stopped by whoever runs it")


def running_gateway(app: Starlette) -> Gateway:
    """Return the gateway of a started app."""
    gateway: Gateway = app.state.owner
    return gateway
