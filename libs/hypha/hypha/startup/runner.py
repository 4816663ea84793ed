from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

import structlog

from hypha.hub_client import disconnect
from hypha_common.errors import ConfigurationError, Unavailable
from hypha_common.process_metrics import LoopWatch
from hypha_common.service_process import until_stopped
from hypha_common.settings import OPTIONS, Settings
from hypha_common.telemetry import serve_status

from .connecting import Connecting
from .functions import StartupFunction, load_functions
from .user_code import summary, tell

if TYPE_CHECKING:
    from .custom_auth import AuthFunctions

__all__ = ["Runner", "forget_secrets", "run"]

log = structlog.get_logger(__name__)

_RETRY_S = 0.5
_WATCH_S = 0.5
_SLOW_S = 15.0


class Runner:
    """
    Runs startup functions one after another with a root client in workspace ``public``, then keeps it connected.

    ``hypha-rpc`` connects again by itself, and registers the services anew, where a gateway went away.

    """

    def __init__(self, settings: Settings) -> None:
        self._connecting = Connecting(settings)
        self._client_id = settings.startup_client
        self._state = "starting"

    def missing(self) -> list[str]:
        """Return what is still to be done, in words; nothing: all functions have returned."""
        return [self._state] if self._state else []

    async def run(self, functions: Iterable[StartupFunction]) -> None:
        """Run until cancelled. Raises ConfigurationError where a function fails, Unavailable once refused for good."""
        from .api import StartupServer
        from .custom_auth import AuthFunctions

        client = await self._connect()
        try:
            auth = AuthFunctions(client)
            server = StartupServer.of(client, self._connecting, auth)
            for function in functions:
                self._state = f"startup function {function.entrypoint} runs"
                await _call(function, server)
            await _settle(auth)
            self._state = ""
            log.info("startup_functions_ran", client=f"public/{self._client_id}")
            await self._watch(client)
        finally:
            await disconnect(client)

    async def _connect(self) -> Any:
        from websockets.exceptions import WebSocketException

        told = ""
        while True:
            try:
                return await self._connecting.public()
            except ConnectionAbortedError as error:
                raise ConfigurationError(self._refused(str(error))) from None
            except (OSError, TimeoutError, WebSocketException) as error:
                if summary(error) != told:  # once, not at every attempt
                    told = summary(error)
                    log.warning("gateway_not_reached", error=told)
            await asyncio.sleep(_RETRY_S)

    async def _watch(self, client: Any) -> None:
        """Never return: a connection that has ended for good is an error, which the client keeps to itself."""
        connection = client.rpc._connection
        while not connection._closed:
            await asyncio.sleep(_WATCH_S)
        raise Unavailable(
            "The connection of the startup functions has ended: the server refused it, or a function called "
            "server.disconnect()"
        )

    def _refused(self, reason: str) -> str:
        if "already exists" in reason:
            return (
                f"Server with the same id ({self._client_id}) is already running: its startup functions are connected "
                f"as public/{self._client_id}; stop it, or choose another --server-id"
            )
        return f"The gateway refused the startup functions: {reason}"


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """
    Run the startup functions, then serve until ``stop`` is set.

    Raises ConfigurationError with a sentence where one cannot be loaded or fails.

    """
    forget_secrets(os.environ)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # what functions print is read while they run
    functions = load_functions(settings.startup_functions)
    runner = Runner(settings)
    status = await serve_status(settings, runner.missing, role="startup")
    watch = asyncio.create_task(LoopWatch().run())
    try:
        await until_stopped(stop, runner.run(functions))
    finally:
        watch.cancel()
        if status is not None:
            status.close()


def forget_secrets(environ: MutableMapping[str, str]) -> None:
    """Keep the cluster's secrets from the programs that startup functions launch."""
    for row in OPTIONS.values():
        if row.secret or row.address:
            for name in row.environment:
                environ.pop(name, None)
                environ.pop(f"{name}_FILE", None)


async def _call(function: StartupFunction, server: Any) -> None:
    """Run one function. Raises ConfigurationError with what it raised; its author is shown where."""
    running = asyncio.ensure_future(function.function(server))
    try:
        while not (await asyncio.wait({running}, timeout=_SLOW_S))[0]:
            log.warning("startup_function_runs", function=function.entrypoint)
        running.result()
    except Exception as error:  # noqa: BLE001  # whatever a user's function raises, its author has to see where
        tell(error)
        raise ConfigurationError(f"Startup function {function.entrypoint} failed: {summary(error)}") from None
    finally:
        running.cancel()


async def _settle(auth: AuthFunctions) -> None:
    try:
        await auth.settle()
    except Exception as error:  # noqa: BLE001  # the client hands on whatever the other side raised
        raise Unavailable(f"The auth service did not answer the startup functions: {summary(error)}") from None
