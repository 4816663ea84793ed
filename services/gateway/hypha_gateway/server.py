"""
Serving the gateway: hypercorn for HTTP, our own path for websockets.

What hypercorn 0.18 lacks is closed here and nowhere else. Its websocket layer unmasks in Python, buffers a message
before it checks the limit, always offers compression and notices neither half-open nor stalled peers; so no websocket
reaches it. A connection is looked at first and goes either to :class:`SocketLink`, for the hub's own clients, or to
hypercorn, where :class:`AsgiSocket` takes its place for the websockets of clients' web services.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import structlog
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.protocol import h11

from .addresses import peer_address
from .gateway import Gateway
from .websocket.asgi_socket import MAX_MESSAGE, AsgiSocket
from .websocket.session import UPGRADE_CLIENT, WebsocketSession
from .websocket.socket_link import SocketLink
from .websocket.upgrade import Upgrade, is_upgrade, refused_upgrade

__all__ = ["serve"]

log = structlog.get_logger(__name__)

_BACKLOG = 4096
_KEEP_ALIVE_S = 300
_HEAD_BYTES = 64 * 1024
_HEAD_TIMEOUT_S = 10.0
_FIRST_MESSAGE_BYTES = 64 * 1024  # until a client is authenticated
_HIGH_WATER_BYTES = 1024 * 1024
_USER_TIMEOUT_MS = 30_000
_READY_TIMEOUT_S = 3.0  # then listen all the same, to tell what is missing


async def serve(
    app: Callable[..., Awaitable[Any]],
    *,
    gateway: Callable[[], Gateway],
    websocket_path: str,
    sockets: list[socket.socket],
    stop: asyncio.Event,
    graceful_s: float,
    max_message_bytes: int,
) -> None:
    """Run ``app`` until ``stop`` is set, then drain. ``gateway()`` exists once the app's lifespan has started."""
    loop = asyncio.get_running_loop()
    http = _Http(app, loop, graceful_s, max_message_bytes)
    await http.start()
    await gateway().ready(_READY_TIMEOUT_S)
    path = websocket_path.encode()
    servers = [
        await loop.create_server(lambda: _FirstLook(gateway(), http, path), sock=listener, backlog=_BACKLOG)
        for listener in sockets
    ]
    log.info("listening", addresses=[str(listener.getsockname()) for listener in sockets])
    try:
        await stop.wait()
    finally:
        # Not wait_closed(): since Python 3.12 it waits for every connection, and websockets last.
        for server in servers:
            server.close()
        await gateway().drain()
        await http.stop()


class _Http:
    """Hypercorn's connection handler, on connections that we accepted."""

    def __init__(
        self,
        app: Callable[..., Awaitable[Any]],
        loop: asyncio.AbstractEventLoop,
        graceful_s: float,
        max_message_bytes: int,
    ) -> None:
        self._loop = loop
        self._max_message_bytes = max_message_bytes
        self._graceful_s = graceful_s
        self._app = ASGIWrapper(app)
        self._config = Config()
        self._config.keep_alive_timeout = _KEEP_ALIVE_S
        self._config.graceful_timeout = graceful_s
        self._config.h11_max_incomplete_size = _HEAD_BYTES
        self._config.max_app_queue_size = 4
        self._config.include_server_header = False
        self._config.startup_timeout = 60
        self._context = WorkerContext(None)
        self._state: dict[str, Any] = {}
        self._lifespan = Lifespan(self._app, self._config, loop, self._state)
        self._lifespan_task: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the app. Raises what its lifespan raised."""
        self._lifespan_task = self._loop.create_task(self._lifespan.handle_lifespan())
        await self._lifespan.wait_for_startup()
        if self._lifespan_task.done():
            self._lifespan_task.result()

    async def stop(self) -> None:
        """Let running requests finish, then stop the app."""
        await self._context.terminated.set()
        if self._connections:
            _, late = await asyncio.wait(list(self._connections), timeout=self._graceful_s)
            for task in late:
                task.cancel()
        await self._lifespan.wait_for_shutdown()
        if self._lifespan_task is not None:
            self._lifespan_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._lifespan_task

    def take(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve HTTP on a connection of which ``data`` has been read."""
        reader = asyncio.StreamReader(limit=2**16, loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, self._connected, loop=self._loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._run(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # The way out for answers whose reader does not read.
            state = {**self._state, "hypha.abort": writer.transport.abort, MAX_MESSAGE: self._max_message_bytes}
            await _HttpConnection(self._app, self._loop, self._config, self._context, state, reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()


class _HttpConnection(TCPServer):
    """
    Hypercorn's connection, whose end is its client's.

    Hypercorn would keep one that was idle, its socket and tasks, until the keep-alive timeout is over.

    """

    _gone = False

    async def _read_data(self) -> None:
        await super()._read_data()
        self._gone = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if not (self._gone and isinstance(event, Updated)):  # nothing more will come: there is nothing to wait for
            await super().protocol_send(event)


async def _only_http1(protocol: h11.H11Protocol, request: object) -> None:
    """Hypercorn would switch to HTTP/2 in the clear for whoever asks, past all that a proxy in front allows."""


h11.H11Protocol._check_protocol = _only_http1  # type: ignore[assignment, method-assign]
h11.WSStream = AsgiSocket  # type: ignore[assignment, attr-defined]


class _FirstLook(asyncio.Protocol):
    """Reads the head of a connection's first request, within a deadline, to see whether it asks for a websocket."""

    def __init__(self, gateway: Gateway, http: _Http, path: bytes) -> None:
        self._gateway = gateway
        self._http = http
        self._prefix = b"GET " + path
        self._path = path
        self._data = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._timer = asyncio.get_running_loop().call_later(_HEAD_TIMEOUT_S, transport.abort)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if (end := self._data.find(b"\r\n\r\n")) >= 0:
            head, rest = self._data[: end + 4], self._data[end + 4 :]
            if head.startswith(self._prefix) and is_upgrade(head, self._path):
                self._upgrade(head, rest)
            else:
                self._hand_over_http()
        elif len(self._data) > _HEAD_BYTES or not self._data[:1].isalpha():
            self._hand_over_http()  # hypercorn answers what is too long or no HTTP

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()

    def _hand_over_http(self) -> None:
        self._stop_timer()
        assert self._transport is not None
        self._http.take(self._transport, self._data)

    def _upgrade(self, head: bytes, rest: bytes) -> None:
        self._stop_timer()
        transport, gateway = self._transport, self._gateway
        assert transport is not None
        if not gateway.accepts():
            transport.write(refused_upgrade(503, "Service Unavailable"))
            transport.close()
            return
        upgrade = Upgrade.of(head)
        transport.write(upgrade.response)
        if not upgrade.accepted:
            transport.close()
            return
        link = SocketLink(
            transport,
            events=lambda link: WebsocketSession(link, gateway),
            max_message_bytes=_FIRST_MESSAGE_BYTES,
            high_water_bytes=_HIGH_WATER_BYTES,
        )
        link.remote = peer_address(link.remote, upgrade.forwarded_for)
        # Pausing makes the event loop ask the new protocol how it wants to be given data.
        transport.pause_reading()
        transport.set_protocol(link)
        transport.resume_reading()
        if upgrade.old_client:
            link.close(1008, UPGRADE_CLIENT)
        elif rest:
            link.feed(rest)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
