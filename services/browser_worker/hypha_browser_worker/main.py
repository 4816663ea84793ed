from __future__ import annotations

import asyncio
from typing import Any

import structlog

from hypha.hub_client import disconnect
from hypha.workers.command_line import Place
from hypha_common.errors import ConfigurationError, Unavailable
from hypha_common.process_metrics import LoopWatch
from hypha_common.service_process import until_stopped
from hypha_common.settings import Settings
from hypha_common.telemetry import serve_status

from .chromium import may_sandbox
from .connecting import connect
from .worker import BrowserWorker

__all__ = ["run"]

log = structlog.get_logger(__name__)

_FIRST_RETRY_S = 0.1  # beside it in a cluster, its gateway is up in a moment
_LAST_RETRY_S = 5.0
_TOLD_FROM_S = 1.0
_WATCH_S = 0.5
_UNREGISTER_S = 2.0


class WorkerProcess:
    """A browser worker and its connection, which comes back by itself where a gateway goes away."""

    def __init__(self, place: Place, worker: BrowserWorker) -> None:
        self._place = place
        self._worker = worker
        self._server: Any = None
        self._state = "not connected"

    def missing(self) -> list[str]:
        """Return what is missing, in words; nothing: apps can be started."""
        return [self._state] if self._state else []

    async def work(self) -> None:
        """Serve until cancelled. Raises ConfigurationError, or Unavailable once the hub refuses it for good."""
        self._server = await self._connect()
        await self._worker.open()
        info = await self._worker.register_worker_service(self._server)
        self._state = ""
        log.info("worker_registered", service=info["id"], visibility=self._place.visibility)
        connection = self._server.rpc._connection
        while not connection._closed:
            await asyncio.sleep(_WATCH_S)
        raise Unavailable("The connection of the browser worker has ended: the server refused it")

    async def close(self) -> None:
        """Take no more apps, end those that run, and leave."""
        self._state = "stopping"
        await self._unregister()
        try:
            await self._worker.shutdown()
        finally:
            if self._server is not None:
                await disconnect(self._server)

    async def _unregister(self) -> None:
        """Let nobody choose this worker any more."""
        if self._worker.registered and not self._server.rpc._connection._closed:
            try:
                async with asyncio.timeout(_UNREGISTER_S):
                    await self._server.unregister_service(self._worker.service_id)
            except Exception as error:  # noqa: BLE001  # its gateway may be gone: the worker ends all the same
                log.info("not_unregistered", error=repr(error))

    async def _connect(self) -> Any:
        from websockets.exceptions import WebSocketException

        told, delay_s = "", _FIRST_RETRY_S
        while True:
            try:
                return await connect(self._place)
            except ConnectionAbortedError as error:
                raise ConfigurationError(f"The server refused the browser worker: {error}") from None
            except (OSError, TimeoutError, WebSocketException) as error:
                if delay_s > _TOLD_FROM_S and str(error) != told:  # once, not at every attempt
                    told = str(error)
                    log.warning("gateway_not_reached", server_url=self._place.server_url, error=told)
            await asyncio.sleep(delay_s)
            delay_s = min(1.2 * delay_s, _LAST_RETRY_S)


async def run(settings: Settings, place: Place, executable: str | None, stop: asyncio.Event) -> None:
    """
    Run a browser worker until ``stop`` is set.

    Raises ConfigurationError with a sentence where it cannot work, Unavailable where it cannot any more.

    """
    if not may_sandbox(settings):
        log.warning("browser_without_sandbox", reason="in_docker" if settings.in_docker else "started by root")
    worker = BrowserWorker(
        settings,
        server_url=place.server_url,
        executable=executable,
        visibility=place.visibility,
        service_id=place.service_id,
    )
    process = WorkerProcess(place, worker)
    status = await serve_status(settings, process.missing, role="browser-worker")
    watch = asyncio.create_task(LoopWatch().run())
    try:
        await until_stopped(stop, process.work())
    finally:
        log.info("worker_stopping")
        await process.close()
        watch.cancel()
        if status is not None:
            status.close()
