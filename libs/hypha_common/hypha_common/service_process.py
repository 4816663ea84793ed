from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from .errors import HyphaError, Unavailable
from .telemetry import serve_status
from .tracing import recording

if TYPE_CHECKING:
    from .bus import Bus
    from .rpc.host import RoleHost
    from .settings import Settings

__all__ = ["Dependencies", "Replica", "keep_running", "serve_replica", "until_available", "until_stopped"]

log = structlog.get_logger(__name__)

_RETRY_S = 0.5
_LOOK_INTERVAL_S = 2.0
_PATIENCE_S = 2.0  # less than an answer may take, for what hangs is not there


class Replica(Protocol):
    """One replica of a role, as its process sees it."""

    bus: Bus

    def readiness(self) -> list[str]: ...
    async def start(self, stack: AsyncExitStack) -> None: ...


class Dependency(Protocol):
    async def ping(self) -> None: ...


class Dependencies:
    """What a replica cannot work without: the bus, and what is asked for a sign of life every 2 s."""

    def __init__(self, bus: Bus, *others: Dependency) -> None:
        self._bus = bus
        self._others = others
        self._missing = ["starting"]
        self.host: RoleHost | None = None  # what it serves has to be found, once it has begun to serve

    def missing(self) -> list[str]:
        """Return what is missing, in words; nothing: ready."""
        unannounced = [] if self.host is None else self.host.missing()
        return [*self._missing, *unannounced, *self._bus.missing]

    async def watch(self) -> None:
        """Keep :meth:`missing` true."""
        while True:
            missing = []
            for dependency in self._others:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        await dependency.ping()
                except HyphaError as error:
                    missing.append(str(error))
                except TimeoutError:
                    missing.append(f"The {type(dependency).__name__.lower()} does not answer")
            self._missing = missing
            await asyncio.sleep(_LOOK_INTERVAL_S)


async def serve_replica(
    settings: Settings, stop: asyncio.Event, make: Callable[[Callable[[str], None]], Replica]
) -> None:
    """
    Run a replica until ``stop`` is set, with its status port. Raises Unavailable where it cannot be trusted any more.

    ``make`` is given what the replica calls, with a reason, when that happens.

    """
    fatal: list[str] = []

    def on_fatal(reason: str) -> None:
        log.error("replica_fatal", reason=reason)
        fatal.append(reason)
        stop.set()

    service = make(on_fatal)
    bus = service.bus
    status = await serve_status(settings, service.readiness, role=bus.role, instance=bus.instance)
    async with recording(settings, bus.role, bus.instance), AsyncExitStack() as stack:
        if status is not None:
            stack.callback(status.close)
        starting = asyncio.create_task(service.start(stack))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
        else:
            starting.result()
            log.info("replica_ready", instance=service.bus.instance)
            await stopping
        stopping.cancel()
        log.info("replica_stopping", instance=service.bus.instance)
    if fatal:
        raise Unavailable(fatal[0])


async def until_available(attempt: Callable[[], Awaitable[None]], *, waits_for: str) -> None:
    """Try until it works; an operator reads once what is being waited for."""
    told = ""
    while True:
        try:
            await attempt()
            return
        except HyphaError as error:
            if str(error) != told:
                told = str(error)
                log.warning("waiting", waits_for=waits_for, error=told)
        await asyncio.sleep(_RETRY_S)


async def until_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do ``work`` until it ends, or until ``stop`` is set. Raises what it does."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})


def keep_running(
    stack: AsyncExitStack, works: Iterable[Coroutine[None, None, None]], on_fatal: Callable[[str], None]
) -> None:
    """Run work that lasts as long as the process; where it ends, the replica is not what it seems, and says so."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("task_ended", exc_info=task.exception())
            on_fatal("a background task failed")

    for work in works:
        task = asyncio.create_task(work)
        task.add_done_callback(ended)
        stack.callback(task.cancel)
