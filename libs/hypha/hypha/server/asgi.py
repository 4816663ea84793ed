from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hypha_common.settings import Settings
from hypha_common.telemetry import configure_logging

from .cli import load_settings
from .cluster import Cluster
from .environment_file import load_environment_file

__all__ = ["EmbeddedApp", "app", "listening_at"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_READY_TIMEOUT_S = 30.0
_READY_POLL_S = 0.02
_DEFAULT_PORT = 8000  # of uvicorn and of hypercorn
_SOURCE = "command line of the ASGI server"


class EmbeddedApp:
    """
    The gateway as an ASGI application, with the rest of a cluster as child processes for as long as it lives.

    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._gateway: Application | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        assert self._gateway is not None, "the ASGI server must run the lifespan of the application"
        await self._gateway(scope, receive, send)

    async def _live(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        first = await receive()
        cluster: Cluster | None = None
        try:
            settings = load_settings().replace(_SOURCE, host=self._host, port=self._port)
            configure_logging(settings, "server")
            cluster = Cluster(settings, gateways=0)
            await cluster.start()
            from hypha_gateway.app import create_app

            self._gateway = create_app(cluster.settings)
        except Exception as error:  # noqa: BLE001 - the ASGI server prints it and exits
            if cluster is not None:
                await cluster.stop()
            await send({"type": "lifespan.startup.failed", "message": f"hypha.server: {error}"})
            return
        try:
            await self._forward(self._gateway, scope, first, receive, send, cluster)
        finally:
            await cluster.stop()

    async def _forward(
        self,
        gateway: Application,
        scope: MutableMapping[str, Any],
        first: Message,
        receive: Receive,
        send: Send,
        cluster: Cluster,
    ) -> None:
        """Run the gateway's own lifespan inside ours: it starts after the cluster, and ends before it."""
        waiting = [first]

        async def next_message() -> Message:
            return waiting.pop() if waiting else await receive()

        async def forward(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await _until_ready(gateway, scope, cluster.settings.base_path.rstrip("/") + "/health/readiness")
            elif message["type"].startswith("lifespan.shutdown"):
                await cluster.stop()
            await send(message)

        await gateway(scope, next_message, forward)


async def _until_ready(gateway: Application, scope: Mapping[str, Any], path: str) -> None:
    """Wait until the gateway finds its services; after a while let requests see for themselves."""
    request = {
        "type": "http",
        "asgi": scope["asgi"],
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": scope.get("state", {}),
    }
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _READY_TIMEOUT_S
    while loop.time() < deadline and await _status(gateway, dict(request)) != 200:
        await asyncio.sleep(_READY_POLL_S)


async def _status(gateway: Application, request: MutableMapping[str, Any]) -> int:
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await gateway(request, receive, send)
    return status


def listening_at(argv: Sequence[str], environ: Mapping[str, str]) -> tuple[str, int]:
    """
    Return where an ASGI server was told to listen.

    Raises ValueError where its command line and ``HYPHA_HOST`` or ``HYPHA_PORT`` differ.

    """
    host: str | None = _argument(argv, "--host")
    port: str | int | None = _argument(argv, "--port")
    bind = _argument(argv, "--bind") or _argument(argv, "-b")
    if bind:
        host, _, port = bind.rpartition(":")
    for name, told in (("HYPHA_HOST", host), ("HYPHA_PORT", port)):
        if told and environ.get(name) and environ[name] != told:
            raise ValueError(f"{name}={environ[name]} contradicts the {_SOURCE}, which says {told}")
    from_environment = Settings.load(environ=environ)
    if not port:
        port = from_environment.port if "port" in from_environment.sources else _DEFAULT_PORT
    return host or from_environment.host, int(port)


def _argument(argv: Sequence[str], flag: str) -> str | None:
    for index, word in enumerate(argv):
        if word == flag and index + 1 < len(argv):
            return argv[index + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


load_environment_file(os.environ, Path.cwd())
# While this is imported, so that a contradiction stops the ASGI server before it starts anything.
app = EmbeddedApp(*listening_at(sys.argv, os.environ))
