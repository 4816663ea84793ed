"""
The command line of a worker: where it connects, and as what (contract 03 §2.10).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import WorkerError

if TYPE_CHECKING:
    from .base import BaseWorker

__all__ = ["VARIABLES", "Place", "add_place_flags", "run_worker"]

logger = logging.getLogger(__name__)

_HELP = {
    "server_url": "address of the server",
    "workspace": "workspace to work in; the token's own by default",
    "token": "token to connect with; better in HYPHA_TOKEN, or a file (HYPHA_TOKEN_FILE): process lists show flags",
    "service_id": "id of the worker's service",
    "visibility": "protected: apps of this workspace (default); public: of all workspaces",
    "client_id": "client id of the worker",
}
_SWITCHES = {"disable_ssl": "accept whatever certificate the server has", "verbose": "log more"}
VARIABLES = frozenset(f"HYPHA_{name.upper()}" for name in (*_HELP, *_SWITCHES))
_VISIBILITIES = ("protected", "public")
_TRUE = frozenset({"1", "true", "yes", "on"})
_RETRY_S = 2.0
_WATCH_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker works."""

    server_url: str
    workspace: str
    token: str
    service_id: str
    visibility: str
    client_id: str
    disable_ssl: bool
    verbose: bool

    @classmethod
    def of(cls, parsed: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> Place:
        """Complete the flags by ``HYPHA_<NAME>`` in the environment. Raises WorkerError."""
        given = {name: _given(parsed, environ, name) for name in (*_HELP, *_SWITCHES)}
        place = cls(
            server_url=given["server_url"].rstrip("/"),
            workspace=given["workspace"],
            token=given["token"] or _from_file(environ.get("HYPHA_TOKEN_FILE", "")),
            service_id=given["service_id"],
            visibility=given["visibility"] or _VISIBILITIES[0],
            client_id=given["client_id"],
            disable_ssl=given["disable_ssl"].lower() in _TRUE,
            verbose=given["verbose"].lower() in _TRUE,
        )
        if not place.server_url.startswith(("http://", "https://")):
            raise WorkerError("--server-url or HYPHA_SERVER_URL must be the http(s) address of a server")
        if place.visibility not in _VISIBILITIES:
            raise WorkerError(f"--visibility must be one of {', '.join(_VISIBILITIES)}")
        return place

    def connection(self) -> dict[str, Any]:
        """Return what ``connect_to_server`` is to be given."""
        given = {"workspace": self.workspace, "token": self.token, "client_id": self.client_id}
        ssl = {"ssl": False} if self.disable_ssl else {}
        return {"server_url": self.server_url, **{name: value for name, value in given.items() if value}, **ssl}


def _given(parsed: argparse.Namespace, environ: Mapping[str, str], name: str) -> str:
    return str(getattr(parsed, name) or environ.get(f"HYPHA_{name.upper()}") or "").strip()


def _from_file(path: str) -> str:
    try:
        return Path(path).read_text().strip() if path else ""
    except OSError as error:
        raise WorkerError(f"HYPHA_TOKEN_FILE: {path} cannot be read: {error.strerror}") from None


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each part of a Place."""
    group = parser.add_argument_group("connection", "each also HYPHA_<NAME> in the environment")
    for name, text in _HELP.items():
        group.add_argument(f"--{name.replace('_', '-')}", metavar="TEXT", help=text)
    for name, text in _SWITCHES.items():
        group.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def run_worker(worker: BaseWorker, place: Place) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status: 1 where the server refuses it."""
    logging.basicConfig(level=logging.INFO if place.verbose else logging.WARNING, stream=sys.stderr)
    try:
        asyncio.run(_run(worker, place))
    except ConnectionError as error:
        sys.stderr.write(f"The server refused the worker: {error}\n")
        return 1
    return 0


async def _run(worker: BaseWorker, place: Place) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.create_task(_serve(worker, place))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
    finally:
        for task in (serving, stopping):
            task.cancel()
        await asyncio.wait({serving, stopping})
        await worker.shutdown()


async def _serve(worker: BaseWorker, place: Place) -> None:
    """Connect, register, and stay; the client connects anew by itself. Raises ConnectionError once it cannot."""
    server = await _connect(place)
    info = await worker.register_worker_service(server)
    sys.stdout.write(f"Worker registered: {info['id']}\n")
    sys.stdout.flush()
    connection = server.rpc._connection
    try:
        while not connection._closed:
            await asyncio.sleep(_WATCH_S)
    finally:
        await server.disconnect()
    raise ConnectionAbortedError("the connection has ended for good")


async def _connect(place: Place) -> Any:
    """Wait for a server that is not up yet. Raises ConnectionAbortedError where it refuses the worker."""
    from hypha_rpc import connect_to_server
    from websockets.exceptions import WebSocketException

    while True:
        try:
            return await connect_to_server(place.connection())
        except ConnectionAbortedError:
            raise
        except (OSError, TimeoutError, WebSocketException) as error:
            logger.warning("%s is not reached: %s", place.server_url, error)
        await asyncio.sleep(_RETRY_S)
